"""Evaluation of PDDL conditions and effects: connectives, quantifiers, conditions, numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from operator import eq, ge, gt, le, lt
from typing import Any

from planners.clock import Clock
from planners.errors import NotJudged
from planners.pddl.declarations import Rule
from planners.pddl.formulas import (
    ASSIGNMENTS,
    COMPARE,
    FLUENT,
    Number,
    Parameters,
    calculated,
    number_text,
)
from planners.pddl.reader import Domain
from planners.pddl.sexpr import show, words_of
from planners.records import Atom, Formula

Binding = dict[str, str]
MOST_CHANGES = 1_000_000
ORDER = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
SIGNS = {"increase": "+", "decrease": "-", "scale-up": "*", "scale-down": "/"}
TOGETHER = {"assign": 0, "increase": 1, "decrease": 1, "scale-up": 2, "scale-down": 2}
"""Effects of one group may change a fluent together: their order makes no difference."""


class Conflict(Exception):
    """An effect cannot be applied: a number is undefined, or two effects on it conflict."""


@dataclass(frozen=True, slots=True)
class World:
    """A state: the atoms it has, its numeric fluents, and each object's type and ancestors. What
    is asked of it is evaluated as long as the clock allows.
    """

    has: Callable[[Atom], bool]
    values: dict[Atom, Number]
    kinds: dict[str, set[str]]
    objects: tuple[tuple[str, str], ...]
    clock: Clock = field(default_factory=Clock)

    def of_types(self, kinds: Iterable[str]) -> list[str]:
        """The objects of one of these types, in order."""
        self.clock.tick(len(self.objects))
        return [name for name, _ in self.objects if not self.kinds[name].isdisjoint(kinds)]


def substitute(formula: Any, binding: Binding) -> Any:
    """A formula with its variables replaced by objects."""
    if isinstance(formula, str):
        return binding.get(formula, formula)
    if isinstance(formula, tuple):
        return tuple(substitute(part, binding) for part in formula)
    return formula


def holds(formula: Formula, binding: Binding, world: World, wanted: bool = True) -> bool:
    """Whether a condition is true, or where `wanted` is False, whether it is false.

    A comparison with an undefined number is neither, whatever `not` stands before it (Kleene's
    strong three-valued logic).
    """
    head = formula[0]
    world.clock.tick()
    if head in ("and", "or"):
        every = all if (head == "and") == wanted else any
        return every(holds(part, binding, world, wanted) for part in formula[1:])
    if head == "not":
        return holds(formula[1], binding, world, not wanted)
    if head == "imply":
        return (any if wanted else all)(
            (
                holds(formula[1], binding, world, not wanted),
                holds(formula[2], binding, world, wanted),
            )
        )
    if head in ("forall", "exists"):
        # One binding decides: an example of `exists`, a counterexample of `forall`. Where such a
        # binding is wanted it must surely be one; where none is, not even an undefined one may be.
        example = head == "exists"
        sure = wanted == example
        leaves = list(_leaves(formula[2], example, sure))
        return any(True for _ in _bindings_that_meet(formula[1], leaves, binding, world)) == sure
    if head == "=":
        same = binding.get(formula[1], formula[1]) == binding.get(formula[2], formula[2])
        return same == wanted
    if head == COMPARE:
        return _compare(formula, binding, world) is wanted
    return world.has(substitute(formula, binding)) == wanted


Leaf = tuple[Formula, bool, bool]
"""A condition, the truth value asked of it, and whether it must surely have it (`sure`), or must
only not have the other one.
"""


def _leaves(formula: Formula, wanted: bool, sure: bool) -> Iterator[Leaf]:
    """The conditions that must all be so for a condition to have a truth value."""
    head = formula[0]
    if head == "not":
        yield from _leaves(formula[1], not wanted, sure)
    elif (head == "and" and wanted) or (head == "or" and not wanted):
        for part in formula[1:]:
            yield from _leaves(part, wanted, sure)
    elif head == "imply" and not wanted:
        yield from _leaves(formula[1], True, sure)
        yield from _leaves(formula[2], False, sure)
    else:
        yield formula, wanted, sure


def _bindings_that_meet(
    parameters: Parameters, leaves: Sequence[Leaf], binding: Binding, world: World
) -> Iterator[Binding]:
    """Every extension of a binding by objects for the parameters that meets all leaves. It is one
    dictionary, which changes from one to the next.

    Objects are chosen for one parameter after the other. A leaf is evaluated as soon as its last
    parameter is chosen, so that a choice that cannot succeed is left at once (backtracking).
    """
    choices = {name: world.of_types(kinds) for name, kinds in parameters}
    if not all(choices.values()):
        return
    words = [(leaf, choices.keys() & set(words_of(leaf[0]))) for leaf in leaves]
    names = _in_order(list(choices), [names for _, names in words])
    ready: list[list[Leaf]] = [[] for _ in range(len(names) + 1)]
    for leaf, own in words:
        ready[max((i for i, name in enumerate(names, 1) if name in own), default=0)].append(leaf)
    bound = dict(binding)

    def met(depth: int) -> bool:
        return all(
            holds(leaf, bound, world, wanted) if sure else not holds(leaf, bound, world, not wanted)
            for leaf, wanted, sure in ready[depth]
        )

    def extend(depth: int) -> Iterator[Binding]:
        if depth == len(names):
            yield bound
            return
        for name in choices[names[depth]]:
            world.clock.tick()
            bound[names[depth]] = name
            if met(depth + 1):
                yield from extend(depth + 1)

    if met(0):
        yield from extend(0)


def solutions(
    parameters: Parameters, condition: Formula, binding: Binding, world: World
) -> Iterator[Binding]:
    """Every extension of a binding by objects for the parameters under which a condition holds."""
    leaves = list(_leaves(condition, True, True))
    for found in _bindings_that_meet(parameters, leaves, binding, world):
        yield dict(found)


def _in_order(names: list[str], used: list[set[str]]) -> list[str]:
    """Parameters in an order in which leaves, given by those they use, are complete early."""
    chosen: list[str] = []
    missing = [set(own) for own in used]
    while names:
        # The parameter that most leaves wait for alone comes next, then the first one.
        alone = Counter(name for own in missing if len(own) == 1 for name in own)
        best = max(names, key=alone.__getitem__)
        names.remove(best)
        chosen.append(best)
        for own in missing:
            own.discard(best)
    return chosen


def derive(domain: Domain, world: World) -> set[Atom]:
    """The atoms that a domain's rules derive in a state; `world` must not derive them itself."""
    found: set[Atom] = set()
    inner = replace(world, has=lambda atom: atom in found or world.has(atom))
    for stratum in domain.rules:
        grown = True
        while grown:
            before = len(found)
            for rule in stratum:
                world.clock.look()
                parameters, body = _flat(rule)
                names = [name for name, _ in rule.parameters]
                found |= {
                    (rule.predicate, *(binding[name] for name in names))
                    for binding in solutions(parameters, body, {}, inner)
                }
            grown = len(found) > before
    return found


