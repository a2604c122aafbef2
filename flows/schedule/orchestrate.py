"""The loop as a Prefect flow: the same stages, each a Prefect task.

Prefect gets handles and numbers, never traces. Its caches and stored results are off, because the
warehouse is the source of truth. `PREFECT_API_URL` or a Prefect profile names the server to report
to. Without one, a flow starts its own server, which takes too long to be worth it for a short run.
"""

from __future__ import annotations

from typing import Any

from flows.experiments.experiment import Experiment
from flows.iterate import EVERY_GENERATION, Stage, Stages, iterate
from flows.progress import Watch
from flows.schedule.assets import made_by
from flows.schedule.server import api_url, quiet, require_heard
from flows.schedule.workers import workers_of
from planners.errors import ComponentFailure
from warehouse.store import Warehouse

RETRIES, BACKOFF = 2, 10.0
"""Retries of a stage whose component failed; first delay of the exponential backoff, in seconds."""


def iterate_with_prefect(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Run `iterate` as one Prefect flow run named after the experiment.

    Raises ComponentFailure where the Prefect server does not answer.
    """
    quiet()  # before Prefect is imported
    import httpx
    import prefect

    from flows.schedule.artifacts import Told, log_to_pages

    # The parameters are only for Prefect's pages; `with_workers` is bound below, before the call.
    @prefect.flow(
        name="posterity",
        flow_run_name=experiment.id,
        validate_parameters=False,
        persist_result=False,
    )
    def generations(experiment_id: str, file: str) -> None:
        log_to_pages()
        iterate(warehouse, with_workers, Told(watch, experiment.name), prefect_stages())

    try:
        with workers_of(experiment, watch) as with_workers:
            generations(experiment.id, str(warehouse.place))
    except (httpx.HTTPError, RuntimeError) as error:
        require_heard(error)
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, httpx.HTTPError):
            raise
        raise ComponentFailure(
            f"the Prefect server {api_url() or 'of this run'} does not answer: {error}; nothing "
            "finished is lost: start it again, or go on without it with --plain"
        ) from error


def prefect_stages() -> Stages:
    """Each stage as a Prefect task: about seven task runs per generation, however many traces."""
    plain = Stages()
    first = _as_task(
        "prepare", lambda store, of, generation, watch: plain.prepare(store, of, watch)
    )
    return Stages(
        lambda warehouse, experiment, watch: first(warehouse, experiment, 0, watch),
        **{name: _as_task(name, getattr(plain, name)) for name in EVERY_GENERATION},
    )


def _as_task(name: str, stage: Stage) -> Stage:
    """A function with the stage's signature that runs it as a Prefect task, with retries.

    The task names the asset that the stage makes, if it makes one.
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

        # Prefect sees an id and a number; the warehouse and the watch come from the closure.
        def do(experiment_id: str, generation: int) -> None:
            stage(warehouse, experiment, generation, watch)

        if made is None:
            prefect.task(**options)(do)(experiment.id, generation)
        else:
            materialize(made.key, asset_deps=[*made.of], **options)(do)(experiment.id, generation)

    return run


def _may_help(task: Any, run: Any, state: Any) -> bool:
    """Whether to retry: a component failed, and its failure may pass."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ComponentFailure) and error.may_pass
