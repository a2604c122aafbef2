"""The loop as a Prefect flow: the same stages, each a Prefect task.

Prefect gets handles and numbers, never traces; its caches and results are off, because the
warehouse is the source of truth. `PREFECT_API_URL`, or a Prefect profile, says which server to
tell; without one a flow starts a server of its own, which takes longer than it is worth to a short
run.
"""

from __future__ import annotations

from typing import Any

from flows.experiments.experiment import Experiment
from flows.iterate import EVERY_GENERATION, Stage, Stages, iterate
from flows.progress import Watch
from flows.schedule.assets import made_by
from flows.schedule.server import api_url, quiet
from flows.schedule.workers import workers_of
from planners.errors import ComponentFailure
from warehouse.store import Warehouse

RETRIES, BACKOFF = 2, 10.0
"""Of a stage in which a component failed: how often, and seconds before the first; then twice."""


def iterate_with_prefect(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Run `iterate` as one Prefect flow run named after the experiment.

    Raises ComponentFailure where the server that the user has named does not answer.
    """
    quiet()
    import httpx
    import prefect

    from flows.schedule.artifacts import Told

    @prefect.flow(
        name="posterity",
        flow_run_name=experiment.id,
        validate_parameters=False,
        persist_result=False,
    )
    def generations(experiment_id: str, file: str) -> None:
        iterate(warehouse, with_workers, Told(watch, experiment.name), prefect_stages())

    try:
        with workers_of(experiment, watch) as with_workers:
            generations(experiment.id, str(warehouse.place))
    except httpx.TransportError as error:
        raise ComponentFailure(
            f"the Prefect server {api_url() or 'of this run'} does not answer: {error}; nothing "
            "finished is lost: start it again, or go on without it with --plain"
        ) from error


def prefect_stages() -> Stages:
    """Each stage as a Prefect task: about seven task runs per generation, whatever the number of
    traces.
    """
    plain = Stages()
    first = _as_task(
        "prepare", lambda store, of, generation, watch: plain.prepare(store, of, watch)
    )
    return Stages(
        lambda warehouse, experiment, watch: first(warehouse, experiment, 0, watch),
        **{name: _as_task(name, getattr(plain, name)) for name in EVERY_GENERATION},
    )


def _as_task(name: str, stage: Stage) -> Stage:
    """A function of the stage's signature that runs it as a Prefect task, again where a component
    failed; where it makes an asset, as one that says so.
    """
    import prefect
    from prefect.assets import materialize
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    def run(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
        made = made_by(name, warehouse, experiment, generation)
        options: dict[str, Any] = {
            "name": name,
            "task_run_name": f"{name} generation {generation}",
            "tags": [experiment.name],
            "cache_policy": NO_CACHE,
            "persist_result": False,
            "log_prints": False,
            "retries": RETRIES,
            "retry_delay_seconds": exponential_backoff(BACKOFF),
            "retry_condition_fn": _may_help,
        }

        def do(experiment_id: str, generation: int) -> None:
            stage(warehouse, experiment, generation, watch)

        if made is None:
            prefect.task(**options)(do)(experiment.id, generation)
        else:
            materialize(made.key, asset_deps=[*made.of], **options)(do)(experiment.id, generation)

    return run


def _may_help(task: Any, run: Any, state: Any) -> bool:
    """Whether to try again: a component failed, and not over what it would say again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ComponentFailure) and error.may_pass
