"""Generations on a schedule: each firing makes the next one, and never two at once.

The firing after a killed one goes on where that one stopped. Firings missed while nothing was
served are not made up for, and those that come while one is at work are cancelled. A run that a
person starts in Prefect's pages waits for its turn instead.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError

from flows.progress import Watch
from flows.schedule.artifacts import name_run
from flows.schedule.server import LOOK, require_heard
from planners.errors import Busy, InvalidInput, problem
from planners.records import content_hash
from warehouse.places.connect import place_of
from warehouse.places.file import File

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.schedules import Schedule as PrefectSchedule

GRACE = 20.0
"""Seconds that a schedule may take to stop at Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """An experiment to make (by its id), when, and in which warehouse.

    `source` is the preset or TOML file, `changes` the values of `--set`, `interval` in seconds.
    """

    source: str
    changes: tuple[str, ...]
    experiment: str
    warehouse: str
    cron: str | None = None
    timezone: str = "UTC"
    interval: float | None = None
    continue_as: str | None = None

    @property
    def name(self) -> str:
        """Name of the Prefect deployment: the experiment's id, and a hash of the warehouse."""
        return f"{self.experiment}-{content_hash(self.warehouse, length=6)}"

    @property
    def when(self) -> PrefectSchedule:
        """When it fires, as a Prefect schedule."""
        from prefect.schedules import Cron, Interval

        if self.cron is not None:
            return Cron(self.cron, timezone=self.timezone)
        return Interval(timedelta(seconds=self.interval or 0))

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of `next_of` at each firing."""
        return {
            "experiment": self.source,
            "warehouse": self.warehouse,
            "changes": list(self.changes),
            "continue_as": self.continue_as,
            "serves": self.experiment,
        }


def first_firing(cron: str, timezone: str = "UTC", now: datetime | None = None) -> datetime:
    """When a cron expression fires next, in a time zone.

    Raises InvalidInput where the expression is none or never fires, or there is no such zone.
    """
    from prefect._vendor.croniter.croniter import CroniterError, croniter
    from prefect.client.schemas.schedules import CronSchedule

    try:
        now = (now or datetime.now(UTC)).astimezone(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            f"unknown --timezone {timezone!r}; name one such as UTC or Europe/Berlin"
        ) from error
    try:
        # Raises where Prefect would refuse the expression. 29 February may be eight years off.
        CronSchedule(cron=cron, timezone=timezone)
        found: datetime = croniter(cron, now, max_years_between_matches=8).get_next(datetime)
    except (CroniterError, ValueError, KeyError) as error:
        why = problem(error.errors()[0]) if isinstance(error, ValidationError) else error
        raise InvalidInput(
            f"--cron {cron!r} is no cron expression, or never fires: {why}; five fields, minute "
            "hour day month weekday: '0 3 * * *' is every night at three"
        ) from error
    return found


@contextmanager
def alone(schedule: Schedule) -> Iterator[None]:
    """Lock the experiment for this process alone on this machine. Raises Busy if another has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(Path(tempfile.gettempdir()) / f"posterity-{schedule.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(
            f"another process serves {schedule.experiment} in {schedule.warehouse}; stop it "
            "first, or serve another experiment"
        ) from error
    try:
        yield
    finally:
        lock.release()


def serve(schedule: Schedule, watch: Watch) -> None:
    """Make a generation at each firing until the process is stopped.

    Raises KeyboardInterrupt when Ctrl-C stops it, and SystemExit when SIGTERM does.
    """
    import httpx
    from prefect.deployments.runner import EntrypointType  # type: ignore[attr-defined]

    from flows.schedule.firing import next_of

    name = schedule.name
    signal.signal(signal.SIGINT, _interrupt)
    # Prefect's own handler of SIGTERM leaves a coroutine and a task behind, which is no news.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    threading.Thread(target=_one_at_a_time, args=(name,), daemon=True).start()
    while True:
        try:
            if isinstance(place_of(schedule.warehouse), File):  # on a lake, another machine may
                forget_unattended(name)
            next_of.serve(
                name,
                schedule=schedule.when,
                parameters=schedule.parameters,
                tags=[schedule.experiment.rpartition("-")[0]],
                description=f"The next generation, in {schedule.warehouse}.",
                limit=1,
                paused=False,
                print_starting_message=False,
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
            raise KeyboardInterrupt  # which Prefect has taken as a wish to return
        except (httpx.HTTPError, RuntimeError) as error:
            require_heard(error)
            watch.say(f"the Prefect server does not answer ({error}); waiting for it")
            # Prefect's own handler no longer stops anything.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            time.sleep(LOOK)
        finally:
            # A firing that is stopped would wait minutes for the server, which stops next.
            for firing in multiprocessing.active_children():
                firing.kill()


def patiently(call: Callable[[], object], watch: Watch) -> None:
    """Ask the Prefect server something, as soon as it answers."""
    import httpx

    while True:
        try:
            call()
        except httpx.HTTPError as error:
            require_heard(error)
            watch.say(f"the Prefect server does not answer ({error}); waiting for it")
            time.sleep(LOOK)
        else:
            return


def _interrupt(*_: object) -> None:
    """Stop at Ctrl-C, and after GRACE seconds in any case: Prefect may wait for its server. All
    that was finished is kept, and what we started ends with us.
    """
    last = threading.Timer(GRACE, lambda: os._exit(3))
    last.daemon = True
    last.start()
    raise KeyboardInterrupt


def _one_at_a_time(name: str) -> None:
    """Cancel the firings that come due while one of this process is at work.

    A concurrency limit on the deployment would not do: a killed process keeps its slot, so every
    later firing would be cancelled. Nor would what Prefect calls running, for the same reason. What
    another machine is at work on is protected by its lease on the lake.
    """
    import httpx
    from prefect.exceptions import PrefectException

    while True:
        time.sleep(LOOK)
        with suppress(httpx.HTTPError, PrefectException):  # a run may be deleted in its pages
            if multiprocessing.active_children():
                cancel_due(name, "the generation before is still being made")


def forget_unattended(name: str) -> None:
    """At the start of a schedule, mark runs said to be at work as crashed, and cancel those due.

    Nobody else attends to them, and missed firings are not made up for.
    """
    from prefect.exceptions import PrefectException
    from prefect.states import Crashed

    for run in _runs(name, "RUNNING", "PENDING"):
        with suppress(PrefectException):  # it was deleted just now
            _set(run, Crashed(message="what made it is gone; the next firing goes on"))
    cancel_due(name, "missed while nothing was serving; the next firing goes on")


def cancel_due(name: str, why: str) -> None:
    """Cancel the schedule's firings that are due by now, for the reason `why`."""
    from prefect.states import Cancelled

    now = datetime.now(UTC)
    for run in _runs(name, "SCHEDULED"):
        due = run.expected_start_time is not None and run.expected_start_time < now
        if due and run.auto_scheduled:
            _set(run, Cancelled(message=why))
            name_run(run.id, f"{name}: cancelled, {why.partition(';')[0]}")


def _runs(name: str, *types: str) -> list[FlowRun]:
    """The flow runs of a deployment that are in one of these states."""
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
