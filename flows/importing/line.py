"""A trace made elsewhere, as its maker describes it, and the task that a prompt holds."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import islice
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from planners.checking.checker import checker_for
from planners.errors import InvalidInput

DEFINED = 8
"""Definitions in a prompt that are looked at; each may be as long as the prompt."""
_DEFINED = re.compile(r"\(\s*define\s*\(\s*(domain|problem)\b", re.IGNORECASE)
Logprob = Annotated[float, Field(le=0, allow_inf_nan=False)] | None


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
    time: datetime | None = None


def task_in(prompt: str) -> tuple[str, str] | None:
    """The PDDL of the domain and problem that a prompt holds; None if it holds no task."""
    found: dict[str, str] = {}
    for match in islice(_DEFINED.finditer(prompt), DEFINED):
        text = _balanced(prompt, match.start())
        if text is not None:
            found[match[1].lower()] = text
    if found.keys() != {"domain", "problem"}:
        return None
    try:
        checker_for(found["domain"], found["problem"])  # read once, for whoever judges
    except InvalidInput:
        return None
    return found["domain"], found["problem"]


def _balanced(text: str, start: int) -> str | None:
    """The expression that begins with the bracket at `start`; None if it does not end."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return text[start : place + 1]
    return None
