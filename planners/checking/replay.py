"""The naive plan checker: sets of tuples, no memo, no compilation, no code of the fast one.

Tests hold the fast checker equal to it, and it decides which broken plans serve as canaries. It is
slow on purpose; do not make it clever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from time import monotonic
from typing import Any

from planners.errors import NotJudged
from planners.pddl import Task, formulas
from planners.records import Atom, Formula, Outcome, Plan

Env = dict[str, str]
TOO_LONG = "the naive replay takes too long"


class Replay:
    """A task's current state: atoms that hold, numbers, and the types of each object. Steps and
    quantifiers raise NotJudged after the time `deadline`.
    """

    def __init__(self, task: Task, deadline: float = math.inf) -> None:
        self.task, self.deadline = task, deadline
        self.state: set[Atom] = set(task.problem.init)
        self.numbers: dict[Atom, Any] = dict(task.values)
        self.kinds = {name: task.domain.ancestors(kind) for name, kind in task.problem.objects}
        self.derive()

    def step(self, name: str, *arguments: str) -> Outcome | None:
        """Apply a ground action and return None, or return the outcome that makes it bad."""
        if monotonic() > self.deadline:
            raise NotJudged(TOO_LONG)
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
        numbers: dict[Atom, Any] = {}
        try:
            self.effects(schema.effect, env, adds, deletes, numbers)
            changed = {fluent: self.after(fluent, effects) for fluent, effects in numbers.items()}
        except (KeyError, ZeroDivisionError):
            return Outcome.PRECONDITION_FAILED
        if any(map(conflicting, numbers.values())):
            return Outcome.PRECONDITION_FAILED
        self.state = (self.state - deletes) | adds
        self.numbers.update(changed)
        self.derive()
        return None

    def spread(self, parameters: Any, env: Env) -> Iterator[Env]:
        """Every binding of quantified parameters."""
        ranges = [[o for o, k in self.kinds.items() if k & set(kinds)] for _, kinds in parameters]
        for choice in product(*ranges):
            if monotonic() > self.deadline:
                raise NotJudged(TOO_LONG)
            yield {**env, **dict(zip([v for v, _ in parameters], choice, strict=True))}

    def true(self, f: Formula, env: Env) -> bool:
        """Whether a condition holds."""
        return self.truth(f, env) is True

    def truth(self, f: Formula, env: Env) -> bool | None:
        """The truth value of a condition: True, False, or None if it hangs on an undefined number.

        None counts between False and True: `and` is the least of its parts, `or` the greatest.
        """
        match f[0]:
            case "and":
                return least([self.truth(part, env) for part in f[1:]])
            case "or":
                return negated(least([negated(self.truth(part, env)) for part in f[1:]]))
            case "not":
                return negated(self.truth(f[1], env))
            case "imply":
                return self.truth(("or", ("not", f[1]), f[2]), env)
            case "forall":
                return least([self.truth(f[2], inner) for inner in self.spread(f[1], env)])
            case "exists":
                return negated(self.truth(("forall", f[1], ("not", f[2])), env))
            case "=":
                return ground(f, env)[1] == ground(f, env)[2]
            case formulas.COMPARE:
                return self.compare(f, env)
        atom = ground(f, env)
        return atom in self.state or atom in self.derived

    def derive(self) -> None:
        """Derive what the rules say of the state: all objects, again and again, until no more."""
        self.derived: set[Atom] = set()
        for stratum in self.task.domain.rules:
            size = -1
            while size != len(self.derived):
                size = len(self.derived)
                for rule in stratum:
                    for env in self.spread(rule.parameters, {}):
                        if self.true(rule.condition, env):
                            self.derived.add((rule.predicate, *env.values()))

    def compare(self, f: Formula, env: Env) -> bool | None:
        """Whether a numeric comparison holds; None if a side is undefined."""
        try:
            a, b = self.number(f[2], env), self.number(f[3], env)
        except (KeyError, ZeroDivisionError):
            return None
        return {"=": a == b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[f[1]]

    def number(self, e: Any, env: Env) -> Any:
        """The value of a numeric expression. Raises KeyError or ZeroDivisionError if undefined."""
        if isinstance(e, int | Fraction):
            return e
        if e[0] == formulas.FLUENT:
            return self.numbers[ground(e[1:], env)]
        value = self.number(e[1], env)
        for part in e[2:]:
            value = arithmetic(e[0], value, self.number(part, env))
        return value

    def after(self, fluent: Atom, effects: Any) -> Any:
        """The value of a number after effects on it in this order."""
        value = self.numbers.get(fluent)
        for kind, amount in effects:
            if kind == "assign":
                value = amount
            elif value is None:
                raise KeyError(fluent)
            else:
                sign = {"increase": "+", "decrease": "-", "scale-up": "*", "scale-down": "/"}[kind]
                value = arithmetic(sign, value, amount)
        return value

    def effects(
        self, f: Formula, env: Env, adds: set[Atom], deletes: set[Atom], numbers: dict[Atom, Any]
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
            case "assign" | "increase" | "decrease" | "scale-up" | "scale-down":
                numbers.setdefault(ground(f[1], env), []).append((f[0], self.number(f[2], env)))
            case _:
                adds.add(ground(f, env))


def replay(task: Task, plan: Plan, seconds: float = math.inf) -> tuple[Outcome, int | None]:
    """Outcome of a plan and index of its first bad step, if any, by replay on a set of atoms.

    Raises NotJudged if its quantifiers take longer than `seconds`.
    """
    run = Replay(task, monotonic() + seconds)
    for index, action in enumerate(plan.actions):
        bad = run.step(*action)
        if bad is not None:
            return bad, index
    return (Outcome.VALID if run.true(task.problem.goal, {}) else Outcome.GOAL_NOT_REACHED), None


def ground(atom: Any, env: Env) -> Atom:
    """An atom with its variables replaced by objects."""
    return tuple(env.get(word, word) for word in atom)


def arithmetic(sign: str, a: Any, b: Any) -> Any:
    """`a` and `b` combined by +, -, * or /. Raises NotJudged beyond the bounds of all numbers."""
    if sign == "/":
        found = Fraction(a) / b
    else:
        found = a + b if sign == "+" else a - b if sign == "-" else a * b
    if max(found.numerator.bit_length(), found.denominator.bit_length()) > formulas.MOST_BITS:
        raise NotJudged(f"a number grows beyond {formulas.MOST_BITS} bits")
    return found


def conflicting(effects: list[tuple[str, Any]]) -> bool:
    """Whether the result of effects on one number depends on their order."""
    kinds = {kind for kind, _ in effects}
    if "assign" in kinds:
        return len(set(effects)) > 1
    return bool(kinds & {"increase", "decrease"}) and bool(kinds & {"scale-up", "scale-down"})


def least(truths: list[bool | None]) -> bool | None:
    """False if one is false, else None if one is undefined, else True."""
    return False if False in truths else None if None in truths else True


def negated(truth: bool | None) -> bool | None:
    """The opposite; undefined stays undefined."""
    return None if truth is None else not truth
