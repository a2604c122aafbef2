"""The loop as a Prefect flow: the same stages, each a Prefect task, on an ephemeral server by
default.

Prefect gets handles and numbers, never traces; its caches and results are off, because the
warehouse is the source of truth. `PREFECT_API_URL` points it to a server that is already there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from flows.experiment import Experiment
from flows.iterate import Stages, iterate
from flows.progress import Watch
from warehouse.store import Warehouse

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_CLI_PROMPT": "false",
}
"""Set before Prefect is imported, where the user has not set them: private, quiet, patient."""


def iterate_with_prefect(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Run `iterate` as one Prefect flow run named after the experiment."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import prefect

    @prefect.flow(
        name="posterity",
        flow_run_name=experiment.id,
        validate_parameters=False,
        persist_result=False,
    )
    def generations(experiment_id: str, file: str) -> None:
        iterate(warehouse, experiment, watch, prefect_stages())

    generations(experiment.id, str(warehouse.place))


def prefect_stages() -> Stages:
    """Each stage as a Prefect task; about five task runs a generation, whatever the number of
    traces.
    """
    return Stages(
        **{
            field.name: _as_task(field.name, getattr(Stages(), field.name))
            for field in fields(Stages)
        }
    )


def _as_task(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the stage's signature that runs it as a Prefect task."""
    import prefect
    from prefect.cache_policies import NO_CACHE

    def run(warehouse: Warehouse, experiment: Experiment, *rest: Any) -> None:
        generation = rest[0] if len(rest) > 1 else 0

        @prefect.task(
            name=name,
            task_run_name=f"{name} generation {generation}",
            cache_policy=NO_CACHE,
            persist_result=False,
            log_prints=False,
        )
        def stage_task(experiment_id: str, generation: int) -> None:
            stage(warehouse, experiment, *rest)

        stage_task(experiment.id, generation)

    return run
