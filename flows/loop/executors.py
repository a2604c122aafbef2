"""Spreading a stage's work over several processes or machines with Dask or Ray.

A worker is given handles, reads the published snapshot of the warehouse, and lands its rows as a
file. Only the process that runs the loop writes to the warehouse.
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
"""Calls per worker: each costs a third of a second more; fewer would leave workers waiting for the
slowest.
"""


def spread(
    workers: Workers,
    work: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    on_result: Callable[[Any], None],
) -> None:
    """Call `work` on workers with each tuple of `calls`; pass each result to `on_result` at once.

    Raises the PosterityError of a call, and ComponentFailure for anything else that goes wrong
    there. Arguments and results should be small.
    """
    import prefect

    order = _Order(work, calls, on_result)

    def on_workers() -> None:
        order.carry_out()

    flow = prefect.flow(
        name=f"posterity {work.__name__}", task_runner=_runner(workers), persist_result=False
    )(on_workers)
    try:
        Context().run(flow)  # the surrounding context cannot be sent to workers
    except PosterityError:
        raise
    except Exception as error:  # whatever Dask, Ray or Prefect raises for a lost worker
        raise ComponentFailure(
            f"{work.__name__} failed on workers of {workers.runner}: {type(error).__name__}: "
            f"{error}; nothing finished is lost: run again"
        ) from error


class _Order:
    """Calls of a function on workers, and where their results go.

    Prefect sends the flow to the workers, which need none of this. So an order is pickled as an
    empty one: the open warehouse that it holds cannot be sent.
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
        """Submit every call as a Prefect task; pass on each result as soon as it is ready."""
        import prefect
        from prefect.cache_policies import NO_CACHE
        from prefect.futures import as_completed

        task = prefect.task(name=self.work.__name__, cache_policy=NO_CACHE, persist_result=False)(
            self.work
        )
        for future in as_completed([task.submit(*call) for call in self.calls]):
            self.on_result(future.result())


def shares(items: Sequence[Any], workers: Workers) -> list[Sequence[Any]]:
    """Items in consecutive, nearly equal shares, one per call: A_WORKER calls per worker."""
    count = min(len(items), A_WORKER * workers.count)
    ends = [len(items) * i // count for i in range(count + 1)] if count else []
    return [items[low:high] for low, high in pairwise(ends)]


def _runner(workers: Workers) -> TaskRunner[Any]:
    """Prefect's task runner for workers that have been started."""
    if workers.runner == "dask":
        from prefect_dask import DaskTaskRunner

        return DaskTaskRunner(address=workers.address)
    from prefect_ray import RayTaskRunner

    return RayTaskRunner()  # on the cluster that this process is connected to
