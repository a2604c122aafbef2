"""The time that a plan may take, counted over all that is evaluated for it."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from planners.errors import NotJudged

OUT_OF_TIME = (
    "the time for this plan is over, spent on quantifiers over many objects; give it more with "
    "--timeout SECONDS, in an experiment with judging.timeout"
)
"""Why a plan is not judged whose time is over."""
TICK = 256
"""Choices of objects between two looks at the clock."""


@dataclass(slots=True)
class Clock:
    """The time for a whole plan: `end` as `time.monotonic` counts, None for no end. Choices of all
    its quantifiers are counted together, since many short ones take as long as a long one.
    """

    end: float | None = None
    choices: int = 0

    def tick(self) -> None:
        """Count a choice of an object, and now and then look whether the time is over."""
        self.choices += 1
        if self.choices % TICK == 0:
            self.look()

    def look(self) -> None:
        """Raise NotJudged when the time is over."""
        if self.end is not None and monotonic() > self.end:
            raise NotJudged(OUT_OF_TIME)
