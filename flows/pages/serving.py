"""A server for an application on one socket, on this machine or another's request."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

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


def serve_pages(source: Source, port: int, watch: Watch) -> None:
    """Show the pages to this machine until it is told to stop."""
    import uvicorn

    with bound(LOOPBACK, port) as listening:
        watch.say(f"http://{LOOPBACK}:{listening.getsockname()[1]} shows {source.place}")
        config = uvicorn.Config(
            make_pages(source), log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        with warm(source):
            uvicorn.Server(config).run(sockets=[listening])
