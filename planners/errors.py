"""The exceptions of Posterity, one small tree.

    PosterityError            raised on purpose; the command line prints it as one message
    ├── InvalidInput          what a user gave us is wrong (exit 2)
    │   ├── Busy              somebody else is at work there
    │   ├── PddlError         PDDL that cannot be read
    │   │   └── NotJudged     PDDL that asks for a feature the checker does not have
    │   └── CheckpointError   a folder that is not a usable checkpoint
    ├── NotPromoted           a generation that may not be deployed (exit 1)
    └── ComponentFailure      a part of ours, or of the machine, failed (exit 3)
        ├── CanaryAccepted    the checker called a plan valid that was broken on purpose
        └── LeaseLost         another process has taken over what this one was doing

Each message says what is wrong, which value, why, and what to do next.
"""

from __future__ import annotations


class PosterityError(Exception):
    """Base of everything Posterity raises on purpose."""

    exit_code = 3


class InvalidInput(PosterityError):
    """Input that cannot be used as it is; nothing was written."""

    exit_code = 2


class Busy(InvalidInput):
    """Somebody else is at work there; later it can be done."""


class PddlError(InvalidInput):
    """PDDL that cannot be read. `line` is the 1-based line where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.message, self.line = message, line

    def at(self, line: int | None) -> PddlError:
        """The same on a line, where none is known yet."""
        return self if self.line is not None or line is None else type(self)(self.message, line)


class NotJudged(PddlError):
    """PDDL that may be right, but asks for more than the checker covers: no verdict at all."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message, line)
        self.reason: str = self.args[0]

    def __str__(self) -> str:
        return f"not judged: {self.reason}"


class CheckpointError(InvalidInput):
    """A folder that should hold a model and does not."""


class NotPromoted(PosterityError):
    """A generation was made and may not be deployed; running again says so again."""

    exit_code = 1


class ComponentFailure(PosterityError):
    """A component failed while it worked; running again resumes. `may_pass`: a second try may
    help.
    """

    may_pass = True


class CanaryAccepted(ComponentFailure):
    """The checker accepted a plan that was broken on purpose: its verdicts cannot be trusted."""

    may_pass = False


class LeaseLost(ComponentFailure):
    """Another process has taken over; what this one has done since was not written."""

    may_pass = False
