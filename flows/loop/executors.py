"""Spreading a stage's work over several processes or machines, on engines that exist: Dask, Ray.

A worker is given handles, reads what is published of the warehouse, and lands its rows as a file;
the process that runs the loop is the only one that writes them down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import pairwise
from typing import TYPE_CHECKING, Any

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

    order = _Order(work, calls, on_result)

    def on_workers() -> None:
        order.carry_out()

    flow = prefect.flow(
        name=f"posterity {work.__name__}", task_runner=_runner(workers), persist_result=False
    )(on_workers)
    try:
        Context().run(flow)  # what surrounds it here, workers cannot be sent
    except PosterityError:
        raise
    except Exception as error:  # whatever Dask, Ray and Prefect raise where they lose a worker
        raise ComponentFailure(
            f"{work.__name__} failed on workers of {workers.runner}: {type(error).__name__}: "
            f"{error}; nothing finished is lost: run again"
        ) from error


class _Order:
    """Calls of a function on workers, and where their results go.

    Prefect sends the flow to the workers, which need nothing of this: it is pickled as an empty
    order, since what it holds (an open warehouse) cannot be sent.
    """

    def __init__(
        self,
        work: Callable[..., Any] = lambda: None,
        calls: Sequence[tuple[Any, ...]] = (),
        on_result: Callable[[Any], None] = lambda result: None,
    ) -> None:
        self.work, self.calls, self.on_result = work, calls, on_result

    def __reduce__(self) -> tuple[type[_Order], tuple[()]]:
        return _Order, ()

    def carry_out(self) -> None:
        """Submit every call as a Prefect task; hand over each result as it is there."""
        import prefect
        from prefect.cache_policies import NO_CACHE
        from prefect.futures import as_completed

        task = prefect.task(name=self.work.__name__, cache_policy=NO_CACHE, persist_result=False)(
            self.work
        )
        for future in as_completed([task.submit(*call) for call in self.calls]):
            self.on_result(future.result())


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
