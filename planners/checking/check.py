"""`check`: the verdict on a plan, with task and plan given as objects, texts or files."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

from planners.checking.checker import CHECKER, CHECKER_VERSION, PLAN_SECONDS, Checker
from planners.checking.fallback import Fallback
from planners.errors import InvalidInput
from planners.files import read_plan
from planners.pddl import Task, read_task
from planners.pddl.sexpr import fold
from planners.pddl.unified import from_unified, plan_from_unified
from planners.prompts.extraction import extract, extract_lines
from planners.records import Outcome, Plan, Verdict

USE = (
    "give check(task, plan) or check(domain, problem, plan); a task is what read_task returns, or "
    "a Problem of unified-planning; give a file as a Path: a string is taken as the text itself"
)


def check(task: Any, *rest: Any, timeout: float | None = PLAN_SECONDS) -> Verdict:
    """The verdict on a plan: `check(task, plan)` or `check(domain, problem, plan)`.

    A task is what `read_task` returns, or unified-planning's `Problem`. Domain and problem are
    PDDL texts or Paths; a plan is a `Plan`, a text, a Path, or a `SequentialPlan`. A string is
    always the text itself, never a path. A text that is not a plan gets the verdict NO_PLAN.

    Raises InvalidInput if a file cannot be read or an argument is none of these, and NotJudged if
    the task uses a feature that the checker does not support, or judging the plan takes longer
    than `timeout` seconds (None: no limit).
    """
    if len(rest) == 2:
        return _verdict(read_task(_pddl(task), _pddl(rest[0])), rest[1], timeout)
    if len(rest) != 1:
        raise InvalidInput(f"check takes two arguments or three, found {1 + len(rest)}: {USE}")
    if _of_unified(task):
        converted = from_unified(task)  # first, as it says what cannot be judged
        given = plan_from_unified(task, rest[0]) if _of_unified(rest[0]) else rest[0]
        return _verdict(converted, given, timeout)
    task = getattr(task, "parsed", task)  # a task of the warehouse holds its PDDL as text
    if not isinstance(task, Task):
        raise InvalidInput(f"a {type(task).__name__} is not a task: {USE}")
    return _verdict(task, rest[0], timeout)


def _verdict(task: Task, plan: Any, timeout: float | None) -> Verdict:
    if timeout is not None and not (isinstance(timeout, Real) and timeout > 0):
        raise InvalidInput(f"timeout = {timeout!r}: give seconds above 0, or None for no limit")
    return judge_text(Checker(task, timeout), _plan(plan))[1]


def judge_text(
    checker: Checker | Fallback, plan: Plan | str, find: bool = False
) -> tuple[Plan | None, Verdict]:
    """The plan, or None if a text is not a plan, and the verdict on it.

    With `find`, a plan is searched for in the text, as in a model's answer.
    """
    if isinstance(plan, str):
        found = extract(plan, checker.schemas) if find else extract_lines(plan)
        if found.plan is None:
            outcome = Outcome.NO_PLAN
            return None, Verdict(outcome, None, found.reason, None, CHECKER, CHECKER_VERSION)
        plan = found.plan
    return plan, checker.check(plan)


def _pddl(given: Any) -> str | Path:
    if not isinstance(given, str | Path):
        raise InvalidInput(f"a {type(given).__name__} is not PDDL: {USE}")
    return given


def _plan(given: Any) -> Plan | str:
    if _of_unified(given):
        raise InvalidInput(
            "a plan of unified-planning is checked with its Problem: check(problem, plan)"
        )
    if not isinstance(given, Plan | str | Path):
        raise InvalidInput(f"a {type(given).__name__} is not a plan: {USE}")
    if isinstance(given, Path):
        return read_plan(given)
    return _folded(given) if isinstance(given, Plan) else given


def _folded(plan: Plan) -> Plan:
    """A plan that somebody made, with names as PDDL has them. Raises InvalidInput if it is none."""
    actions = list(plan.actions)
    for action in actions:
        words = action if isinstance(action, list | tuple) else ()
        if not words or not all(isinstance(word, str) for word in words):
            raise InvalidInput(f"{action!r} is no action: give a name and objects, as strings")
    return Plan(tuple(tuple(fold(word) for word in action) for action in actions))


def _of_unified(thing: object) -> bool:
    return any(base.__module__.startswith("unified_planning.") for base in type(thing).__mro__)
