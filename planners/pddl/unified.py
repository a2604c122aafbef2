"""Conversion between our tasks and plans and unified-planning's `Problem` and `SequentialPlan`.

Both ways go through PDDL text. unified-planning is imported on first use, which takes a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planners.errors import InvalidInput, NotJudged
from planners.pddl.printing import print_task
from planners.pddl.reader import Task, read_task
from planners.pddl.sexpr import parse
from planners.records import Plan

if TYPE_CHECKING:
    from unified_planning.model import Problem
    from unified_planning.plans import SequentialPlan


KNOWN = frozenset(
    (
        "ACTION_BASED", "SIMPLE_NUMERIC_PLANNING", "GENERAL_NUMERIC_PLANNING",
        "CONTINUOUS_NUMBERS", "DISCRETE_NUMBERS", "INT_FLUENTS", "NUMERIC_FLUENTS", "REAL_FLUENTS",
        "NEGATIVE_CONDITIONS", "DISJUNCTIVE_CONDITIONS", "EQUALITIES", "EXISTENTIAL_CONDITIONS",
        "UNIVERSAL_CONDITIONS", "CONDITIONAL_EFFECTS", "FORALL_EFFECTS", "INCREASE_EFFECTS",
        "DECREASE_EFFECTS", "FLUENTS_IN_NUMERIC_ASSIGNMENTS",
        "STATIC_FLUENTS_IN_NUMERIC_ASSIGNMENTS", "FLAT_TYPING", "HIERARCHICAL_TYPING",
        "ACTIONS_COST", "FINAL_VALUE", "PLAN_LENGTH", "FLUENTS_IN_ACTIONS_COST",
        "STATIC_FLUENTS_IN_ACTIONS_COST", "INT_NUMBERS_IN_ACTIONS_COST",
        "REAL_NUMBERS_IN_ACTIONS_COST", "UNDEFINED_INITIAL_NUMERIC",
    )
)  # fmt: skip
"""The features of unified-planning that PDDL can say and our checker judges."""


def to_unified(task: Task) -> Problem:
    """A task as unified-planning's `Problem`. Raises InvalidInput if it is refused there."""
    from unified_planning.io import PDDLReader

    with _refusals(f"the task {task.problem.name}"):
        return PDDLReader().parse_problem_string(task.domain.text, print_task(task))


def from_unified(problem: Problem) -> Task:
    """unified-planning's `Problem` as a task. Raises InvalidInput if PDDL cannot express it, and
    NotJudged if it uses a feature that our checker does not support.
    """
    from unified_planning.model import Problem

    if not isinstance(problem, Problem):
        raise InvalidInput(f"a {type(problem).__name__} of unified-planning is not a Problem")
    # Its writer leaves out what PDDL has no words for, and the task would be another one.
    if beyond := sorted(problem.kind.features - KNOWN):
        raise NotJudged(f"unified-planning's problem {problem.name!r} uses {', '.join(beyond)}")
    for action in problem.actions:
        for metric in problem.quality_metrics:
            # Its writer fails at it, and at the next problem too.
            if metric.is_minimize_action_costs() and metric.get_action_cost(action) is None:
                raise InvalidInput(
                    f"unified-planning's problem {problem.name!r} has no cost for the action "
                    f"{action.name!r}: give MinimizeActionCosts a default"
                )
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
    from unified_planning.plans import SequentialPlan

    if not isinstance(plan, SequentialPlan):
        raise InvalidInput(f"a {type(plan).__name__} is not a SequentialPlan of unified-planning")
    with _refusals(f"a {type(plan).__name__} for unified-planning's problem {problem.name!r}"):
        writer = _writer(problem)
        writer.get_domain()  # both must come before get_plan: they choose the names it uses
        writer.get_problem()
        lines = writer.get_plan(plan).splitlines()
    actions = [line for line in map(str.strip, lines) if line.startswith("(")]
    assert len(actions) == len(plan.actions)
    return Plan(tuple(tuple(parse(action)) for action in actions))


def _writer(problem: Problem) -> Any:
    from unified_planning.io import PDDLWriter

    return PDDLWriter(problem)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn whatever unified-planning or its parser raises into InvalidInput about `what`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unified-planning uses deprecated parts of pyparsing
        warnings.filterwarnings("error", "The PDDL printer cannot exactly represent")
        try:
            yield
        except Exception as error:
            raise InvalidInput(
                f"{what} cannot be converted: {type(error).__name__}: {error}; write it as PDDL "
                "and check that instead"
            ) from error
