"""The warehouse as pages read it: what was published last, never standing in a writer's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from flows.progress import at_work
from planners.errors import Busy
from warehouse.places.connect import for_a_moment, place_of
from warehouse.places.file import File, Still
from warehouse.store import Warehouse

MEMORY = "600MB"
"""Memory that the queries of all pages may take together."""
FRESH = 5.0
"""Seconds for which what was read of a lake counts as new."""
MOST = 500
"""Things that are kept of a warehouse at most: a request may name any number of them."""
LATE = 30.0
"""Seconds without news after which a run may have stopped."""
T = TypeVar("T")


class Source:
    """A warehouse, read anew when it was written. Its snapshot is held open, since no writer wants
    it; the file itself is opened for a moment at a time, and writers wait for that moment.
    """

    def __init__(self, warehouse: str, hold: bool = False) -> None:
        """With `hold`, it is opened once, as it is, and writers have to wait until the end."""
        self.place, self._hold = place_of(warehouse).absolute(), hold
        self.only: frozenset[str] | None = None
        """The experiments that are shown; None shows all."""
        self.stopped = threading.Event()
        """Set once the server that shows it is told to stop."""
        self._lock = threading.RLock()
        self._held: tuple[object, Warehouse] | None = None
        self._made: dict[Hashable, object] = {}
        self._of: object = None
        with self.reading():  # or it says at once why it cannot be read
            pass

    def version(self) -> object:
        """Changes whenever there may be something new to read: while a run is at work, only when it
        publishes, since its file changes all the time and cannot be read.
        """
        if not isinstance(self.place, File):
            return time.monotonic() // FRESH
        published = changed(self.place.published)
        if published and any(
            time.time() - one.at < LATE for one in at_work(self.place.checkpoints)
        ):
            return published
        return published, changed(self.place)

    @contextmanager
    def reading(self) -> Iterator[Warehouse]:
        """The warehouse, read-only, while the block runs."""
        if isinstance(self.place, File) and not self._hold:
            published = self.place.published
            if not published.path.exists() or changed(published) < changed(self.place):
                with ExitStack() as stack:
                    store = self._opened_for_a_moment(self.place, stack)
                    if store is not None:
                        yield store
                        return
        yield self._published()

    def _opened_for_a_moment(self, place: File, stack: ExitStack) -> Warehouse | None:
        """The file itself; None where a writer has it and there is a snapshot instead."""
        stack.enter_context(self._lock)
        if not place.is_new:
            with suppress(OSError):  # a folder that cannot be written to: nobody writes there
                stack.enter_context(for_a_moment(place))
        try:
            store = Warehouse(Still(place.path), read_only=True, memory=MEMORY)
        except Busy:
            if place.published.is_new:
                raise
            stack.close()
            return None
        return stack.enter_context(store)

    def _published(self) -> Warehouse:
        """The snapshot, or the lake, held open until there is another."""
        with self._lock:
            place = self.place if self._hold else self.place.published
            version = _inode(place)
            if self._held is None or self._held[0] != version:
                if self._held is not None:
                    self._held[1].close()  # its last readers finish all the same
                still = Still(place.path) if isinstance(place, File) else place
                self._held = version, Warehouse(still, read_only=True, memory=MEMORY)
            return self._held[1]

    def readable(self) -> list[str]:
        """Where queries of other processes may be asked, best first; the first may be taken by a
        writer.
        """
        place, published = self.place, self.place.published
        if not isinstance(place, File) or published.is_new:
            return [str(place)]
        newest = changed(published) >= changed(place)
        return [str(published)] if newest else [str(place), str(published)]

    def kept(self, name: Hashable, make: Callable[[Warehouse], T]) -> T:
        """Whatever `make` makes of the warehouse; it is made once until something is written, or
        MOST others were made since.
        """
        with self._lock:
            if (version := self.version()) != self._of:
                self._made, self._of = {}, version
            made = self._made
        with suppress(KeyError):  # not `in`: another thread may drop it in between
            return made[name]  # type: ignore[return-value]
        with self.reading() as store:
            found = make(store)
        with self._lock:
            made[name] = found
            for oldest in list(made)[:-MOST]:
                del made[oldest]
        return found


def changed(place: object) -> int:
    """When a file was written last, in nanoseconds; 0 if there is none."""
    if not isinstance(place, File) or not place.path.exists():
        return 0
    return place.path.stat().st_mtime_ns


def _inode(place: object) -> tuple[int, int] | None:
    if not isinstance(place, File):
        return None
    found = place.path.stat()
    return found.st_ino, found.st_mtime_ns
