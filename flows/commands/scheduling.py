"""The command that schedules generations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.terminal import (
    DEFAULT,
    INTERRUPTED,
    STOPPED,
    Changes,
    ContinueAs,
    Named,
    WarehouseFile,
    app,
    errors,
    one_message,
)
from flows.schedule import PORT
from planners.errors import InvalidInput

if TYPE_CHECKING:
    from flows.experiments.experiment import Experiment


@app.command()
def serve(
    experiment: Named = "quickstart",
    cron: Annotated[
        str | None, typer.Option("--cron", help="When: '0 3 * * *' is every night at three.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="The time zone that --cron is meant in.")] = "UTC",
    interval: Annotated[
        float | None,
        typer.Option("--interval", min=1, max=1e8, help="Or every so many seconds."),
    ] = None,
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
    port: Annotated[
        int, typer.Option(help="Port of the Prefect server that is started if none is configured.")
    ] = PORT,
    continue_as: ContinueAs = None,
) -> None:
    """Schedule an experiment: each firing makes the next generation, never two at once.

    Stays until it is stopped; Prefect's pages show what happens, on this machine only. If a
    firing dies, the next one resumes it; firings that were due while `serve` was not running are
    skipped. A Prefect server that is configured (`PREFECT_API_URL`) is used.
    If `POSTERITY_WEBHOOK` names an address, it is told of firings that fail and of generations
    that are not promoted, as JSON with a `text`, which Slack and others take.
    """
    with one_message():
        from flows.schedule.server import prefect_server, quiet

        quiet()  # before Prefect is imported

        from flows.experiments.reading import load_experiment
        from flows.progress import Watch
        from flows.schedule.automations import ADDRESS, OURS, address_of, automate
        from flows.schedule.serve import Schedule, alone, first_firing, patiently
        from flows.schedule.serve import serve as stay
        from warehouse.places.connect import place_of

        if not 0 <= port < 65536:
            raise InvalidInput(f"--port {port} is no port; ports are numbers from 0 to 65535")
        if (cron is None) == (interval is None):
            raise InvalidInput("say when, with either --cron '0 3 * * *' or --interval 3600")
        watch = Watch()
        told = address_of(os.environ) if ADDRESS in os.environ else None
        when = (
            f"every {interval:g} s"
            if cron is None
            else f"first at {first_firing(cron, timezone):%Y-%m-%d %H:%M %Z}"
        )
        settings = load_experiment(experiment, changes)
        schedule = Schedule(
            str(Path(experiment).resolve()) if experiment.endswith(".toml") else experiment,
            tuple(changes or ()), continue_as or settings.id, str(place_of(warehouse).absolute()),
            cron, timezone, interval, continue_as,
        )  # fmt: skip
        try:
            with alone(schedule):
                _require_able(settings, changes, warehouse, continue_as)
                with prefect_server(watch, port):
                    if told is not None:
                        patiently(lambda: automate(OURS, told), watch)
                        watch.say("failures are posted to the address in POSTERITY_WEBHOOK")
                    watch.say(f"{schedule.experiment} in {warehouse}: {when}; stop with Ctrl-C")
                    stay(schedule, watch)
        # Prefect's threads would not end by themselves.
        except SystemExit:  # its answer to SIGTERM
            os._exit(0)
        except KeyboardInterrupt:
            errors.print(STOPPED)
            os._exit(INTERRUPTED)


def _require_able(
    settings: Experiment, changes: list[str] | None, warehouse: str, continue_as: str | None
) -> None:
    """Raise InvalidInput where every firing of an experiment would fail."""
    from flows.generations.begun import resolved
    from flows.generations.policies import require_first
    from flows.loop.plan import require_fit
    from warehouse.store import Warehouse

    with Warehouse(warehouse) as store:
        settings = resolved(store, settings, continue_as, changes or ())
        require_first(settings)
        require_fit(settings)
