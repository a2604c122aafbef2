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

The answer is the text after the last `</think>` (`</thinking>`, `</reasoning>`) and after what the
tool `validate` last answered, `</result>`. If nothing follows that, it is the call of the tool,
since the last plan counts. If the answer is not a plan text as a whole, or has more than one fence,
the plan is searched for in this order:

    1. between <plan> and </plan>, <validate> and </validate>, or [PLAN] and [PLAN END]
    2. between code fences
    3. the whole answer as one expression, as JSON, or as function calls (`planners.prompts.forms`)
    4. in runs of action lines, with prose before and after; a number that goes back starts a new
       run. A line may be numbered, listed, marked as code and explained: ``3. `(a b)` - why``

The first place that has anything decides. Different plans there are ambiguous, which is no plan,
with a reason: nothing is guessed. A line of a plan that opens a parenthesis and is not an action
spoils it. In 1 and 2, text after a later mark that is never closed counts as one more plan, and so
do lines of actions after the last mark. What is announced as a plan that does not work is not
taken.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from planners.pddl.sexpr import fold
from planners.prompts.asides import BULLET, STEP, action_behind, mentioned, taken_back
from planners.prompts.forms import FORMS, tidied
from planners.records import Action, Plan

EXTRACTION_VERSION = "10"
THINK_START, THINK_END = "<think>", "</think>"
CALL_START, CALL_END = "<validate>", "</validate>"
"""Around a plan that a model asks the plan checker about."""
RESULT_START, RESULT_END = "<result>", "</result>"
"""Around what the plan checker answers."""
# Possessive (`*+`) and bounded (`{0,9}`) repeats keep hostile completions from backtracking.
_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning|result)>|(?-i:\[/THINK\])", re.I)
_THINKING = re.compile(r"<(?:think|thinking|thought|reasoning)>|(?-i:\[THINK\])", re.I)
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_LINE = re.compile(
    rf"(?:(?P<time>{_NUMBER})[ \t]*+:[ \t]*+)?"
    r"(?P<actions>\([^();]*+\)(?:[ \t]*+\([^();]*+\))*+)"
    rf"[ \t]*+(?:\[{_NUMBER}\])?[ \t]*+(?:;.*)?",
    re.DOTALL,
)
_INSIDE = re.compile(r"\(([^()]*)\)")
_FENCE = re.compile(r"(?:```|~~~)[a-z]{0,10}")
_TAGGED = re.compile(
    r"<plan>((?:(?!<plan>).)*?)</plan>|<validate>((?:(?!<validate>).)*?)</validate>"
    r"|\[PLAN\]((?:(?!\[PLAN\]).)*?)\[PLAN END\]",
    re.DOTALL | re.I,
)
_TAG = re.compile(r"<plan>|<validate>|\[PLAN\]", re.I)
_FENCED = re.compile(r"(?:```|~~~)[^\n`~(]{0,20}\n(.*?)(?:```|~~~)", re.DOTALL)
_FENCE_BEGUN = re.compile(r"(?:```|~~~)[^\n`~(]{0,20}\n")
_LISTED = re.compile(
    rf"(?:{BULLET}(?=[ \t])|[*_]{{0,3}}(?:(?:{STEP})?(\d{{1,6}})[.)\u3001]"
    rf"|{STEP}(\d{{1,6}})[ \t]?[:\uff1a])[*_]{{0,3}})(?:[ \t]{{1,9}}|(?=[(`]))",
    re.I,
)
_ANNOUNCED = re.compile(
    r"(?:(?:the|my|a|final) ){0,3}(?:plan|answer|solution)(?: is)?:?[ \t]{1,9}(?=[(`*])", re.I
)
_EXPLAINED = re.compile(
    r"((?:\([^();]*+\)(?:[ \t]*+(?:,|->|\u2192)?[ \t]*+(?=\()|(?!\()))++)"  # actions in a row
    r"[`*]{0,3}(?:[ \t]*+[,.\\]{1,3}|;)?[ \t]*+"  # what ends a sentence or a line
    r"((?:[-\u2013\u2014:#]|//)[ \t].*)?"  # why
)
_TIMED = re.compile(rf"{_NUMBER}[ \t]*:[ \t]*\(")
_ACTION_BEGINS = re.compile(r"[(\[{;]")
_BLANK = " \t\r"
_SPACE = re.compile(r"[ \t\r]+")
_CALLED = re.compile(r"[^\s()]+\([^()]*\)[.;,]?")
EXPLAINED = 2000
"""Longest line, in characters, from which an explanation is taken off."""
SHORT = 200
"""Longest line, in characters, whose reading is cached; longer ones would fill the memory."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """A plan, or None and the reason why there is none."""

    plan: Plan | None
    reason: str = ""


def extract(text: str, schemas: Container[str] = ()) -> Extraction:
    """The plan of a completion. An empty answer is no plan; the empty plan is written `;`.

    `schemas` are the domain's actions: forms without parentheses are read only of these, and
    arguments in JSON by name only where it maps them to their schemas. If prose beside a listed
    plan mentions another action of theirs, the answer is ambiguous.
    """
    before, answer = split_reasoning(plain_lines(text))
    if not answer.strip() and before.endswith(RESULT_END):
        _, answer = split_reasoning(before[: before.rfind(RESULT_START)])
    if not answer.strip():
        return Extraction(None, "the answer is empty")
    if _THINKING.search(answer):
        return Extraction(None, "the reasoning never ended")
    # 1. The whole answer is a plan text.
    answer = tidied(answer, schemas)
    whole = _with_actions(extract_lines(answer), answer)
    fences = answer.count("```") + answer.count("~~~")
    if whole.plan is not None and fences <= 2:  # with more, another block begins
        return whole
    # 2. What is marked as a plan, by tags or by fences.
    for what, ended, begun in (("tagged", _TAGGED, _TAG), ("fenced", _FENCED, _FENCE_BEGUN)):
        if blocks := _blocks(answer, ended, begun):
            told = [_read_block(block, schemas) for block, bad in blocks if not bad]
            marked = _the_one(what, told)
            return _unless_another(marked, answer[list(ended.finditer(answer))[-1].end() :])
    # 3. Another form than lines of actions.
    if (plan := _in_a_form(answer, schemas)) is not None:
        return Extraction(plan)
    # 4. Lines of actions among prose.
    runs, before, after = _runs(answer)
    if not runs:
        return whole
    found = _the_one("listed", [extract_lines(run.text) for run in runs if not run.bad])
    if found.plan is not None and (name := mentioned(before, after, found.plan, schemas)):
        reason = f"ambiguous: text outside the plan also contains the action ({name} ...)"
        return Extraction(None, reason)
    whys = [why for run in runs if not run.bad for why in run.whys]
    return _unless_followed(found, whys, schemas)


def _unless_another(marked: Extraction, after: str) -> Extraction:
    """A marked plan, unless another one stands in lines after the last mark: which one counts?"""
    others = [extract_lines(run.text).plan for run in _runs(after)[0] if not run.bad]
    if marked.plan is not None and any(plan not in (None, marked.plan) for plan in others):
        return Extraction(None, "ambiguous: another plan follows the marked one")
    return marked


def _unless_followed(found: Extraction, whys: Iterable[str], schemas: Container[str]) -> Extraction:
    """A plan, unless another action stands where one of its actions is explained."""
    if found.plan is None:
        return found
    for why in whys:
        action = action_behind(why, schemas)
        if action is not None and action not in found.plan.actions:
            reason = f"ambiguous: the action ({' '.join(action)}) stands behind another one"
            return Extraction(None, reason)
    return found


def plain_lines(text: str) -> str:
    """A text whose lines end with a line feed, as on every system but two."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _with_actions(found: Extraction, text: str) -> Extraction:
    """The same, unless it is an empty plan that nobody wrote down: a comment is how one does."""
    if found.plan is not None and not len(found.plan) and ";" not in text:
        return Extraction(None, "there is no action in the answer")
    return found


