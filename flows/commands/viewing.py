"""The command that shows the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import DEFAULT, WarehouseFile, app, one_message
from planners.errors import InvalidInput


@app.command()
def view(
    warehouse: WarehouseFile = DEFAULT,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8081,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write the pages into this new folder instead.", metavar="DIR"),
    ] = None,
    experiments: Annotated[
        list[str] | None,
        typer.Option("--experiment", help="Of --bundle: whose pages; default: all. Repeatable."),
    ] = None,
    traces: Annotated[
        int, typer.Option(min=0, help="Of --bundle: how many traces of each experiment.")
    ] = 1000,
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
        if bundle is None and experiments:
            raise InvalidInput("--experiment goes with --bundle DIR; the pages show all of them")
        if bundle is not None:
            from flows.pages.bundle import bundled

            count = bundled(Source(warehouse, hold=True), bundle, experiments or [], traces, watch)
            watch.say(f"{bundle}: {count} pages; open index.html")
            return
        from flows.pages.serving import serve_pages

        serve_pages(Source(warehouse), port, watch)
