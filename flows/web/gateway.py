"""Puts a generation before users: the API, and beside it the process that loads what they asked."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flows.deployment.loading import requests_folder
from flows.deployment.log import Log
from flows.experiments.experiment import Experiment
from flows.pages.app import LOOPBACK
from flows.pages.serving import bound, serve
from flows.pages.source import Source
from flows.progress import Watch
from flows.web.app import GRACE, make_app
from flows.web.deployed import Deployed
from flows.web.desk import Desk
from flows.web.keys import KEYS, SECRET, Clients, other_secrets
from planners.errors import Busy, InvalidInput
from planners.processes import Kept, stop
from warehouse.findings import ApiKey
from warehouse.places.connect import Place, for_a_moment, place_of
from warehouse.store import Warehouse

LOAD_EVERY = 5.0
"""Seconds between looks of the loader."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def clients_of(place: Place, host: str) -> Clients:
    """Whose requests come in. Raises InvalidInput where others than this machine could call without
    a key.
    """
    published = place if place.published.is_new else place.published
    with Warehouse(published, read_only=True) as store:
        clients = Clients(store.every(ApiKey))
    if not is_loopback(host) and not clients.asks:
        raise InvalidInput(
            f"--host {host} can be reached from other machines: make a key for each client "
            f"(`posterity keys NAME`), or set {KEYS} to some, separated by commas; and put a proxy "
            "with TLS before it"
        )
    return clients


def put_before_users(
    warehouse: str, experiment: Experiment, host: str, port: int, names: list[str],
    waiting: int, log_requests: bool, watch: Watch,
) -> None:  # fmt: skip
    """Answer until it is told to stop, then finish what is under way.

    `names`: further names that clients call it by. `log_requests`: each as JSON on standard error.
    Raises InvalidInput where the host is not guarded, the port is taken, or the experiment has no
    generation yet.
    """
    place = place_of(warehouse)
    if place.published.is_new and not place.is_new:
        with suppress(Busy), for_a_moment(place), Warehouse(place) as store:
            store.publish()
    clients = clients_of(place, host)
    source, anybody = Source(warehouse), [] if names or is_loopback(host) else ["*"]
    with bound(host, port) as listening:  # a port that is taken is told before anything is loaded
        deployed, log = Deployed(warehouse, experiment, clients), Log(requests_folder(place))
        own = [host] if is_loopback(host) else []
        desk, hosts = Desk(deployed, log, waiting), [*LOOPBACK, *own, *names, *anybody]
        app = make_app(desk, hosts, source=source, log_requests=log_requests)
        with _loader(warehouse):  # until the log is closed
            name = f"[{host}]" if ":" in host else host
            _tell(watch, deployed, place, f"http://{name}:{listening.getsockname()[1]}", host)
            # What is loaded by now stays: collecting garbage need not look at it each time, which
            # takes a tenth of a second, and holds up all requests.
            gc.collect()
            gc.freeze()
            # Threads hand over after half a millisecond instead of five: requests wait for each.
            sys.setswitchinterval(5e-4)
            # Uvicorn gives the signal back once it stopped; its default would kill what follows.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            try:
                serve(app, source, listening, GRACE)
            finally:
                try:
                    deployed.close()
                finally:
                    log.close()


def _tell(watch: Watch, deployed: Deployed, place: Place, url: str, host: str) -> None:
    """Say who answers, and where."""
    watch.say(f"generation {deployed.current} of {deployed.id} answers at {url}/v1")
    watch.say(f"pages to look at it and to try it: {url}/try")
    if not is_loopback(host):
        watch.say("without TLS: put a proxy with TLS before it")
    if not os.environ.get(SECRET):
        watch.say(
            f"{SECRET} is not set: users are told apart by a hash, but not known again after a "
            "restart, when `posterity forget --user` does not find what they asked before"
        )
    if other_secrets(place, remember=True):
        watch.say(
            f"gateways had another {SECRET} before, or none: users who asked then are not known "
            "again, and `posterity forget --user` finds what they asked with that key alone"
        )
    if deployed.experiment.deployment is None:
        watch.say(
            f"{deployed.id} has no [deployment]: no generation will learn from these answers; only "
            "an experiment that has it when it is begun learns from its users"
        )


@contextmanager
def _loader(warehouse: str) -> Iterator[None]:
    """Load what users were answered from another process, which ends with this one, and is started
    again if it ends before.
    """
    command = [sys.executable, "-m", "flows.deployment.loading", warehouse, str(LOAD_EVERY)]

    def ended(process: subprocess.Popen[bytes]) -> None:
        told = f"the process that loads answers ended (status {process.returncode})"
        sys.stderr.write(f"{told}; another one is started\n")

    loader = Kept(
        lambda: subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True), ended
    )
    try:
        with loader.alive():
            yield
    finally:
        assert loader.process.stdin is not None
        loader.process.stdin.close()
        try:
            loader.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            stop(loader.process)
