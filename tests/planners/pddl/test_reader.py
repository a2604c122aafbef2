"""Our reader against that of unified-planning, on every domain: they see the same task."""

import warnings
from typing import Any

import pytest

from planners.pddl import Task
from tests.planners.checking.test_agreement import NAMES, text_of, walked_task


def read_by_unified_planning(domain: str, problem: str) -> Any:
    from unified_planning.io import PDDLReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its use of pyparsing
        return PDDLReader().parse_problem_string(domain, problem)


def atom(expression: Any) -> tuple[str, ...]:
    return (expression.fluent().name, *(str(argument) for argument in expression.args))


def ours(task: Task) -> tuple[Any, ...]:
    schemas = {
        name: [kinds[0] for _, kinds in schema.parameters]
        for name, schema in task.domain.actions.items()
    }
    return set(task.problem.objects), set(task.problem.init), set(task.problem.goal[1:]), schemas


@pytest.mark.parametrize("name", NAMES)
def test_both_readers_see_the_same_task(name: str) -> None:
    problem, task, _ = walked_task(name, 5)
    theirs = read_by_unified_planning(text_of(name), problem)
    root = "object"
    objects = {(o.name, o.type.name if o.type.name else root) for o in theirs.all_objects}
    facts = {atom(f) for f, value in theirs.explicit_initial_values.items() if value.is_true()}
    goals = [part for goal in theirs.goals for part in (goal.args if goal.is_and() else [goal])]
    schemas = {a.name: [p.type.name for p in a.parameters] for a in theirs.actions}
    assert (objects, facts, {atom(goal) for goal in goals}, schemas) == ours(task)