def _in_a_form(text: str, schemas: Container[str]) -> Plan | None:
    """The plan of a text in one of FORMS, list marks aside."""
    bare = "\n".join(_listed(line)[0] for line in text.split("\n") if not _FENCE.fullmatch(line))
    return next((plan for form in FORMS if (plan := form(bare, schemas)) is not None), None)


def _read_block(block: str, schemas: Container[str]) -> Extraction:
    """The plan of what was marked as one."""
    lines, _, whys = zip(*map(_listed, block.split("\n")), strict=True)
    found = _with_actions(extract_lines("\n".join(lines)), block)
    if found.plan is None and (plan := _in_a_form(block, schemas)) is not None:
        return Extraction(plan)
    return _unless_followed(found, whys, schemas)


def split_reasoning(text: str) -> tuple[str, str]:
    """A completion's reasoning up to and including its end mark ("" if none), and its answer."""
    end = 0
    if "</" in text or "[/" in text:
        end = max((match.end() for match in _THOUGHT.finditer(text)), default=0)
    return text[:end], text[end:]


def _blocks(answer: str, ended: re.Pattern[str], begun: re.Pattern[str]) -> list[tuple[str, bool]]:
    """The texts between marks, and after them the text from a mark that is never closed, if any;
    each with whether the line before takes it back.
    """
    blocks, end = [], 0
    for match in ended.finditer(answer):
        told = "".join(filter(None, match.groups()))
        blocks.append((told, taken_back(answer[end : match.start()])))
        end = match.end()
    open_end = begun.search(answer, end) if blocks else None
    if open_end is not None:
        before = answer[end : open_end.start()]
        blocks.append((answer[open_end.end() :], taken_back(before)))
    # Some are only spoken of, as in "between <plan> and </plan>".
    return [(block, bad) for block, bad in blocks if _ACTION_BEGINS.search(block)] or blocks[:1]


