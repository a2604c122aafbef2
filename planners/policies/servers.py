"""Several servers of the same model: which of them is asked next."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LATELY = 8.0
"""Seconds for which a server that failed is asked only if the others failed too."""


class Servers:
    """The URLs of servers that answer alike."""

    def __init__(self, urls: Sequence[str]) -> None:
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
