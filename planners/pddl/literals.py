"""Literals: splitting conditions, effects and goals into them, and which predicates they change."""

from __future__ import annotations

from collections.abc import Iterator

from planners.errors import InvalidInput
from planners.pddl.formulas import ASSIGNMENTS, COMPARE
from planners.records import Atom, Formula


def literals(formula: Formula) -> tuple[list[Atom], list[Atom], list[Formula]]:
    """Split a conjunction into atoms, negated atoms, and the parts that are neither.

    In effects, (when ...) and assignments count as atoms: the caller must look for them.
    """
    needs: list[Atom] = []
    forbids: list[Atom] = []
    rest: list[Formula] = []
    for part in conjuncts(formula):
        if is_atom(part):
            needs.append(part)
        elif part[0] == "not" and is_atom(part[1]):
            forbids.append(part[1])
        else:
            rest.append(part)
    return needs, forbids, rest


def conjuncts(formula: Formula) -> Iterator[Formula]:
    """The parts of a conjunction, in order, those of conjunctions in it included."""
    stack = [formula]
    while stack:
        part = stack.pop()
        if part[0] == "and":
            stack.extend(reversed(part[1:]))
        else:
            yield part


def is_atom(formula: Formula) -> bool:
    """Whether a condition is a plain atom."""
    return formula[0] not in ("and", "or", "not", "imply", "forall", "exists", "=", COMPARE)


def goal_atoms(goal: Formula) -> list[Atom]:
    """The atoms of a conjunctive goal. Raises InvalidInput if the goal is anything else."""
    literals = list(goal[1:]) if goal[0] == "and" else [goal]
    for literal in literals:
        if not is_atom(literal) or any(not isinstance(part, str) for part in literal):
            raise InvalidInput(
                f"the compact prompt takes a conjunction of atoms as goal, found {literal[0]!r}; "
                "choose a prompt format that prints the whole problem"
            )
    return literals


def signs(formula: Formula, plain: bool = True) -> Iterator[tuple[str, bool]]:
    """The predicates of a condition, each with whether it stands there without negation."""
    head = formula[0]
    if head in ("and", "or"):
        for part in formula[1:]:
            yield from signs(part, plain)
    elif head == "not":
        yield from signs(formula[1], not plain)
    elif head == "imply":
        yield from signs(formula[1], not plain)
        yield from signs(formula[2], plain)
    elif head in ("forall", "exists"):
        yield from signs(formula[2], plain)
    elif is_atom(formula):
        yield head, plain


def changed_by(effect: Formula) -> frozenset[str]:
    """The predicates that an effect adds or deletes."""
    head = effect[0]
    if head == "and":
        return frozenset().union(*map(changed_by, effect[1:]))
    if head in ("forall", "when"):
        return changed_by(effect[2])
    if head == "not":
        return frozenset(effect[1][:1])
    return frozenset() if head in ASSIGNMENTS else frozenset((head,))
