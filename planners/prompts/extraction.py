"""From the text of a completion to a plan: a step of its own, versioned, apart from judging.

A *plan text* is line by line nothing but

    (schema object ...)             a ground action, or several in a row
    0.5: (schema object ...) [1.0]  one with its time and duration, or either of them
    ; anything                      a comment, alone or behind an action
    ``` or ```pddl                  a code fence, ignored
    (white space)

Times and durations in front of and behind an action are read and ignored: the order of the lines
is the order of the actions, and times that go back are refused. ASCII letters are folded to lower
case (PDDL names are case-insensitive); no other letter is, so a look-alike stays unknown.

The answer is what stands behind the last `</think>` (`</thinking>`, `</reasoning>`). Where it is no
plan text as a whole, or has more than one fence, the plan is looked for in it, in this order: what
stands between <plan> and </plan> (or [PLAN] and [PLAN END]); what is fenced; a run of lines that
are actions, which may be numbered or listed (`3. (...)`, `- (...)`, `Step 3: (...)`), with prose
before and behind. Numbers that go back begin another run. Different plans found at the same place
of this order are ambiguous, and ambiguous is no plan, with the reason: nobody here guesses. So is a
line in the midst of a plan that opens a parenthesis and is no action, and what begins behind such a
plan and never ends.
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
"""Lines up to this length are remembered; longer ones would fill the memory."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """A plan, or None with the reason."""

    plan: Plan | None
    reason: str = ""


def extract(text: str, schemas: Container[str] = ()) -> Extraction:
    """The plan of a completion. An answer without any line is no plan: the empty plan says `;`.

    `schemas` are the domain's actions: prose that mentions one beside a listed plan, in parentheses
    or behind a number, may be part of it, so that is ambiguous.
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
    """A completion's reasoning with the mark that ends it (empty where there is none), and its
    answer.
    """
    ends = [match.end() for match in _THOUGHT.finditer(text)] if "</" in text else []
    end = ends[-1] if ends else 0
    return text[:end], text[end:]


def _blocks(answer: str, ended: re.Pattern[str], begun: re.Pattern[str]) -> list[str]:
    """What stands between marks; where something does, also what begins behind it and never
    ends.
    """
    found = list(ended.finditer(answer))
    blocks = ["".join(filter(None, match.groups())) for match in found]
    open_end = begun.search(answer, found[-1].end()) if found else None
    return blocks if open_end is None else [*blocks, answer[open_end.end() :]]


def _the_one(what: str, found: list[Extraction]) -> Extraction:
    """The plan that all of these are; no plan where one is broken or two differ."""
    for extraction in found:
        if extraction.plan is None:
            return Extraction(None, f"a {what} plan is broken: {extraction.reason}")
    if any(extraction != found[0] for extraction in found):
        return Extraction(None, f"ambiguous: {len(found)} {what} plans that differ")
    return found[0] if found else Extraction(None, f"the {what} plan is empty")


def _runs(answer: str) -> tuple[list[str], str]:
    """Runs of lines that are meant as actions, and the prose, which ends a run; blanks do not."""
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
    """A line without what lists put before an action and what marks it as code, and the number that
    a list gives it, 0 where it has none.
    """
    bare = line.strip(_BLANK)
    marked = _LISTED.match(bare)
    number = int(marked[1] or marked[2] or 0) if marked else 0
    action = (bare[marked.end() :] if marked else bare).strip("*`")
    return action if action.startswith("(") else bare, number


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
