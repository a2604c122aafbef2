"""The time that a plan may take, counted over all that is evaluated for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import FrameType

from planners.errors import NotJudged

OUT_OF_TIME = (
    "the time for this plan is over; give it more with --timeout SECONDS, in an experiment with "
    "judging.timeout"
)
"""Why a plan is not judged whose time is over."""
TICK = 256
"""Small pieces of work, such as the choice of an object, between two looks at the clock."""
AGAIN = 0.05
"""Seconds between two alarms, since one alone can be lost in code whose errors are ignored."""


@dataclass(slots=True)
class Clock:
    """The time for a whole plan: `end` as `time.monotonic` counts, None for no end. The work of
    all its parts is counted together, since many short ones take as long as a long one.
    """

    end: float | None = None
    left: int = TICK

    def tick(self, count: int = 1) -> None:
        """Count pieces of work, and now and then look whether the time is over."""
        self.left -= count
        if self.left <= 0:
            self.left = TICK
            self.look()

    def look(self) -> None:
        """Raise NotJudged when the time is over."""
        if self.end is not None and monotonic() > self.end:
            raise NotJudged(OUT_OF_TIME)


@contextmanager
def interrupted(seconds: float | None) -> Iterator[None]:
    """Raise NotJudged in the block once so many seconds are over: for a library's code, which looks
    at no clock. None is no limit, nor is there one outside of a process's main thread.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, frame: FrameType | None) -> None:
        while frame:  # Python drops an error of __del__: the next alarm comes after it
            if frame.f_code.co_name == "__del__":
                return
            frame = frame.f_back
        raise NotJudged(OUT_OF_TIME)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:  # again, since an alarm may have come between the block's end and that line
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
