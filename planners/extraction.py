"""From the text of a completion to a plan: a step of its own, versioned, apart from judging.

The answer is what stands behind the last `</think>`. Line by line it must hold nothing but

    (schema object ...)             a ground action, or several in a row
    0.5: (schema object ...) [1.0]  one with its time and duration, or either of them
    ; anything                      a comment, alone or behind an action
    ``` or ```pddl                  a code fence, ignored
    (white space)

Times and durations in front of and behind an action are read and ignored: the order of the lines
is the order of the actions, and times that go back are refused. ASCII letters are folded to lower
case (PDDL names are case-insensitive); no other letter is, so a look-alike stays unknown. Anything
else is no plan, with the line and the reason; a text around a plan never changes its verdict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from planners.records import Action, Plan
from planners.sexpr import fold

EXTRACTION_VERSION = "1"
THINK_END = "</think>"
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_LINE = re.compile(
    rf"(?:(?P<time>{_NUMBER})[ \t]*:[ \t]*)?"
    r"(?P<actions>\([^();]*\)(?:[ \t]*\([^();]*\))*)"
    rf"[ \t]*(?:\[{_NUMBER}\])?[ \t]*(?:;.*)?",
    re.DOTALL,
)
_INSIDE = re.compile(r"\(([^()]*)\)")
_FENCE = re.compile(r"```[a-z]{0,10}")
_BLANK = " \t\r"
_SPACE = re.compile(r"[ \t\r]+")
SHORT = 200
"""Lines up to this length are remembered; longer ones would fill the memory."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """A plan, or None with the reason."""

    plan: Plan | None
    reason: str = ""


def extract(text: str) -> Extraction:
    """The plan of a completion. An answer without any line is no plan: the empty plan says `;`."""
    answer = text.rsplit(THINK_END, 1)[-1]
    if not answer.strip():
        return Extraction(None, "the answer is empty")
    return extract_lines(answer)


def extract_lines(answer: str) -> Extraction:
    """The plan of a text of nothing but the lines above; the empty text is the empty plan."""
    actions: list[Action] = []
    latest = -1.0
    for number, line in enumerate(answer.split("\n"), 1):
        found, time, wrong = _read_short(line) if len(line) <= SHORT else _read_line(line)
        actions += found
        if time is not None:
            if time < latest:
                return Extraction(None, f"line {number} goes back in time, to {time:g}")
            latest = time
        if wrong is not None:
            return Extraction(None, f"line {number} {wrong}")
    return Extraction(Plan(tuple(actions)))


def _read_line(line: str) -> tuple[tuple[Action, ...], float | None, str | None]:
    """The actions of a line (none where it is a comment), its time, and what is wrong with it."""
    bare = line.strip(_BLANK)
    if not bare or bare[0] == ";" or _FENCE.fullmatch(bare):
        return (), None, None
    match = _LINE.fullmatch(bare)
    if match is None:
        return (), None, f"is not an action in parentheses: {bare[:60]!r}"
    actions = tuple(
        tuple(word for word in _SPACE.split(inside) if word)
        for inside in _INSIDE.findall(fold(match["actions"]))
    )
    if () in actions:
        return (), None, "holds an action without a name"
    return actions, None if match["time"] is None else float(match["time"]), None


_read_short = lru_cache(maxsize=1 << 16)(_read_line)
