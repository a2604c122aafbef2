"""A schedule that stays: when it fires, who makes what is due, and that nobody else does."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.experiments.experiment import Experiment
from flows.progress import Watch
from flows.schedule.server import LOOK
from planners.errors import Busy, InvalidInput
from planners.records import content_hash
from warehouse.places.connect import place_of
from warehouse.places.file import File

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.schedules import Schedule as PrefectSchedule


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to be made, when, and where it is kept."""

    source: str
    changes: tuple[str, ...]
    experiment: Experiment
    warehouse: str
    cron: str | None = None
    timezone: str = "UTC"
    interval: float | None = None
    continue_as: str | None = None

    @property
    def name(self) -> str:
        """What the deployment is called: the experiment, and which warehouse it is in."""
        return f"{self.experiment.id}-{content_hash(self.warehouse, length=6)}"

    @property
    def when(self) -> PrefectSchedule:
        """When it fires, as Prefect says it."""
        from prefect.schedules import Cron, Interval

        if self.cron is not None:
            return Cron(self.cron, timezone=self.timezone)
        return Interval(timedelta(seconds=self.interval or 0))

    @property
    def parameters(self) -> dict[str, Any]:
        """What each firing is given."""
        return {
            "experiment": self.source,
            "warehouse": self.warehouse,
            "changes": list(self.changes),
            "continue_as": self.continue_as,
        }


def first_firing(cron: str, timezone: str = "UTC", now: datetime | None = None) -> datetime:
    """When a cron expression fires next, in a time zone. Raises InvalidInput where it is none, or
    never does, or there is no such zone.
    """
    from prefect._vendor.croniter.croniter import CroniterError, croniter
    from prefect.client.schemas.schedules import CronSchedule

    try:
        now = (now or datetime.now(UTC)).astimezone(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidInput(
            f"--timezone {timezone!r} is none; name one such as UTC or Europe/Berlin"
        ) from error
    try:
        CronSchedule(cron=cron, timezone=timezone)
        found: datetime = croniter(cron, now, max_years_between_matches=8).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"--cron {cron!r} never fires: {error}; five fields, minute hour day month weekday: "
            "'0 3 * * *' is every night at three"
        ) from error
    return found


@contextmanager
def alone(schedule: Schedule) -> Iterator[None]:
    """Nobody else on this machine serves the experiment while the block runs. Raises Busy."""
    from filelock import FileLock, Timeout

    lock = FileLock(Path(tempfile.gettempdir()) / f"posterity-{schedule.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(
            f"another process serves {schedule.experiment.id} in {schedule.warehouse}; stop it "
            "first, or serve another experiment"
        ) from error
    try:
        yield
    finally:
        lock.release()


def serve(schedule: Schedule, watch: Watch) -> None:
    """Make a generation at each firing until the process is stopped."""
    import httpx
    from prefect.deployments.runner import EntrypointType  # type: ignore[attr-defined]

    from flows.schedule.firing import next_of

    name = schedule.name
    threading.Thread(target=_one_at_a_time, args=(name,), daemon=True).start()
    while True:
        try:
            if isinstance(place_of(schedule.warehouse), File):  # on a lake another may be at work
                forget_unattended(name)
            next_of.serve(
                name,
                schedule=schedule.when,
                parameters=schedule.parameters,
                tags=[schedule.experiment.name],
                description=f"The next generation, in {schedule.warehouse}.",
                limit=1,
                print_starting_message=False,
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
            return
        except (httpx.HTTPError, RuntimeError) as error:
            watch.say(f"the Prefect server does not answer ({error}); waiting for it")
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # Prefect's stops nothing now
            time.sleep(LOOK)


def _one_at_a_time(name: str) -> None:
    """Cancel the firings that come while one is at work. (A limit on the deployment would do the
    same, but a slot of it that is lost with a killed process cancels every firing from then on.)
    """
    import httpx

    while True:
        time.sleep(LOOK)
        with suppress(httpx.HTTPError):
            if _runs(name, "RUNNING"):
                cancel_due(name, "the generation before is still being made")


def forget_unattended(name: str) -> None:
    """At the start of a schedule: what is said to be at work has crashed, since nobody else attends
    to it, and what was due is not made up for.
    """
    from prefect.states import Crashed

    for run in _runs(name, "RUNNING", "PENDING"):
        _set(run, Crashed(message="what made it is gone; the next firing goes on"))
    cancel_due(name, "nobody was there to make it; the next firing goes on")


def cancel_due(name: str, why: str) -> None:
    """Cancel the firings that are due by now."""
    from prefect.states import Cancelled

    now = datetime.now(UTC)
    for run in _runs(name, "SCHEDULED"):
        if run.expected_start_time is not None and run.expected_start_time < now:
            _set(run, Cancelled(message=why))


def _runs(name: str, *types: str) -> list[FlowRun]:
    """The flow runs of a deployment in some states."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter

    of = DeploymentFilter.model_validate({"name": {"any_": [name]}})
    those = FlowRunFilter.model_validate({"state": {"type": {"any_": types}}})
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=of, flow_run_filter=those)


def _set(run: FlowRun, state: State[Any]) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)
