"""Conversion between our tasks and plans and unified-planning's `Problem` and `SequentialPlan`.

Both ways go through PDDL text. unified-planning is imported on first use, which takes a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planners.errors import InvalidInput
from planners.pddl.printing import print_task
from planners.pddl.reader import Task, read_task
from planners.pddl.sexpr import parse
from planners.records import Plan

if TYPE_CHECKING:
    from unified_planning.model import Problem
    from unified_planning.plans import SequentialPlan


def to_unified(task: Task) -> Problem:
    """A task as unified-planning's `Problem`. Raises InvalidInput if it is refused there."""
    from unified_planning.io import PDDLReader

    with _refusals(f"the task {task.problem.name}"):
        return PDDLReader().parse_problem_string(task.domain.text, print_task(task))


def from_unified(problem: Problem) -> Task:
    """unified-planning's `Problem` as a task. Raises InvalidInput if PDDL cannot express it, and
    NotJudged if it uses a feature that our checker does not support.
    """
    with _refusals(f"unified-planning's problem {problem.name!r}"):
        writer = _writer(problem)
        domain, text = writer.get_domain(), writer.get_problem()
    return read_task(domain, text)


def plan_to_unified(problem: Problem, plan: Plan) -> SequentialPlan:
    """A plan for a `to_unified` problem as a `SequentialPlan`. Raises InvalidInput if refused."""
    from unified_planning.io import PDDLReader

    with _refusals("the plan"):
        return PDDLReader().parse_plan_string(problem, str(plan))


def plan_from_unified(problem: Problem, plan: SequentialPlan) -> Plan:
    """A `SequentialPlan` as a plan in the names of `from_unified`'s task. Raises InvalidInput."""
    with _refusals(f"a {type(plan).__name__} for unified-planning's problem {problem.name!r}"):
        writer = _writer(problem)
        writer.get_domain()  # both must come before get_plan: they choose the names it uses
        writer.get_problem()
        lines = writer.get_plan(plan).splitlines()
    actions = [line for line in map(str.strip, lines) if line.startswith("(")]
    return Plan(tuple(tuple(parse(action)) for action in actions))


def _writer(problem: Problem) -> Any:
    from unified_planning.io import PDDLWriter

    return PDDLWriter(problem)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn whatever unified-planning raises into InvalidInput about `what`."""
    from unified_planning.exceptions import UPException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unified-planning uses deprecated parts of pyparsing
        try:
            yield
        except (UPException, AssertionError, KeyError, NotImplementedError, ValueError) as error:
            raise InvalidInput(
                f"{what} cannot be converted: {type(error).__name__}: {error}; write it as PDDL "
                "and check that instead"
            ) from error
