"""One firing of a schedule, as a Prefect flow: the next generation of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import prefect
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Cancelled, Completed, Failed

from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.generations.begun import resolved
from flows.generations.lineage import next_generation
from flows.generations.policies import require_first
from flows.iterate import iterate
from flows.loop.plan import require_fit
from flows.progress import Watch, summary
from flows.schedule.artifacts import Told
from flows.schedule.orchestrate import prefect_stages
from flows.schedule.workers import workers_of
from planners.errors import Busy, NotPromoted, PosterityError
from warehouse.store import Warehouse


@prefect.flow(name="posterity", persist_result=False)
def next_of(
    experiment: str,
    warehouse: str,
    changes: tuple[str, ...] = (),
    continue_as: str | None = None,
) -> State[Any]:
    """Make the next generation of an experiment, or finish the one that is half made.

    `experiment` is a preset or a TOML file, `changes` are values of `--set`. If its settings have
    changed since it was begun, nothing is made. With `continue_as`, the experiment of that id goes
    on as it was begun.
    """
    try:
        settings = load_experiment(experiment, list(changes))
        with Warehouse(warehouse) as store:
            settings = resolved(store, settings, continue_as)
            with store.working_on(settings.id):
                return _make_next(store, settings)
    except Busy as error:
        return Cancelled(message=str(error))
    except NotPromoted as error:
        _tell("promotion.stopped", experiment, warehouse, error)
        return Failed(message=str(error))
    except PosterityError as error:
        _tell("firing.failed", experiment, warehouse, error)
        look = f"look at it with `posterity status --warehouse {warehouse}`"
        return Failed(message=f"{error} ({look})")


def _make_next(store: Warehouse, experiment: Experiment) -> State[Any]:
    generation = next_generation(store, experiment)
    if generation is None:
        iterate(store, experiment, Told(Watch(), experiment.name))  # what a kill left undone
        return Completed(
            message=f"all {experiment.generations + 1} generations of {experiment.id} are made; "
            "nothing to do"
        )
    require_first(experiment)
    require_fit(experiment)
    _call_it(f"{experiment.id} generation {generation}")
    watch = Told(Watch(), experiment.name)
    with workers_of(experiment, watch) as with_workers:
        iterate(store, with_workers, watch, prefect_stages(), last=generation)
    told = summary(store, experiment.id)[-1].line(experiment)
    return Completed(message=f"generation {generation}: {told}")


def _call_it(name: str) -> None:
    """Name the flow run after what it makes."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, name=name)


def _tell(event: str, experiment: str, warehouse: str, error: PosterityError) -> None:
    """Emit an event that Prefect's automations can act on."""
    name = Path(experiment).stem
    resource = {
        "prefect.resource.id": f"posterity.experiment.{name}",
        "prefect.resource.name": name,
    }
    emit_event(
        f"posterity.{event}", resource, payload={"warehouse": warehouse, "message": str(error)}
    )
