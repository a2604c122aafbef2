"""An append-only log: a line is on disk before whoever wrote it goes on.

Lines that wait are written and synchronised together. A segment is a file that one thread appends
to and holds locked; it is closed after some seconds, by a rename. Loaders take closed segments, and
those of a process that died.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from planners.errors import ComponentFailure

OPEN, CLOSED = ".open", ".jsonl"
"""The endings of segments that are written to, and of those that are complete."""
LARGEST = 32 * 2**20
"""Bytes after which a segment is closed at once."""
Line = tuple[bytes, "Future[None]"]
"""A line, and what is done when it is on disk."""
Waiting = queue.SimpleQueue["Line | None"]
"""Lines that wait, then None for each lane that takes them."""


class Log:
    """Appends lines to segments in a folder, from threads of its own; closes them every `seconds`.

    Each of its `lanes` is a thread with a segment. A disk takes some milliseconds to synchronise,
    and while one lane waits for that, another one takes the lines that come. Close the log to have
    everything written and the last segments complete.
    """

    def __init__(self, folder: Path, seconds: float = 2.0, lanes: int = 3) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        shared: Waiting = queue.SimpleQueue()
        ordered: Waiting = queue.SimpleQueue() if lanes > 1 else shared
        queues = [ordered] + [shared] * (lanes - 1)
        self._ordered, self._shared = ordered, shared
        self._lanes = [_Lane(folder, seconds, waiting) for waiting in queues]

    def append(self, line: bytes, in_order: bool = False) -> Future[None]:
        """Append a line, which ends in a newline; done when it is on disk. Lines that are appended
        `in_order` are read back in their order. The future raises ComponentFailure where it cannot
        be written.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # who gives up waiting must not stop the others
        (self._ordered if in_order else self._shared).put((line, done))
        return done

    def close(self) -> None:
        """Write what waits, and complete the last segments."""
        for lane in self._lanes:
            lane.waiting.put(None)
        for lane in self._lanes:
            lane.thread.join()


class _Lane:
    """A thread that writes the lines of a queue to a segment, and synchronises once for all that
    wait.
    """

    def __init__(self, folder: Path, seconds: float, waiting: Waiting) -> None:
        self.folder, self.seconds, self.waiting = folder, seconds, waiting
        self._segment: BinaryIO | None = None
        self._begun = 0.0
        self.thread = threading.Thread(target=self._write, name="log", daemon=True)
        self.thread.start()

    def _write(self) -> None:
        """Until it is closed, write all lines that wait and synchronise once."""
        while True:
            some, last = self._next()
            if some:
                self._append(some)
            if last:
                self._complete()
                return
            if self._segment and (
                time.monotonic() - self._begun > self.seconds or self._segment.tell() > LARGEST
            ):
                self._complete()

    def _next(self) -> tuple[list[Line], bool]:
        """All that waits, at the latest after some seconds nothing; and whether it is the last."""
        found: list[Line] = []
        with suppress(queue.Empty):
            one = self.waiting.get(timeout=self.seconds)
            while one is not None:
                found.append(one)
                one = self.waiting.get_nowait()
            return found, True
        return found, False

    def _append(self, lines: list[Line]) -> None:
        try:
            segment = self._segment or self._opened()
            segment.write(b"".join(line for line, _ in lines))
            segment.flush()
            os.fdatasync(segment.fileno())
        except Exception as error:
            self._abandon()
            told = ComponentFailure(
                f"the log in {self.folder} cannot be written: {error}; see that the folder is "
                "there, may be written to, and has space"
            )
            for _, done in lines:
                done.set_exception(told)
            return
        for _, done in lines:
            done.set_result(None)

    def _opened(self) -> BinaryIO:
        """A new segment, locked for as long as this process lives. Until it is locked, a loader may
        take it for that of a process that died; then another one is made.
        """
        while self._segment is None:
            path = self.folder / f"{time.time_ns()}-{uuid4().hex}{OPEN}"
            segment = path.open("xb")
            fcntl.flock(segment, fcntl.LOCK_EX)
            if path.exists():
                self._segment = segment
            else:
                segment.close()
        self._begun = time.monotonic()
        _synchronise(self.folder)
        return self._segment

    def _abandon(self) -> None:
        """Let go of a segment. The loader skips a line that is torn at its end."""
        if self._segment:
            with suppress(OSError):
                self._segment.close()
            self._segment = None

    def _complete(self) -> None:
        if self._segment:
            path = Path(self._segment.name)
            with suppress(OSError):  # it was taken away from outside; the next ones are written
                path.rename(path.with_suffix(CLOSED))
            self._abandon()


def complete_segments(folder: Path) -> list[Path]:
    """The segments that nobody writes to any more, the oldest first. Those of processes that died
    are completed.
    """
    for path in folder.glob(f"*{OPEN}"):
        with suppress(OSError), path.open("rb") as segment:
            fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
            if path.exists():
                path.rename(path.with_suffix(CLOSED))
    return sorted(folder.glob(f"*{CLOSED}"))


def written_so_far(folder: Path) -> Iterator[bytes]:
    """The lines of all segments, also of those that are being written."""
    for path in sorted((*folder.glob(f"*{OPEN}"), *folder.glob(f"*{CLOSED}"))):
        with suppress(FileNotFoundError):  # it was completed or loaded just now
            yield from lines_of(path)


def lines_of(segment: Path) -> Iterator[bytes]:
    """The lines of a complete segment, without one that a killed process left torn at its end: it
    was never acknowledged.
    """
    with segment.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield line


def _synchronise(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
