"""Spreading a stage's work over several processes or machines, on engines that exist: Dask, Ray.

A worker is given handles, reads what is published of the warehouse, and lands its rows as a file;
the process that runs the loop is the only one that writes them down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flows.experiments.tables import Workers
from planners.errors import ComponentFailure, PosterityError

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

A_WORKER = 2
"""Calls for each worker: a task there costs a third of a second, and none should wait long for the
last.
"""


def spread(
    workers: Workers,
    work: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    on_result: Callable[[Any], None],
) -> None:
    """Call `work` with each of some arguments, on workers; `on_result` gets each result as it is
    there. What a call raises is raised. Arguments and results are to be small.
    """
    import prefect

    runner = _runner(workers)
    flow = prefect.flow(
        name=f"posterity {work.__name__}", task_runner=runner, persist_result=False
    )(_on_workers)
    order = uuid4().hex
    _ORDERS[order] = work, calls, on_result
    try:
        Context().run(flow, order)  # what surrounds it here, workers cannot be sent
    except PosterityError:
        raise
    except Exception as error:  # whatever Dask, Ray and Prefect raise where they lose a worker
        raise ComponentFailure(
            f"{work.__name__} failed on workers of {workers.runner}: {type(error).__name__}: "
            f"{error}; nothing finished is lost: run again"
        ) from error
    finally:
        del _ORDERS[order]


def _on_workers(order: str) -> None:
    """The flow that spreads. Prefect sends it to the workers, so it holds nothing but a number."""
    import prefect
    from prefect.cache_policies import NO_CACHE
    from prefect.futures import as_completed

    work, calls, on_result = _ORDERS[order]
    task = prefect.task(name=work.__name__, cache_policy=NO_CACHE, persist_result=False)(work)
    for future in as_completed([task.submit(*call) for call in calls]):
        on_result(future.result())


_ORDERS: dict[str, tuple[Callable[..., Any], Sequence[tuple[Any, ...]], Callable[[Any], None]]] = {}
"""What is being spread by this process."""


def shares(items: Sequence[Any], workers: Workers) -> list[Sequence[Any]]:
    """Items in as many runs of the same length, nearly, as workers are to be called."""
    count = min(len(items), A_WORKER * workers.count)
    ends = [len(items) * i // count for i in range(count + 1)] if count else []
    return [items[low:high] for low, high in pairwise(ends)]


def _runner(workers: Workers) -> TaskRunner[Any]:
    """Prefect's task runner for workers that are there."""
    if workers.runner == "dask":
        from prefect_dask import DaskTaskRunner

        return DaskTaskRunner(address=workers.address)
    from prefect_ray import RayTaskRunner

    return RayTaskRunner()  # on the cluster that this process is connected to
