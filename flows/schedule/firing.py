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
from flows.progress import Watch, line_of
from flows.schedule.artifacts import Told, log_to_pages, name_run
from flows.schedule.orchestrate import prefect_stages
from flows.schedule.workers import workers_of
from planners.errors import Busy, NotPromoted, PosterityError, Waiting
from warehouse.store import Warehouse

ADVICE = (
    "the options --set and --continue-as are the parameters changes and continue_as of a run; "
    "`posterity status --warehouse {warehouse}` says how far it is"
)


@prefect.flow(name="posterity", persist_result=False)
def next_of(
    experiment: str,
    warehouse: str,
    changes: tuple[str, ...] = (),
    continue_as: str | None = None,
    serves: str | None = None,
) -> State[Any]:
    """Make the next generation of an experiment, or finish the one that is half made.

    If its settings have changed since it was begun, or since it was served, nothing is made.

    Args:
        experiment: A preset's name, such as quickstart, or the path of a TOML file.
        warehouse: The warehouse's file, or its lake.
        changes: Settings to change, each like training.steps=100.
        continue_as: Go on with the experiment of this id as it was begun, whatever its file says.
        serves: Make generations of the experiment of this id, and of no other that its file says.
    """
    log_to_pages()
    name = Path(experiment).stem
    _call_it(f"{name}: looks what is next")
    try:
        settings = load_experiment(experiment, list(changes))
        with Warehouse(warehouse) as store:
            settings = resolved(store, settings, continue_as, changes, serves)
            with store.working_on(settings.id):
                return _make_next(store, settings)
    except Busy as error:
        _call_it(f"{name}: nothing, since another is at work")
        return Cancelled(message=str(error))
    except Waiting as error:
        _call_it(f"{name}: waits for users")
        return Completed(message=str(error))
    except NotPromoted as error:
        _tell("promotion.stopped", name, warehouse, error)
        return Failed(message=str(error))
    except Exception as error:
        _call_it(f"{name}: failed")
        _tell("firing.failed", name, warehouse, error)
        if not isinstance(error, PosterityError):  # a device without memory: Prefect shows where
            raise
        return Failed(message=f"{error} ({ADVICE.format(warehouse=warehouse)})")


def _make_next(store: Warehouse, experiment: Experiment) -> State[Any]:
    generation = next_generation(store, experiment)
    if generation is None:
        iterate(store, experiment, Told(Watch(), experiment.name))  # what a kill left undone
        _call_it(f"{experiment.id}: nothing left to do")
        return Completed(message=f"{_all_made(experiment)}; nothing to do{_pause()}")
    require_first(experiment)
    require_fit(experiment)
    _call_it(f"{experiment.id} generation {generation}")
    watch = Told(Watch(), experiment.name)
    with workers_of(experiment, watch) as with_workers:
        iterate(store, with_workers, watch, prefect_stages(), last=generation)
    message = f"generation {generation}: {line_of(store, experiment, generation)}"
    if generation == experiment.generations:
        message += f"; {_all_made(experiment)}{_pause()}"
    return Completed(message=message)


def _all_made(experiment: Experiment) -> str:
    return f"all {experiment.generations + 1} generations of {experiment.id} are made"


def _pause() -> str:
    """Pause the schedule that fired this, which has nothing left to make; return what to say."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import deployment

    if not deployment.id:
        return ""
    with get_client(sync_client=True) as client:
        client.pause_deployment(deployment.id)
    return ", so the schedule is paused; to go further, serve it with more generations"


def _call_it(name: str) -> None:
    """Name the flow run after what it makes."""
    from prefect.runtime import flow_run

    if flow_run.id:
        name_run(flow_run.id, name)


def _tell(event: str, name: str, warehouse: str, error: Exception) -> None:
    """Emit an event that Prefect's automations can act on."""
    resource = {
        "prefect.resource.id": f"posterity.experiment.{name}",
        "prefect.resource.name": name,
    }
    emit_event(
        f"posterity.{event}", resource, payload={"warehouse": warehouse, "message": str(error)}
    )
