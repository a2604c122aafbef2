"""The naive plan checker: sets of tuples, no memo, no compilation, no code of the fast one.

Tests hold the fast checker equal to it, and it decides which broken plans serve as canaries. It is
slow on purpose; do not make it clever.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from planners.pddl import Task, formulas
from planners.records import Atom, Formula, Outcome, Plan

Env = dict[str, str]


class Replay:
    """A task's current state: atoms that hold, numbers, and the types of each object."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.state: set[Atom] = set(task.problem.init)
        self.numbers: dict[Atom, float] = dict(task.values)
        self.kinds = {name: task.domain.ancestors(kind) for name, kind in task.problem.objects}

    def step(self, name: str, *arguments: str) -> Outcome | None:
        """Apply a ground action and return None, or return the outcome that makes it bad."""
        schema = self.task.domain.actions.get(name)
        if schema is None:
            return Outcome.UNKNOWN_ACTION
        if len(arguments) != len(schema.parameters):
            return Outcome.WRONG_ARITY
        if any(argument not in self.kinds for argument in arguments):
            return Outcome.UNKNOWN_OBJECT
        pairs = list(zip(arguments, schema.parameters, strict=True))
        if any(not self.kinds[argument] & set(kinds) for argument, (_, kinds) in pairs):
            return Outcome.WRONG_TYPE
        env = {variable: argument for argument, (variable, _) in pairs}
        if not self.true(schema.precondition, env):
            return Outcome.PRECONDITION_FAILED
        adds: set[Atom] = set()
        deletes: set[Atom] = set()
        numbers: dict[Atom, float] = {}
        try:
            self.effects(schema.effect, env, adds, deletes, numbers)
        except (KeyError, ZeroDivisionError):
            return Outcome.PRECONDITION_FAILED
        self.state = (self.state - deletes) | adds
        self.numbers.update(numbers)
        return None

    def spread(self, parameters: Any, env: Env) -> Iterator[Env]:
        """Every binding of quantified parameters."""
        ranges = [[o for o, k in self.kinds.items() if k & set(kinds)] for _, kinds in parameters]
        for choice in product(*ranges):
            yield {**env, **dict(zip([v for v, _ in parameters], choice, strict=True))}

    def true(self, f: Formula, env: Env) -> bool:
        """Whether a condition holds."""
        match f[0]:
            case "and":
                return all(self.true(part, env) for part in f[1:])
            case "or":
                return any(self.true(part, env) for part in f[1:])
            case "not":
                return not self.true(f[1], env)
            case "imply":
                return self.true(f[2], env) if self.true(f[1], env) else True
            case "forall":
                return all(self.true(f[2], inner) for inner in self.spread(f[1], env))
            case "exists":
                return any(self.true(f[2], inner) for inner in self.spread(f[1], env))
            case "=":
                return ground(f, env)[1] == ground(f, env)[2]
            case formulas.COMPARE:
                return self.compare(f, env)
        return ground(f, env) in self.state

    def compare(self, f: Formula, env: Env) -> bool:
        """Whether a numeric comparison holds; false if a side is undefined."""
        try:
            a, b = self.number(f[2], env), self.number(f[3], env)
        except (KeyError, ZeroDivisionError):
            return False
        return {"=": a == b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[f[1]]

    def number(self, e: Any, env: Env) -> float:
        """The value of a numeric expression. Raises KeyError or ZeroDivisionError if undefined."""
        if isinstance(e, float):
            return e
        if e[0] == "fluent":
            return self.numbers[ground(e[1:], env)]
        return arithmetic(e[0], self.number(e[1], env), self.number(e[2], env))

    def effects(
        self, f: Formula, env: Env, adds: set[Atom], deletes: set[Atom], numbers: dict[Atom, float]
    ) -> None:
        """Collect the changes of an effect, evaluated in the state before it."""
        match f[0]:
            case "and":
                for part in f[1:]:
                    self.effects(part, env, adds, deletes, numbers)
            case "not":
                deletes.add(ground(f[1], env))
            case "forall":
                for inner in self.spread(f[1], env):
                    self.effects(f[2], inner, adds, deletes, numbers)
            case "when":
                if self.true(f[1], env):
                    self.effects(f[2], env, adds, deletes, numbers)
            case "assign":
                numbers[ground(f[1], env)] = self.number(f[2], env)
            case "increase" | "decrease" | "scale-up" | "scale-down":
                fluent = ground(f[1], env)
                before = numbers[fluent] if fluent in numbers else self.numbers[fluent]
                sign = {"increase": "+", "decrease": "-", "scale-up": "*", "scale-down": "/"}[f[0]]
                numbers[fluent] = arithmetic(sign, before, self.number(f[2], env))
            case _:
                adds.add(ground(f, env))


def replay(task: Task, plan: Plan) -> tuple[Outcome, int | None]:
    """Outcome of a plan and index of its first bad step, if any, by replay on a set of atoms."""
    run = Replay(task)
    for index, action in enumerate(plan.actions):
        bad = run.step(*action)
        if bad is not None:
            return bad, index
    return (Outcome.VALID if run.true(task.problem.goal, {}) else Outcome.GOAL_NOT_REACHED), None


def ground(atom: Any, env: Env) -> Atom:
    """An atom with its variables replaced by objects."""
    return tuple(env.get(word, word) for word in atom)


def arithmetic(sign: str, a: float, b: float) -> float:
    """`a` and `b` combined by +, -, * or /."""
    if sign == "/":
        return a / b
    return a + b if sign == "+" else a - b if sign == "-" else a * b
