"""The server of the pages; a thread of it reads ahead what they will ask for."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from flows.pages.app import make_pages
from flows.pages.console import catalogue
from flows.pages.experiments import figures_of, generation_frames, part
from flows.pages.source import Source
from flows.pages.tasks import heat_map, tasks_of
from flows.progress import Watch
from planners.errors import InvalidInput, PosterityError
from warehouse.records import NO_SETTINGS, Experiment

LOOPBACK = "127.0.0.1"
LOOK_EVERY = 2.0
"""Seconds between looks at whether something was written."""
NEWEST = 6
"""Experiments that are read ahead at most: those that were begun last."""

MOST = 4096
"""Connections at a time, at most."""
FILES = 2**16
"""Files that this process asks to be allowed to open."""
SILENT = 30.0
"""Seconds in which a request must begin, or go on, before its connection is closed."""


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there. Raises InvalidInput where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol, or asyncio leaves out TCP_NODELAY, and every answer waits 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(2048)  # from now on clients wait instead of being refused
        except OSError as error:
            raise InvalidInput(
                f"nothing can listen at {host}:{port}: {error.strerror}; choose another --port"
            ) from error
        yield listening


def allow_many_files() -> None:
    """Raise the limit of open files as far as it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room() -> int:
    """How many connections there may be: they leave half of all files to what else is opened. A
    database that cannot open a file may end the whole process.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """A connection that is closed at once where there is no room, and later if it says nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._look = self.loop.call_later(SILENT, self._close_if_silent)
        if len(self.connections) > room():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)

    def _close_if_silent(self) -> None:
        awaited = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        left = self._heard + SILENT - self.loop.time() if awaited else SILENT
        if left <= 0:
            self.transport.abort()
        else:
            self._look = self.loop.call_later(left, self._close_if_silent)


def serve(app: FastAPI, source: Source, listening: socket.socket, grace: int) -> None:
    """Serve until it is told to stop; requests under way have `grace` seconds to finish."""
    import uvicorn

    allow_many_files()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            source.stopped.set()  # or pages that watch a run would keep it from stopping
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=grace,
        server_header=False, date_header=False, http=Connection, backlog=max(16, room() // 4),
    )  # fmt: skip
    Server(config).run(sockets=[listening])


def serve_pages(source: Source, port: int, watch: Watch) -> None:
    """Show the pages to this machine until it is told to stop."""
    # Loaded before there are threads: two that load the same libraries at once can fail.
    import scipy.stats  # noqa: F401

    with bound(LOOPBACK, port) as listening, warm(source):
        watch.say(f"http://{LOOPBACK}:{listening.getsockname()[1]} shows {source.place}")
        serve(make_pages(source), source, listening, grace=2)


@contextmanager
def warm(source: Source) -> Iterator[None]:
    """While the block runs, read ahead whenever the warehouse was written."""
    stopped = threading.Event()

    def work() -> None:
        seen: object = None
        while not stopped.is_set():
            if (version := source.version()) != seen:
                seen = version
                with suppress(PosterityError):  # written just now: the pages will say it
                    read_ahead(source, stopped)
            stopped.wait(LOOK_EVERY)

    thread = threading.Thread(target=work, name="reads ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def read_ahead(source: Source, stopped: threading.Event) -> None:
    """Make what takes longest and is asked for first."""
    figures_of(source)
    catalogue(source)
    with source.reading() as warehouse:
        begun = [one.id for one in warehouse.every(Experiment) if one.config != NO_SETTINGS]
    for id in begun[-NEWEST:]:
        if stopped.is_set():
            return
        tasks_of(source, id)
        heat_map(source, id, "train")
        generation_frames(source, id)
        source.kept(("part", "coverage", id), partial(part, name="coverage", ids=[id]))
