"""Renaming the objects of problems and plans, and shuffling and sorting the parts of a problem."""

from __future__ import annotations

from random import Random
from typing import Any

from planners.pddl.formulas import FLUENT, as_float
from planners.records import Formula, Plan, Problem


def rename(problem: Problem, names: dict[str, str]) -> Problem:
    """The problem under other object names; objects that are not in `names` keep theirs."""

    def renamed(formula: Formula) -> Formula:
        if formula[0] in ("forall", "exists"):  # the types of its variables are no objects
            return (*formula[:2], renamed(formula[2]))
        own = int(formula[0] == FLUENT)  # a function's name is no object's
        return tuple(
            renamed(part) if isinstance(part, tuple) else names.get(part, part) if i > own else part
            for i, part in enumerate(formula)
        )

    return Problem(
        problem.domain,
        problem.name,
        tuple((names.get(name, name), kind) for name, kind in problem.objects),
        tuple(renamed(atom) for atom in problem.init),
        renamed(problem.goal),
    )


def shuffle(problem: Problem, rng: Random) -> Problem:
    """The problem with its objects, facts and goals in random order."""
    goals = problem.goal[1:] if problem.goal[0] == "and" else (problem.goal,)
    return Problem(
        problem.domain,
        problem.name,
        tuple(rng.sample(problem.objects, len(problem.objects))),
        tuple(rng.sample(problem.init, len(problem.init))),
        ("and", *rng.sample(goals, len(goals))),
    )


def rename_plan(plan: Plan, names: dict[str, str], actions: dict[str, str]) -> Plan:
    """A plan under other names of objects and of actions; words that are in neither stay."""
    return Plan(
        tuple(
            (actions.get(name, name), *(names.get(word, word) for word in words))
            for name, *words in plan.actions
        )
    )


def canonical(problem: Problem) -> Problem:
    """The problem with sorted objects, facts and goals, so that equal keys give equal texts."""
    goal = problem.goal
    if goal[0] == "and":
        goal = ("and", *sorted(goal[1:], key=lambda part: repr(keyed(part))))
    return Problem(
        problem.domain,
        problem.name,
        tuple(sorted(problem.objects)),
        tuple(sorted(problem.init)),
        goal,
    )


def keyed(part: Any) -> Any:
    """A formula as it stands in a task's key: numbers as floats where a float is exact."""
    if isinstance(part, tuple):
        return tuple(map(keyed, part))
    if isinstance(part, str):
        return "fluent" if part == FLUENT else part  # as it stands in the keys that are stored
    short = as_float(part)
    return str(part) if short is None else short
