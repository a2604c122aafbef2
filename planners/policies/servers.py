"""Several servers of the same model: how they are reached, and which of them is asked next."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planners.errors import ComponentFailure, InvalidInput, Refused

if TYPE_CHECKING:
    import httpx

LATELY = 8.0
"""Seconds for which a server that failed is asked only if the others failed too."""


CONNECTED = 10.0
"""Seconds until a server has to take a connection."""
OVERLOADED = (429, 503)
"""Of a server that has too much to do, or is not ready yet."""
DIRECTLY: dict[str, Any] = dict.fromkeys(
    f"all://{host}" for host in ("localhost", "127.0.0.1", "[::1]")
)
"""Servers on this machine are asked without a proxy, whatever HTTP_PROXY says."""


UNANSWERABLE = (400, 413, 422)
"""Of a request that cannot be answered, whoever sends it."""


class Unavailable(ComponentFailure):
    """A server is not there, or has too much to do."""


def refusal(status: int) -> type[InvalidInput]:
    """The error for a status of 4xx."""
    return Refused if status in UNANSWERABLE else InvalidInput


def client_with(key: str, timeout: float, connections: int) -> httpx.Client:
    """A client that sends the key, if there is one, and waits `timeout` seconds for an answer."""
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECTED)),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        limits=httpx.Limits(max_connections=connections),
        mounts=DIRECTLY,
    )


class Servers:
    """The URLs of servers that answer alike. Raises InvalidInput where one is no URL."""

    def __init__(self, urls: Sequence[str]) -> None:
        import httpx

        for url in urls:
            try:
                httpx.URL(url)
            except httpx.InvalidURL as error:
                raise InvalidInput(f"the server {url!r} has no address: {error}") from error
        self.urls = [url.rstrip("/") for url in urls]
        self._busy = dict.fromkeys(self.urls, 0)
        self._failed = dict.fromkeys(self.urls, -math.inf)
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, url: str | None = None) -> Iterator[str]:
        """A server while it is asked: this one, or that with the fewest of our requests in progress
        among those that did not fail lately.
        """
        with self._lock:
            asked = url or min(self.urls, key=lambda one: (self._ails(one), self._busy[one]))
            self._busy[asked] += 1
        try:
            yield asked
        finally:
            with self._lock:
                self._busy[asked] -= 1

    def fail(self, url: str) -> bool:
        """Note that a server failed. Whether there is another to ask at once."""
        with self._lock:
            self._failed[url] = time.monotonic()
            return not all(map(self._ails, self.urls))

    def _ails(self, url: str) -> bool:
        return time.monotonic() - self._failed[url] < LATELY
