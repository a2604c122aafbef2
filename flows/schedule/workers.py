"""Clusters of workers: those at a given address, or processes started on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from flows.experiments.experiment import Experiment
from flows.experiments.tables import Workers
from flows.progress import Watch
from flows.schedule.server import prefect_server
from planners.errors import InvalidInput

Submit = Callable[..., "Future[Any]"]
"""Lets a function be called elsewhere with the arguments that follow it."""


@contextmanager
def workers_of(experiment: Experiment, watch: Watch) -> Iterator[Experiment]:
    """The experiment with the address of its workers: those of a cluster at a given address, or
    processes of this machine that live while the block runs. All report to one Prefect server.

    Raises InvalidInput where their engine is not installed.
    """
    workers = experiment.workers
    if workers is None:
        yield experiment
        return
    require_installed(workers.runner)
    with prefect_server(watch, port=0), ENGINES[workers.runner](workers) as address:
        there = workers.model_copy(update={"address": address})
        yield experiment.model_copy(update={"workers": there})


@contextmanager
def _dask(workers: Workers) -> Iterator[str]:
    """The address of a Dask cluster, started here if none is given."""
    from distributed import LocalCluster

    if workers.address:
        yield workers.address
        return
    with LocalCluster(
        n_workers=workers.count,
        threads_per_worker=1,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster.scheduler_address


@contextmanager
def _ray(workers: Workers) -> Iterator[str]:
    """The address of a Ray cluster, started if none is given, that this process is connected to."""
    if not workers.address:
        # Or it would find this machine's address by way of a public server, and listen there.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    # Ray refuses these settings for a cluster that is there already.
    here: Any = {"num_cpus": workers.count, "include_dashboard": False}
    ray.init(
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        **({"address": workers.address} if workers.address else here),
    )
    try:
        yield workers.address or "auto"
    finally:
        ray.shutdown()


ENGINES = {"dask": _dask, "ray": _ray}


@contextmanager
def calling(workers: Workers) -> Iterator[Submit]:
    """Call functions on workers while the block runs, each in one that is free."""
    with ENGINES[workers.runner](workers) as address:
        if workers.runner == "dask":
            from distributed import Client

            with Client(address, set_as_default=False) as client:
                yield client.get_executor().submit
        else:
            import ray

            yield lambda work, *given: ray.remote(work).remote(*given).future()


def require_installed(runner: str) -> None:
    """Raise InvalidInput where an engine, an optional dependency, is missing."""
    if find_spec(f"prefect_{runner}") is None:
        raise InvalidInput(
            f"workers of {runner} need prefect-{runner}; run `pip install 'posterity[{runner}]'`"
        )
