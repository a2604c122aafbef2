"""Extraction of a plan from a completion: a step of its own, versioned, apart from judging.

A *plan text* has only lines of these kinds:

    (schema object ...)             a ground action, or several on one line
    0.5: (schema object ...) [1.0]  the same with a time, a duration, or both
    ; anything                      a comment, alone or after an action
    ``` or ```pddl                  a code fence, ignored
    (white space)

The order of the lines is the order of the actions. Times and durations are ignored, but times that
go back are refused. ASCII letters become lower case, as PDDL names are case-insensitive; other
letters stay as they are, so a look-alike matches no name.

The answer is the text after the last `</think>` (`</thinking>`, `</reasoning>`). If it is not a
plan text as a whole, or has more than one fence, the plan is searched for in this order:

    1. between <plan> and </plan>, or [PLAN] and [PLAN END]
    2. between code fences
    3. in runs of action lines, which may be numbered or listed (`3. (...)`, `- (...)`,
       `Step 3: (...)`), with prose before and after; a number that goes back starts a new run

The first place that has anything decides. Different plans there are ambiguous, which is no plan,
with a reason: nothing is guessed. A line of a plan that opens a parenthesis and is not an action
spoils it. In 1 and 2, text after a later mark that is never closed counts as one more plan.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache

from planners.pddl.sexpr import fold
from planners.records import Action, Plan

EXTRACTION_VERSION = "3"
THINK_START, THINK_END = "<think>", "</think>"
# Possessive (`*+`) and bounded (`{0,9}`) repeats keep hostile completions from backtracking.
_THOUGHT = re.compile(r"</(?:think|thinking|reasoning)>", re.I)
_THINKING = re.compile(r"<(?:think|thinking|reasoning)>", re.I)
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_LINE = re.compile(
    rf"(?:(?P<time>{_NUMBER})[ \t]*+:[ \t]*+)?"
    r"(?P<actions>\([^();]*+\)(?:[ \t]*+\([^();]*+\))*+)"
    rf"[ \t]*+(?:\[{_NUMBER}\])?[ \t]*+(?:;.*)?",
    re.DOTALL,
)
_INSIDE = re.compile(r"\(([^()]*)\)")
_FENCE = re.compile(r"```[a-z]{0,10}")
_TAGGED = re.compile(
    r"<plan>((?:(?!<plan>).)*?)</plan>|\[PLAN\]((?:(?!\[PLAN\]).)*?)\[PLAN END\]", re.DOTALL | re.I
)
_TAG = re.compile(r"<plan>|\[PLAN\]", re.I)
_FENCED = re.compile(r"```[^\n`]{0,20}\n(.*?)```", re.DOTALL)
_FENCE_BEGUN = re.compile(r"```[^\n`]{0,20}\n")
_LISTED = re.compile(
    r"(?:[-*+]|(?:step[ \t]{0,9})?(\d{1,6})[.)]|step[ \t]{0,9}(\d{1,6}):)[ \t]{1,9}", re.I
)
_MENTION = re.compile(
    r"\(\s*+([^\s()]+)|^(?:step[ \t]{0,9})?\d{1,6}[.):][ \t]{1,9}[*`]{0,3}([^\s()*`:]+)", re.M
)
_TIMED = re.compile(rf"{_NUMBER}[ \t]*:[ \t]*\(")
_BLANK = " \t\r"
_SPACE = re.compile(r"[ \t\r]+")
SHORT = 200
"""Longest line, in characters, whose reading is cached; longer ones would fill the memory."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """A plan, or None and the reason why there is none."""

    plan: Plan | None
    reason: str = ""


def extract(text: str, schemas: Container[str] = ()) -> Extraction:
    """The plan of a completion. An empty answer is no plan; the empty plan is written `;`.

    `schemas` are the domain's actions. If prose beside a listed plan mentions one of them, in
    parentheses or after a number, it may be part of the plan, which makes the answer ambiguous.
    """
    _, answer = split_reasoning(text)
    if not answer.strip():
        return Extraction(None, "the answer is empty")
    if _THINKING.search(answer):
        return Extraction(None, "the reasoning never ended")
    whole = extract_lines(answer)
    if whole.plan is not None and answer.count("```") <= 2:
        return whole
    for what, ended, begun in (("tagged", _TAGGED, _TAG), ("fenced", _FENCED, _FENCE_BEGUN)):
        blocks = _blocks(answer, ended, begun)
        if blocks:
            lines = ("\n".join(_listed(line)[0] for line in block.split("\n")) for block in blocks)
            return _the_one(what, [extract_lines(block) for block in lines if block.strip()])
    runs, prose = _runs(answer)
    if not runs:
        return whole
    for match in _MENTION.finditer(fold(prose)):
        name = match[1] or match[2]
        if name in schemas:
            return Extraction(None, f"ambiguous: prose beside the plan mentions ({name} ...)")
    return _the_one("listed", [extract_lines(run) for run in runs])


def split_reasoning(text: str) -> tuple[str, str]:
    """A completion's reasoning up to and including its end mark ("" if none), and its answer."""
    ends = [match.end() for match in _THOUGHT.finditer(text)] if "</" in text else []
    end = ends[-1] if ends else 0
    return text[:end], text[end:]


def _blocks(answer: str, ended: re.Pattern[str], begun: re.Pattern[str]) -> list[str]:
    """The texts between marks, and after them the text from a mark that is never closed, if any."""
    found = list(ended.finditer(answer))
    blocks = ["".join(filter(None, match.groups())) for match in found]
    open_end = begun.search(answer, found[-1].end()) if found else None
    return blocks if open_end is None else [*blocks, answer[open_end.end() :]]


def _the_one(what: str, found: list[Extraction]) -> Extraction:
    """The plan that all of these agree on; no plan if one is broken or two differ."""
    for extraction in found:
        if extraction.plan is None:
            return Extraction(None, f"a {what} plan is broken: {extraction.reason}")
    if any(extraction != found[0] for extraction in found):
        return Extraction(None, f"ambiguous: {len(found)} {what} plans that differ")
    return found[0] if found else Extraction(None, f"the {what} plan is empty")


def _runs(answer: str) -> tuple[list[str], str]:
    """Runs of lines meant as actions, and the prose. Prose ends a run; blank lines do not."""
    runs: list[list[str]] = []
    prose: list[str] = []
    running, latest = False, 0
    for line, number in map(_listed, answer.split("\n")):
        if line.startswith("(") or _TIMED.match(line):
            if not running or 0 < number < latest:
                runs.append([])
            runs[-1].append(line)
            running, latest = True, number or latest
        elif line and line[0] != ";":
            prose.append(line)
            running, latest = False, 0
    return ["\n".join(run) for run in runs], "\n".join(prose)


def _listed(line: str) -> tuple[str, int]:
    """A line without the list and code marks around an action, and its number in the list or 0."""
    bare = line.strip(_BLANK)
    marked = _LISTED.match(bare)
    number = int(marked[1] or marked[2] or 0) if marked else 0
    action = (bare[marked.end() :] if marked else bare).strip("*`")
    return action if action.startswith("(") else bare, number


def extract_lines(answer: str) -> Extraction:
    """The plan of a plan text (see the module); the empty text is the empty plan."""
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
    """The actions of a line (none in a comment), its time or None, and its error or None."""
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
