"""The commands that show a warehouse to others: pages, a tracker, a generation on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import (
    DEFAULT,
    Changes,
    OnlyOne,
    WarehouseFile,
    app,
    named_or_none,
    one_message,
)
from planners.errors import InvalidInput

PORT, TRACES = 8081, 1000
"""Where the pages are shown, and how many traces of an experiment a bundle has, if nobody says."""


@app.command()
def view(
    warehouse: WarehouseFile = DEFAULT,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = PORT,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write the pages into this new folder instead.", metavar="DIR"),
    ] = None,
    experiments: Annotated[
        list[str] | None,
        typer.Option("--experiment", help="Of --bundle: whose pages; default: all. Repeatable."),
    ] = None,
    traces: Annotated[
        int,
        typer.Option(
            min=0, max=100_000_000, help="Of --bundle: how many traces of each experiment."
        ),
    ] = TRACES,
) -> None:
    """Look at a warehouse in the browser: experiments, generations, tasks, every trace, and SQL.

    Only this machine reaches the pages; from another one, `ssh -L 8081:127.0.0.1:8081 HOST` does.
    They read what was published last and never disturb a run; a run at work is on the page Live.
    With --bundle, a static site for a paper's supplement, which needs no server.
    """
    with one_message():
        from flows.pages.source import Source
        from flows.progress import Watch

        watch = Watch()
        if bundle is None and (experiments or traces != TRACES):
            raise InvalidInput(
                "--experiment and --traces go with --bundle DIR; the pages show all of them"
            )
        if bundle is not None and port != PORT:
            raise InvalidInput("--bundle writes files and serves nothing: leave out --port")
        if bundle is not None:
            from flows.pages.bundle import bundled

            count = bundled(Source(warehouse, hold=True), bundle, experiments or [], traces, watch)
            watch.say(f"{bundle}: {count} pages; open index.html")
            return
        from flows.pages.serving import serve_pages

        serve_pages(Source(warehouse), port, watch)


@app.command()
def push(
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    experiment: OnlyOne = None,
    generation: Annotated[
        int | None, typer.Option(min=0, help="Default: the deployed one.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Of the weights, as the hub names it: apache-2.0.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the card and what would go; send nothing.")
    ] = False,
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Upload a generation's weights to a hub of models, with a card made from the warehouse.

    The card says what it descends from and learned, its figures, what the audit found, and limits.
    The repository is private unless --public is given. The token is HF_TOKEN, or that of `hf auth
    login`. Nothing else of the warehouse is sent.
    """
    with one_message():
        from flows.audit.known import the_one
        from flows.generations.checkpoints import checkpoint_of
        from flows.generations.lineage import deployed
        from flows.sharing.card import card
        from flows.sharing.push import parcel
        from warehouse.store import Warehouse

        named = named_or_none(experiment, changes)
        with Warehouse(warehouse, read_only=True) as store:
            chosen = the_one(store, named)
            which = deployed(store, chosen) if generation is None else generation
            text = card(store, chosen, which, license)
            folder = checkpoint_of(store, chosen, which).folder
            # Adapters of a model that was warmed up are of no use on the one before.
            base = "generation 0, which was warmed up" if chosen.warmup else chosen.model.base
            found = parcel(repository, folder, text, base)
        if not dry_run:
            typer.echo(found.send(private=not public))
            return
        typer.echo(text)
        for name, size in found.files():
            typer.echo(f"would go to {repository}: {name}, {size:,} bytes")


@app.command()
def track(
    tracker: Annotated[str, typer.Argument(help="mlflow, wandb, trackio or tensorboard.")],
    experiment: OnlyOne = None,
    generation: Annotated[int | None, typer.Option(min=0, help="Default: all.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Where: the address of an MLflow server; for the others a folder (W&B runs in one "
            "are offline). Default: what the tracker's own environment variables say.",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option("--files", help="Checkpoints and training sets too, completions and all."),
    ] = False,
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Send an experiment's figures to a tracker: the whole as one run, each generation as another.

    Figures are by generation, losses by training step; settings and hashes say what each was made
    from. Sent again, only what is new is added. `tracking = ["mlflow"]` in an experiment does so
    after each of its generations.
    """
    with one_message():
        from flows.audit.known import the_one
        from flows.progress import Watch
        from flows.tracking.sheets import sheets
        from flows.tracking.trackers import send
        from warehouse.store import Warehouse

        named, watch = named_or_none(experiment, changes), Watch()
        with Warehouse(warehouse, read_only=True) as store:
            found = sheets(store, the_one(store, named), generation, files)
            count = send(tracker, found, at, lambda sheet: watch.say(sheet.key), files)
        watch.say(f"{tracker} has {count} runs")
