"""Printing of tasks and formulas as PDDL text; reading it again gives the same task."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from planners.pddl.formulas import (
    ARITHMETIC,
    ASSIGNMENTS,
    COMPARE,
    CONNECTIVES,
    OBJECT,
    Number,
    Parameters,
    number_text,
)
from planners.pddl.reader import Task
from planners.pddl.sexpr import show
from planners.records import Atom, Formula, Problem

Binding = dict[str, str]


def print_problem(problem: Problem, numbers: str = "", metric: str = "") -> str:
    """A problem as PDDL text, with the text of its numeric facts and of its metric section.

    Its objects must not include the domain's constants, which the domain declares.
    """
    typed = any(kind != OBJECT for _, kind in problem.objects)
    objects = "".join(
        f"\n    {name}" + (f" - {kind}" if typed else "") for name, kind in problem.objects
    )
    facts = "".join(f"\n    {show(atom)}" for atom in problem.init)
    return (
        f"(define (problem {problem.name})\n  (:domain {problem.domain})\n  (:objects{objects})\n"
        f"  (:init{facts}{numbers})\n  (:goal {_goal(problem.goal)}){metric})\n"
    )


def print_task(task: Task) -> str:
    """A task's problem as PDDL text, with its numeric values and metric."""
    numbers = "".join(f"\n    {value_text(fluent, value)}" for fluent, value in task.values)
    metric = "" if task.metric is None else f"\n  (:metric {metric_text(task)})"
    return print_problem(without_constants(task).problem, numbers, metric)


def without_constants(task: Task) -> Task:
    """The task without the domain's constants among its problem's objects."""
    constants = dict(task.domain.constants)
    own = tuple(pair for pair in task.problem.objects if pair[0] not in constants)
    return replace(task, problem=replace(task.problem, objects=own))


def value_text(fluent: Atom, value: Number) -> str:
    """A numeric value as PDDL text: `(= (fuel truck1) 7)`."""
    return f"(= {show(fluent)} {number_text(value)})"


def metric_text(task: Task) -> str:
    """A task's metric as PDDL text: `minimize (total-cost)`. The task must have one."""
    return f"{'maximize' if task.maximize else 'minimize'} {show(_expression(task.metric, {}))}"


def formula_text(formula: Formula, binding: Binding | None = None) -> str:
    """A condition or effect as PDDL text, with bound variables replaced by their objects."""
    return show(_words(formula, binding or {}))


def _goal(goal: Formula) -> str:
    if goal[0] == "and":
        return "(and" + "".join(f"\n    {formula_text(part)}" for part in goal[1:]) + ")"
    return formula_text(goal)


def _words(formula: Formula, binding: Binding) -> list[Any]:
    head, *rest = formula
    if head in ("forall", "exists"):
        parameters, inner = rest
        # A quantified variable hides an outer one of the same name.
        free = {name: to for name, to in binding.items() if name not in dict(parameters)}
        return [head, _typed(parameters), _words(inner, free)]
    if head == COMPARE:
        return [rest[0], *(_expression(part, binding) for part in rest[1:])]
    if head in ASSIGNMENTS:
        return [head, _words(rest[0], binding), _expression(rest[1], binding)]
    if head in CONNECTIVES:
        return [head, *(_words(part, binding) for part in rest)]
    return [head, *(binding.get(word, word) for word in rest)]


def _typed(parameters: Parameters) -> list[Any]:
    """A parameter list; without types if all of them are `object`."""
    words: list[Any] = []
    plain = all(kinds == (OBJECT,) for _, kinds in parameters)
    for name, kinds in parameters:
        kind = kinds[0] if len(kinds) == 1 else ["either", *kinds]
        words += [name] if plain else [name, "-", kind]
    return words


def _expression(expression: Any, binding: Binding) -> Any:
    if isinstance(expression, int | Fraction):
        return number_text(expression)
    head, *rest = expression
    if head in ARITHMETIC:
        return [head, *(_expression(part, binding) for part in rest)]
    return [binding.get(word, word) for word in rest]
