"""Evaluation of PDDL conditions and effects: connectives, quantifiers, conditions, numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from planners.pddl.formulas import ASSIGNMENTS, COMPARE
from planners.pddl.reader import Domain
from planners.records import Atom, Formula

Binding = dict[str, str]


class Conflict(Exception):
    """An effect cannot be applied: it uses an undefined number or divides by zero."""


@dataclass(frozen=True, slots=True)
class World:
    """A state: the atoms it has, its numeric fluents, and each object's type and ancestors."""

    has: Callable[[Atom], bool]
    values: dict[Atom, float]
    kinds: dict[str, set[str]]
    objects: tuple[tuple[str, str], ...]


def substitute(formula: Any, binding: Binding) -> Any:
    """A formula with its variables replaced by objects."""
    if isinstance(formula, str):
        return binding.get(formula, formula)
    if isinstance(formula, tuple):
        return tuple(substitute(part, binding) for part in formula)
    return formula


def bindings(parameters: Any, binding: Binding, world: World) -> Iterator[Binding]:
    """Every extension of a binding by objects for the quantified parameters."""
    choices = [
        [name for name, _ in world.objects if not world.kinds[name].isdisjoint(kinds)]
        for _, kinds in parameters
    ]
    for names in product(*choices):
        yield {**binding, **{p: n for (p, _), n in zip(parameters, names, strict=True)}}


def holds(formula: Formula, binding: Binding, world: World) -> bool:
    """Whether a condition holds. A comparison with an undefined number is false."""
    head = formula[0]
    if head == "and":
        return all(holds(part, binding, world) for part in formula[1:])
    if head == "or":
        return any(holds(part, binding, world) for part in formula[1:])
    if head == "not":
        return not holds(formula[1], binding, world)
    if head == "imply":
        return not holds(formula[1], binding, world) or holds(formula[2], binding, world)
    if head == "forall":
        return all(holds(formula[2], b, world) for b in bindings(formula[1], binding, world))
    if head == "exists":
        return any(holds(formula[2], b, world) for b in bindings(formula[1], binding, world))
    if head == "=":
        return binding.get(formula[1], formula[1]) == binding.get(formula[2], formula[2])
    if head == COMPARE:
        return _compare(formula, binding, world)
    return world.has(substitute(formula, binding))


def _compare(formula: Formula, binding: Binding, world: World) -> bool:
    left, right = value_of(formula[2], binding, world), value_of(formula[3], binding, world)
    if left is None or right is None:
        return False
    operator = formula[1]
    if operator == "=":
        return left == right
    if operator in ("<", "<="):
        return left < right or (operator == "<=" and left == right)
    return left > right or (operator == ">=" and left == right)


def value_of(expression: Any, binding: Binding, world: World) -> float | None:
    """The value of a numeric expression; None if it is undefined."""
    if isinstance(expression, float):
        return expression
    if expression[0] == "fluent":
        return world.values.get(substitute(expression[1:], binding))
    operator = expression[0]
    left, right = (value_of(part, binding, world) for part in expression[1:])
    if left is None or right is None or (operator == "/" and right == 0):
        return None
    if operator in "+-":
        return left + right if operator == "+" else left - right
    return left * right if operator == "*" else left / right


def changes(
    effect: Formula, binding: Binding, world: World
) -> tuple[set[Atom], set[Atom], dict[Atom, float]]:
    """Atoms added, atoms deleted and numbers assigned by an effect, evaluated before it applies.

    Raises Conflict if a number or its change is undefined.
    """
    adds: set[Atom] = set()
    deletes: set[Atom] = set()
    assigned: dict[Atom, float] = {}
    _collect(effect, binding, world, adds, deletes, assigned)
    return adds, deletes, assigned


def _collect(
    effect: Formula,
    binding: Binding,
    world: World,
    adds: set[Atom],
    deletes: set[Atom],
    assigned: dict[Atom, float],
) -> None:
    head = effect[0]
    if head == "and":
        for part in effect[1:]:
            _collect(part, binding, world, adds, deletes, assigned)
    elif head == "not":
        deletes.add(substitute(effect[1], binding))
    elif head == "forall":
        for inner in bindings(effect[1], binding, world):
            _collect(effect[2], inner, world, adds, deletes, assigned)
    elif head == "when":
        if holds(effect[1], binding, world):
            _collect(effect[2], binding, world, adds, deletes, assigned)
    elif head in ASSIGNMENTS:
        fluent = substitute(effect[1], binding)
        assigned[fluent] = _assigned(head, fluent, effect[2], binding, world, assigned)
    else:
        adds.add(substitute(effect, binding))


@lru_cache(maxsize=256)
def changing(domain: Domain) -> frozenset[str]:
    """The predicates that some action of a domain adds or deletes; all others are static."""
    return frozenset().union(*(_changed(schema.effect) for schema in domain.actions.values()))


@lru_cache(maxsize=256)
def compares(domain: Domain) -> bool:
    """Whether some action of a domain compares numbers, in a precondition or a (when ...)."""

    def within(formula: Any) -> bool:
        return isinstance(formula, tuple) and (COMPARE in formula or any(map(within, formula)))

    return any(within((s.precondition, s.effect)) for s in domain.actions.values())


def _changed(effect: Formula) -> frozenset[str]:
    head = effect[0]
    if head == "and":
        return frozenset().union(*map(_changed, effect[1:]))
    if head in ("forall", "when"):
        return _changed(effect[2])
    if head == "not":
        return frozenset(effect[1][:1])
    return frozenset() if head in ASSIGNMENTS else frozenset((head,))


def _assigned(
    kind: str,
    fluent: Atom,
    expression: Any,
    binding: Binding,
    world: World,
    assigned: dict[Atom, float],
) -> float:
    """The new value of a fluent. Raises Conflict if it or its change is undefined."""
    amount = value_of(expression, binding, world)
    # Starts from what the same action has assigned so far: its several increases add up.
    before = assigned.get(fluent, world.values.get(fluent))
    if amount is None or (before is None and kind != "assign"):
        raise Conflict(f"the number ({' '.join(fluent)}) or its change is undefined")
    if kind == "assign" or before is None:
        return amount
    if kind in ("increase", "decrease"):
        return before + amount if kind == "increase" else before - amount
    if kind == "scale-up":
        return before * amount
    if amount == 0:
        raise Conflict(f"division of ({' '.join(fluent)}) by zero")
    return before / amount
