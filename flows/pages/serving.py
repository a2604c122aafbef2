"""A server for an application on one socket, on this machine or another's request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fastapi import FastAPI

from flows.pages.app import make_pages
from flows.pages.source import Source
from flows.pages.warming import warm
from flows.progress import Watch
from planners.errors import InvalidInput

LOOPBACK = "127.0.0.1"


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


def serve(app: FastAPI, source: Source, listening: socket.socket, grace: int) -> None:
    """Serve until it is told to stop; requests under way have `grace` seconds to finish."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            source.stopped.set()  # or pages that watch a run would keep it from stopping
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=grace,
        server_header=False, date_header=False,
    )  # fmt: skip
    Server(config).run(sockets=[listening])


def serve_pages(source: Source, port: int, watch: Watch) -> None:
    """Show the pages to this machine until it is told to stop."""
    with bound(LOOPBACK, port) as listening, warm(source):
        watch.say(f"http://{LOOPBACK}:{listening.getsockname()[1]} shows {source.place}")
        serve(make_pages(source), source, listening, grace=2)
