"""The connections of a server: how many there may be, and how long they may keep silent."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress

from uvicorn.protocols.http.auto import AutoHTTPProtocol

MOST = 4096
"""Connections at a time, at most."""
FILES = 2**16
"""Files that this process asks to be allowed to open."""
SILENT = 30.0
"""Seconds in which a request must begin, or go on, before its connection is closed."""


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
