"""The exceptions of Posterity, one small tree.

    PosterityError            raised on purpose; the command line prints it as one message
    ├── InvalidInput          the user's input is wrong (exit 2)
    │   ├── Busy              another process is using the same thing
    │   ├── PddlError         PDDL that cannot be read
    │   │   └── NotJudged     PDDL that uses a feature the checker does not support
    │   ├── CheckpointError   a folder that is not a usable checkpoint
    │   └── Refused           a request that a model server does not answer, whoever sends it
    ├── NotPromoted           a generation that may not be deployed (exit 1)
    ├── Waiting               the next generation waits for users (exit 1)
    └── ComponentFailure      a part of Posterity, or of the machine, failed (exit 3)
        ├── CanaryAccepted    the checker accepted a plan that was broken on purpose
        ├── CheckerDisputed   the checker and the naive replay do not agree on a plan
        └── LeaseLost         another process has taken over this one's work

Each message says what is wrong, which value, why, and what to do next.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

# A path that was made of a URL has one slash. A password may hold anything, also @ and spaces; but
# a port is none.
_IN_URL = re.compile(r"(:/+[^/@\s:]*):(?!\d{1,5}(?:[/\s'\"\],)]|$))(?:\S*|[^@\n/]*)@")
_ALONE = re.compile(r"(:/+)[^/@\s:]+@")
_NAMED = re.compile(
    r"((?:passw(?:or)?d|\bpwd|\bapi_?key|\b(?:access_?)?token|\bsecret)\s*=\s*)('[^']*'|[^\s?&]+)",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text without passwords and keys: those in a URL, and those that are named as such."""
    return _NAMED.sub(r"\1***", _IN_URL.sub(r"\1:***@", _ALONE.sub(r"\1***@", text)))


_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\U000e0000-\U000e007f]"
)


def harmless(text: str) -> str:
    """The text with control characters written out: a terminal obeys some of them, and those that
    turn the direction of writing, or that nobody sees, make a text look like another.
    """
    return _ODD.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for who mistyped a name, empty where nothing known is near."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {found[0]!r}?" if found else ""


def unknown(what: str, name: object, known: Iterable[str], also: str = "") -> str:
    """The message for a name that is none of those known, with the one that is most like it."""
    told, names = str(name)[:60], list(known)
    return f"unknown {what} {told!r}{nearest(told, names)}; known: {', '.join(names)}{also}"


def require_one_of(what: str, name: str, known: Collection[str], also: str = "") -> None:
    """Raise InvalidInput, with `unknown`'s message, unless a name is one of those known."""
    if name not in known:
        raise InvalidInput(unknown(what, name, known, also))


def problem(found: Mapping[str, Any], skip: int = 0) -> str:
    """One of pydantic's problems in a line: where, without the first `skip` names, and what."""
    where = ".".join(str(part) for part in found["loc"][skip:])
    told = found["msg"].removeprefix("Value error, ")
    return f"{where}: {told}" if where else told


class PosterityError(Exception):
    """Base class of every exception that Posterity raises on purpose; no message has a password."""

    exit_code = 3

    def __init__(self, *told: object) -> None:
        super().__init__(*(redacted(one) if isinstance(one, str) else one for one in told))


class InvalidInput(PosterityError):
    """Input that cannot be used as it is; nothing was written."""

    exit_code = 2


class Busy(InvalidInput):
    """Another process is using the same thing; trying again later can succeed."""


class PddlError(InvalidInput):
    """PDDL that cannot be read. `line` is the 1-based line, or None if unknown."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.message, self.line = message, line

    def at(self, line: int | None) -> PddlError:
        """The same error with a line, unless it has one already."""
        return self if self.line is not None or line is None else type(self)(self.message, line)


class NotJudged(PddlError):
    """PDDL that may be right but needs a feature the checker lacks, so there is no verdict."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message, line)
        self.reason: str = self.args[0]

    def __str__(self) -> str:
        return f"not judged: {self.reason}"


class CheckpointError(InvalidInput):
    """A folder that should hold a model checkpoint but does not."""


class Refused(InvalidInput):
    """A request that a model server does not answer, whoever sends it."""


class NotPromoted(PosterityError):
    """A generation was trained but may not be deployed; running again raises this again."""

    exit_code = 1


class Waiting(PosterityError):
    """The next generation waits for users to ask more; running again looks again."""

    exit_code = 1


class ComponentFailure(PosterityError):
    """A component failed while it worked; running again resumes."""

    may_pass = True
    """Whether an automatic retry may help."""


class CanaryAccepted(ComponentFailure):
    """The checker accepted a plan that was broken on purpose, so no verdict can be trusted."""

    may_pass = False


class CheckerDisputed(ComponentFailure):
    """The checker calls a plan valid and the naive replay does not, so one of them is wrong."""

    may_pass = False


class LeaseLost(ComponentFailure):
    """Another process has taken over; nothing that this one did since then was written."""

    may_pass = False
