"""The time that a plan may take, counted over all that is evaluated for it."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from planners.errors import NotJudged

OUT_OF_TIME = (
    "the time for this plan is over; give it more with --timeout SECONDS, in an experiment with "
    "judging.timeout"
)
"""Why a plan is not judged whose time is over."""
TICK = 256
"""Small pieces of work, such as the choice of an object, between two looks at the clock."""


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
