"""The command on causes: who taught a generation what it does."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.terminal import DEFAULT, Changes, WarehouseFile, app, one_message


@app.command()
def teachers(
    experiment: Annotated[str, typer.Argument(help="A preset or TOML file.")],
    generation: Annotated[int, typer.Argument(help="The generation that does it.", min=1)],
    behaviour: Annotated[
        str,
        typer.Option("--of", help="SQL over a trace: what it does, among its deployed traces."),
    ] = "outcome = 'VALID'",
    top: Annotated[int, typer.Option("--top", help="How many teachers.", min=1)] = 10,
    check: Annotated[
        bool,
        typer.Option("--check", help="Train again without the first tenth, and without any tenth."),
    ] = False,
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Name the training traces that taught a generation a behaviour, by their influence.

    The influence of a lesson is how much a step on it raises the log-probability of the traces that
    show the behaviour. `posterity show` shows a teacher.
    """
    with one_message():
        from flows.experiments.reading import load_experiment
        from flows.loop.teachers import teachers as ask
        from flows.loop.teachers import without_them
        from flows.progress import Watch
        from warehouse.store import Warehouse

        watch, named = Watch(), load_experiment(experiment, changes)
        with Warehouse(warehouse, read_only=True) as store:
            found = ask(store, named, generation, behaviour)
            watch.say(
                f"{len(found.traces)} lessons of generation {generation}, by their influence on "
                f"{found.targets} of its traces; share of all positive influence:"
            )
            for trace, score in list(zip(found.traces, found.scores, strict=True))[:top]:
                watch.say(f"  {trace}  {score:.1%}")
            if check:
                whole, first, lot = without_them(store, named, generation, behaviour, found, watch)
                watch.say(
                    f"trained again: without the most influential tenth, the traces lose "
                    f"{whole - first:.2f} nats each; without a tenth by lot, {whole - lot:.2f}"
                )