def _flat(rule: Rule) -> tuple[Parameters, Formula]:
    """A rule's parameters and condition; those of an `exists` around the condition are added, so
    that objects for all of them are chosen together.
    """
    parameters, body = rule.parameters, rule.condition
    while body[0] == "exists" and not dict(body[1]).keys() & dict(parameters).keys():
        parameters, body = parameters + body[1], body[2]
    return parameters, body


def _compare(formula: Formula, binding: Binding, world: World) -> bool | None:
    """Whether a comparison holds; None where a side is undefined."""
    left, right = value_of(formula[2], binding, world), value_of(formula[3], binding, world)
    if left is None or right is None:
        return None
    return bool(ORDER[formula[1]](left, right))


def value_of(expression: Any, binding: Binding, world: World) -> Number | None:
    """The exact value of a numeric expression; None if it is undefined."""
    if isinstance(expression, int | Fraction):
        return expression
    if expression[0] == FLUENT:
        return world.values.get(substitute(expression[1:], binding))
    operator, first, *others = expression
    world.clock.tick(len(others))
    found = value_of(first, binding, world)
    for part in others:
        other = value_of(part, binding, world)
        if found is None or other is None or (operator == "/" and other == 0):
            return None
        found = calculated(operator, found, other)
    return found


@dataclass(slots=True)
class Changes:
    """The atoms that an action adds and deletes, and the numbers it changes.

    `numeric` has every numeric effect on a fluent: what kind it is, and by how much.
    """

    adds: set[Atom] = field(default_factory=set)
    deletes: set[Atom] = field(default_factory=set)
    numeric: dict[Atom, list[tuple[str, Number]]] = field(default_factory=dict)


def changes(
    effect: Formula, binding: Binding, world: World
) -> tuple[set[Atom], set[Atom], dict[Atom, Number]]:
    """Atoms added, atoms deleted and numbers assigned by an effect, evaluated before it applies.

    Raises Conflict if a number or its change is undefined, or two effects on one number conflict:
    their result would depend on their order (PDDL 2.1, Fox and Long 2003, section 5.2).
    """
    found = Changes()
    _collect(effect, binding, world, found)
    assigned = {fluent: _assigned(fluent, all_, world) for fluent, all_ in found.numeric.items()}
    return found.adds, found.deletes, assigned


def _collect(effect: Formula, binding: Binding, world: World, found: Changes) -> None:
    head = effect[0]
    world.clock.tick()
    if head == "and":
        for part in effect[1:]:
            _collect(part, binding, world, found)
    elif head == "not":
        found.deletes.add(substitute(effect[1], binding))
    elif head == "forall":
        for inner in solutions(effect[1], ("and",), binding, world):
            _collect(effect[2], inner, world, found)
    elif head == "when":
        if holds(effect[1], binding, world):
            _collect(effect[2], binding, world, found)
    elif head in ASSIGNMENTS:
        fluent, amount = substitute(effect[1], binding), value_of(effect[2], binding, world)
        if amount is None:
            raise Conflict(f"the change of {show(fluent)} is undefined")
        found.numeric.setdefault(fluent, []).append((head, amount))
    else:
        found.adds.add(substitute(effect, binding))
    if len(found.adds) + len(found.deletes) > MOST_CHANGES:
        raise NotJudged(f"an action of this plan changes more than {MOST_CHANGES:,} facts")


def _assigned(fluent: Atom, effects: list[tuple[str, Number]], world: World) -> Number:
    """The new value of a fluent after all effects on it. Raises Conflict if there is none."""
    (first, value), before = effects[0], world.values.get(fluent)
    for kind, amount in effects[1:]:
        if TOGETHER[kind] != TOGETHER[first] or (kind == "assign" and amount != value):
            one, other = (
                show((kind, fluent, number_text(amount)))
                for kind, amount in ((first, value), (kind, amount))
            )
            raise Conflict(f"{one} conflicts with {other}")
    if first == "assign":
        return value
    if before is None:
        raise Conflict(f"the number {show(fluent)} is undefined")
    for kind, amount in effects:
        if kind == "scale-down" and amount == 0:
            raise Conflict(f"division of {show(fluent)} by zero")
        before = calculated(SIGNS[kind], before, amount)
    return before
