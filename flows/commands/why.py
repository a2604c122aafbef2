"""The commands on causes: what the loop rewards, and who taught a generation what it does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.terminal import (
    DEFAULT,
    Changes,
    WarehouseFile,
    app,
    named_or_none,
    one_message,
    readable,
)
from planners.errors import ComponentFailure, InvalidInput, harmless

if TYPE_CHECKING:
    from flows.experiments.experiment import Experiment
    from warehouse.store import Warehouse

KEPT, GROUP, ARMS = "kept", "group", 8
"""Defaults of options that another option gives a meaning."""


@app.command()
def audit(
    experiment: Annotated[
        str | None,
        typer.Argument(help="A preset, TOML file or id; default: all in the warehouse."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting: audit.traits.NAME=SQL. Repeatable."),
    ] = None,
    by_lot: Annotated[
        int | None,
        typer.Option(
            "--by-lot",
            help="Ask what this generation's curation caused: train arms with the kept traces of "
            "each task drawn by lot, and compare.",
            min=1,
        ),
    ] = None,
    arms: Annotated[
        int, typer.Option("--arms", help="Of --by-lot: how many such arms.", min=2, max=100)
    ] = ARMS,
    curator: Annotated[
        str | None,
        typer.Option(
            "--curator",
            help="Say what this curator would have kept, and preferred, in the pool of each "
            "generation. Nothing is trained or written.",
        ),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option(
            "--pool", help="Audit this Parquet file instead, one row per candidate, whoever chose."
        ),
    ] = None,
    kept: Annotated[
        str, typer.Option("--kept", help="Of --pool: the column that says whether a row was kept.")
    ] = KEPT,
    group: Annotated[
        str, typer.Option("--group", help="Of --pool: the column of the prompt, or the task.")
    ] = GROUP,
    traits: Annotated[
        list[str] | None,
        typer.Option("--trait", help="Of --pool: NAME=SQL over a row, or a column; default: all."),
    ] = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Ask what the loop rewards besides validity, how stale its replay is, and what it changed.

    Figures go into the views preferences, between_tasks, implicit_reward and
    selection_differential, and the table audits. Exit 1: a bound of the experiment's `[audit]` is
    broken; bounds and traits are asked where its file is named. With --pool, a data set that was
    never in a warehouse: what did its selection prefer within groups, and which groups weigh more?
    """
    with one_message():
        if pool is None and (traits or kept != KEPT or group != GROUP):
            raise InvalidInput("--kept, --group and --trait need --pool FILE")
        if by_lot is None and arms != ARMS:
            raise InvalidInput("--arms needs --by-lot GENERATION")
        chosen = {"--pool": pool, "--by-lot": by_lot, "--curator": curator}
        if len(given := [name for name, value in chosen.items() if value is not None]) > 1:
            raise InvalidInput(f"{' and '.join(given)} are different questions: ask one at a time")
        if pool is not None and (experiment is not None or changes):
            raise InvalidInput("--pool audits a file: leave out the experiment and --set")
        if pool is not None:
            _ask_of_a_file(pool, kept, group, traits or ())
            return
        named = named_or_none(experiment, changes)
        if by_lot is not None:
            _ask_arms(warehouse, named, by_lot, arms)
            return
        if curator is not None:
            _suppose(warehouse, named, curator)
            return
        broken = _ask_of_all(warehouse, named)
    raise typer.Exit(1 if broken else 0)


def _ask_of_a_file(pool: Path, kept: str, group: str, traits: Sequence[str]) -> None:
    """Say what the selection of a data set prefers."""
    from flows.audit.foreign import audit_pool, traits_named

    for line in audit_pool(pool, kept, group, traits_named(traits)):
        typer.echo(harmless(line))


def _suppose(warehouse: str, chosen: Experiment | str | None, curator: str) -> None:
    """Say what another curator would have kept."""
    from flows.audit.audit import tell
    from flows.audit.known import the_one
    from flows.audit.supposed import supposed
    from flows.progress import Watch
    from warehouse.store import Warehouse

    with Warehouse(readable(warehouse), read_only=True) as store:
        tell(supposed(store, the_one(store, chosen), curator), Watch())