def _the_one(what: str, found: list[Extraction]) -> Extraction:
    """The plan that all of these agree on; no plan if one is broken or two differ."""
    for extraction in found:
        if extraction.plan is None:
            return Extraction(None, f"a {what} plan is broken: {extraction.reason}")
    if any(extraction != found[0] for extraction in found):
        return Extraction(None, f"ambiguous: {len(found)} {what} plans that differ")
    if not found:
        return Extraction(None, f"the only {what} plan is announced as one that does not work")
    return found[0]


@dataclass(frozen=True, slots=True)
class _Run:
    """Lines meant as actions, what stands behind them, and whether they are taken back."""

    bad: bool
    lines: list[str] = field(default_factory=list)
    whys: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def _runs(answer: str) -> tuple[list[_Run], str, str]:
    """Runs of lines meant as actions, and the prose before the first of them and after its
    beginning. Prose ends a run; blank lines do not.
    """
    runs: list[_Run] = []
    prose: list[str] = []
    before = 0
    running, latest = False, 0
    for written in answer.split("\n"):
        line, number, why = _listed(written)
        if line.startswith("(") or _TIMED.match(line):
            if not running or 0 < number < latest:
                before = before if runs else len(prose)
                runs.append(_Run(bool(prose) and not running and taken_back(prose[-1])))
            runs[-1].lines.append(line)
            runs[-1].whys.append(why)
            running, latest = True, number or latest
        elif line and line[0] != ";":
            prose.append(written.strip(_BLANK))
            running, latest = False, 0
    return runs, "\n".join(prose[:before]), "\n".join(prose[before:])


def _listed(line: str) -> tuple[str, int, str]:
    """A line without the list and code marks around its actions, its number in the list or 0, and
    their explanation, which is not in the line.
    """
    bare = rest = line.strip(_BLANK)
    number, marked = 0, False
    for _ in range(2):  # a number may follow a bullet
        if mark := _LISTED.match(rest):
            marked, number = True, int(mark[1] or mark[2] or number)
            rest = rest[mark.end() :]
    announced = _ANNOUNCED.match(rest)
    action = (rest[announced.end() :] if announced else rest).strip("*`")
    explained = _EXPLAINED.fullmatch(action) if len(action) <= EXPLAINED else None
    if explained is not None:
        actions = " ".join(f"({inside})" for inside in _INSIDE.findall(explained[1]))
        return actions, number, explained[2] or ""
    if action.startswith("(") or (marked and _CALLED.fullmatch(action)):
        return action, number, ""
    return bare, number, ""


def extract_lines(answer: str) -> Extraction:
    """The plan of a plan text (see the module); the empty text is the empty plan."""
    actions: list[Action] = []
    latest = -1.0
    for number, line in enumerate(plain_lines(answer).split("\n"), 1):
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
