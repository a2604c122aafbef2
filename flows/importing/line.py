"""A trace made elsewhere, as its maker describes it, and the task that a prompt holds."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from planners.checking.checker import checker_for
from planners.errors import InvalidInput

TEMPLATES = 8
"""Definitions with `...` in them that are passed over; each may be as long as the prompt."""
_DEFINED = re.compile(r"\(\s*define\s*\(\s*(domain|problem)\b", re.IGNORECASE)
_BRACKET = re.compile(r"[()]|;[^\n]*")
_WORD = re.compile(r";[^\n]*|[^\s();]+")
Logprob = Annotated[float, Field(le=0, allow_inf_nan=False)] | None


def _dated(time: object) -> object:
    if time is not None and not re.match(r"\d{4}-\d\d-\d\d", str(time)):
        raise ValueError("a time is written as in 2026-01-31T12:00:00Z (ISO 8601)")
    return time


class Line(BaseModel):
    """One trace as its maker describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    completion: str
    task: str | None = None
    domain: str | None = None
    problem: str | None = None
    model: str = "unknown"
    finish_reason: Literal["stop", "length"] = "stop"
    logprob: Logprob = None
    sampling_logprob: Logprob = None
    feedback: Literal["accept", "reject"] | None = None
    time: Annotated[Annotated[datetime, Field(strict=False)] | None, BeforeValidator(_dated)] = None


def task_in(prompt: str) -> tuple[str, str] | None:
    """The PDDL of the domain and problem that a prompt asks about; None if it holds none.

    The last of each counts, as those before them are examples. Raises InvalidInput where they are
    no task together, or one has no end, and NotJudged where the checker does not support them.
    """
    found = {"domain": list[int](), "problem": list[int]()}
    for match in _DEFINED.finditer(prompt):
        found[match[1].lower()].append(match.start())
    domain, pddl = (_last(prompt, starts) for starts in found.values())
    if domain is None or pddl is None:
        return None
    checker_for(domain, pddl)  # read once, for whoever judges
    return domain, pddl


def _last(prompt: str, starts: list[int]) -> str | None:
    """The last definition that begins at one of these places and is no template."""
    for start in starts[: -TEMPLATES - 1 : -1]:
        text = _whole(prompt, start)
        if "..." not in _WORD.findall(text):
            return text
    return None


def _whole(text: str, start: int) -> str:
    """The expression that begins with the bracket at `start`. Raises InvalidInput without an end.

    Brackets in comments do not count.
    """
    depth = 0
    for match in _BRACKET.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            return text[start : match.end()]
    shown = " ".join(text[start : start + 60].split())
    raise InvalidInput(f"the task in its prompt has no end: {shown!r}")