def _ask_of_all(warehouse: str, chosen: Experiment | str | None) -> bool:
    """Audit the chosen experiments, and write what is found; whether a bound is broken."""
    from flows.audit.audit import audit as ask
    from flows.audit.audit import tell
    from flows.audit.known import chosen_from
    from flows.experiments.experiment import Experiment
    from flows.progress import Watch, opened_when_free
    from warehouse.findings import Figure
    from warehouse.places.connect import place_of
    from warehouse.store import Warehouse

    place_of(warehouse).require_own()
    watch = Watch()
    # Users' traits are SQL, so they are computed where nothing can be written.
    with Warehouse(warehouse, read_only=True) as store:
        those, skipped = chosen_from(store, chosen)
        if skipped:
            watch.say(f"{skipped} experiments made by another version of Posterity are skipped")
        found = [ask(store, one, watch) for one in those]
        before = {
            one.id: store.every(Figure, experiment=one.id, question="bounds") for one in those
        }
        gone = store.forgotten()
    for one in found:
        tell(one, watch)
        if isinstance(chosen, Experiment):
            before.pop(one.experiment.id)
        elif before[one.experiment.id]:
            watch.say(
                "bounds are not asked again: they, and traits, are in the experiment's file, so "
                "name that (`posterity audit FILE`)"
            )
    with opened_when_free(warehouse, watch) as store:
        _require_same(store, gone)
        for one in found:
            kept = before.get(one.experiment.id, [])
            store.replace_audit(one.experiment.id, [*one.records, *kept])
    return any(one.broken for one in found)


def _require_same(store: Warehouse, gone: set[str]) -> None:
    """Raise ComponentFailure where traces were forgotten since: figures may name their words."""
    if store.forgotten() != gone:
        raise ComponentFailure(
            "traces were forgotten while the audit was asked, so nothing of it is kept: ask again"
        )


def _ask_arms(warehouse: str, chosen: Experiment | str | None, generation: int, arms: int) -> None:
    """Compare a generation with randomised arms; add the findings to those of the audit."""
    from flows.audit.audit import tell
    from flows.audit.known import the_one
    from flows.loop.randomised import randomised
    from flows.progress import Watch, opened_when_free
    from warehouse.places.connect import place_of
    from warehouse.store import Warehouse

    if chosen is None:
        raise InvalidInput("say whose generation: posterity audit EXPERIMENT --by-lot N")
    place_of(warehouse).require_own()
    watch = Watch()
    with Warehouse(warehouse, read_only=True) as store:
        named = the_one(store, chosen)
        found = randomised(store, named, generation, arms, watch)
        gone = store.forgotten()
    with opened_when_free(warehouse, watch) as store:
        _require_same(store, gone)
        store.replace_figures(named.id, generation, "randomised", found.records)
    tell(found, watch)


@app.command()
def teachers(
    experiment: Annotated[str, typer.Argument(help="A preset, TOML file or id.")],
    generation: Annotated[
        int, typer.Argument(help="The generation that shows the behaviour.", min=1)
    ],
    behaviour: Annotated[
        str,
        typer.Option("--of", help="SQL: which of its deployed traces show the behaviour."),
    ] = "outcome = 'VALID'",
    top: Annotated[int, typer.Option("--top", help="How many teachers.", min=1, max=100_000)] = 10,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Train twice more: without the first tenth of them, and without a random one.",
        ),
    ] = False,
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Name the training traces that taught a generation a behaviour, by their influence.

    The influence of a lesson is how much a step on it raises the log-probability of the traces that
    show the behaviour. `posterity show` shows a teacher.
    """
    with one_message():
        from flows.audit.known import the_one
        from flows.loop.teachers import teachers as ask
        from flows.loop.teachers import without_them
        from flows.progress import Watch
        from warehouse.store import Warehouse

        watch, chosen = Watch(), named_or_none(experiment, changes)
        with Warehouse(warehouse, read_only=True) as store:
            named = the_one(store, chosen)
            found = ask(store, named, generation, behaviour)
            watch.say(
                f"{len(found.traces)} lessons of generation {generation}, by their influence on "
                f"{found.targets} of its traces; share of all positive influence:"
            )
            ranked = zip(found.traces, found.texts, found.scores, strict=True)
            for trace, text, score in islice(ranked, top):
                watch.say(f"  {trace}  {score:5.1%}  {shorten(text, 70, placeholder=' ...')}")
            watch.say(f"look at one: posterity show {found.traces[0]}")
            if check:
                whole, first, lot = without_them(store, named, generation, behaviour, found, watch)
                watch.say(
                    f"trained again: without the most influential tenth, the traces lose "
                    f"{whole - first:.2f} nats each; without a tenth by lot, {whole - lot:.2f}"
                )
