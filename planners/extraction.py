"""From the text of a completion to a plan: a step of its own, versioned, apart from judging.

Version 1: everything behind the last `</think>` is the answer (the whole text where there is
none); each non-empty line must be one parenthesised ground action; a `;` starts a comment;
letters are folded to lower case (PDDL names are case-insensitive). Anything else is no plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from planners.records import Plan

EXTRACTION_VERSION = "1"
THINK_END = "</think>"
_ACTION = re.compile(r"\(\s*([^\s()]+(?:\s+[^\s()]+)*)\s*\)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Extraction:
    """A plan, or None with the reason."""

    plan: Plan | None
    reason: str = ""


def extract(text: str) -> Extraction:
    """The plan of a completion. An empty answer is the empty plan only where it says so: `;`
    lines.
    """
    answer = text.rsplit(THINK_END, 1)[-1]
    if not answer.strip():
        return Extraction(None, "the answer is empty")
    return extract_lines(answer)


def extract_lines(answer: str) -> Extraction:
    """The plan of a text that holds nothing but action lines, comments and white space."""
    actions = []
    for number, line in enumerate(answer.splitlines(), 1):
        bare = line.split(";", 1)[0].strip()
        if not bare:
            continue
        match = _ACTION.fullmatch(bare)
        if match is None:
            return Extraction(None, f"line {number} is not one action: {bare[:60]!r}")
        actions.append(tuple(match[1].lower().split()))
    return Extraction(Plan(tuple(actions)))
