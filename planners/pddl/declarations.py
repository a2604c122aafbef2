"""The sections of PDDL files and their declarations: requirements, types, objects, predicates."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from planners.errors import NotJudged, PddlError
from planners.pddl.formulas import (
    ARITHMETIC,
    ASSIGNMENTS,
    COMPARISONS,
    CONNECTIVES,
    OBJECT,
    Parameters,
    Scope,
    Types,
    condition,
    known_types,
    one_type,
    parameters_of,
    typed_list,
)
from planners.pddl.literals import signs
from planners.pddl.sexpr import Words, located, show
from planners.records import Formula

SUPPORTED = frozenset(
    (
        ":strips",
        ":typing",
        ":negative-preconditions",
        ":disjunctive-preconditions",
        ":equality",
        ":existential-preconditions",
        ":universal-preconditions",
        ":quantified-preconditions",
        ":conditional-effects",
        ":adl",
        ":action-costs",
        ":numeric-fluents",
        ":fluents",
        ":derived-predicates",
    )
)
DOMAIN_SECTIONS = frozenset(
    (":requirements", ":types", ":constants", ":predicates", ":functions", ":action", ":derived")
)
PROBLEM_SECTIONS = frozenset((":domain", ":requirements", ":objects", ":init", ":goal", ":metric"))
MOST_LEVELS = 100
"""Levels of a hierarchy of types."""
RESERVED = CONNECTIVES | COMPARISONS | ASSIGNMENTS | ARITHMETIC
"""PDDL keywords, which no predicate or function may use as its name."""


def sections_of(tree: list[Any], kind: str) -> list[Words]:
    """The sections after `(define (kind name)`. Raises PddlError if the frame is wrong."""
    if len(tree) < 2 or tree[0] != "define" or not isinstance(tree[1], list) or len(tree[1]) != 2:
        raise PddlError(f"expected (define ({kind} NAME) ...)")
    if tree[1][0] != kind or not isinstance(tree[1][1], str):
        raise PddlError(f"expected a {kind}, found a {show(tree[1][0])}")
    for section in tree[2:]:
        if not isinstance(section, list) or not section or not isinstance(section[0], str):
            raise PddlError(f"expected a section in parentheses, found {show(section)[:80]}")
    return tree[2:]


def by_name(sections: list[Words]) -> dict[str, Words]:
    """Each section's contents by its name. Raises PddlError if a section appears twice."""
    found: dict[str, Words] = {}
    for section in sections:
        if section[0] in found:
            raise PddlError(f"{section[0]} appears twice", section.line)
        found[section[0]] = Words(section[1:], section.line)
    return found


def require_known(sections: list[Words], known: frozenset[str]) -> None:
    """Raise NotJudged if there is a section that is not in `known`."""
    for section in sections:
        if section[0] not in known:
            raise NotJudged(
                f"{section[0]} is not supported (supported: {' '.join(sorted(known))})",
                section.line,
            )


@located
def require_supported(section: Words) -> None:
    """Raise NotJudged if a (:requirements ...) section names an unsupported requirement."""
    unsupported = sorted({show(word) for word in section[1:]} - SUPPORTED)
    if unsupported:
        raise NotJudged(
            f"requires {', '.join(unsupported)}; supported: {' '.join(sorted(SUPPORTED))}"
        )


@located
def objects_of(words: list[Any], types: dict[str, Types], what: str) -> tuple[tuple[str, str], ...]:
    """Objects or constants as (name, type) pairs. Raises PddlError if a type is not declared."""
    objects = one_type(typed_list(words), what)
    for name, kind in objects:
        if name.startswith("?"):
            raise PddlError(f"{what} {name!r} looks like a variable")
        known_types((kind,), types)
    return objects


@located
def types_of(words: list[Any]) -> dict[str, Types]:
    """Each type's parents: several if declared with `either`, whose types it is all of. `object`,
    the root, is left out. Raises PddlError on a cycle.
    """
    types: dict[str, Types] = {}
    for name, kinds in typed_list(words):
        if name == OBJECT:
            continue
        known = types.get(name, kinds)
        if (OBJECT,) in (known, kinds):  # which says nothing, as every type is one
            kinds = kinds if known == (OBJECT,) else known
        elif known != kinds:
            raise PddlError(f"type {name!r} is declared twice, with different parents")
        types[name] = kinds
    # A parent that is only mentioned counts as declared, directly below `object`.
    for parent in [parent for kinds in types.values() for parent in kinds]:
        types.setdefault(parent, (OBJECT,))
    types.pop(OBJECT, None)
    levels = {OBJECT: 0}
    try:
        for name in TopologicalSorter(types).static_order():
            levels[name] = 1 + max(map(levels.__getitem__, types.get(name, ())), default=-1)
    except CycleError as error:
        raise PddlError(f"type {error.args[1][0]!r} is its own ancestor") from None
    if (deepest := max(levels.values())) > MOST_LEVELS:
        raise NotJudged(f"types in {deepest} levels; up to {MOST_LEVELS} are supported")
    return types


@located
def function_list(words: list[Any]) -> list[Any]:
    """Function signatures without `- number`. Raises NotJudged for any other result type."""
    kept = []
    for i, word in enumerate(words):
        if isinstance(word, str):
            if word == "-" or (word == "number" and i and words[i - 1] == "-"):
                continue
            raise NotJudged(f"functions of type {word!r} are not supported")
        kept.append(word)
    return kept


@located
def signatures_of(
    words: list[Any], types: dict[str, Types], what: str
) -> dict[str, tuple[Types, ...]]:
    """Predicates or functions by name, with the types of their arguments."""
    found: dict[str, tuple[Types, ...]] = {}
    for entry in words:
        if not isinstance(entry, Words) or not entry or not isinstance(entry[0], str):
            raise PddlError(f"expected a {what} in parentheses, found {show(entry)[:80]}")
        name = entry[0]
        if name in found:
            raise PddlError(f"{what} {name!r} is declared twice", entry.line)
        if name.startswith("?"):
            raise PddlError(f"{what} {name!r} looks like a variable", entry.line)
        kinds = parameters_of(Words(entry[1:], entry.line), types)
        if name == "=" and len(kinds) == 2:
            continue  # some domains declare equality, which is built in
        if name in RESERVED:
            raise PddlError(f"{name!r} is a PDDL keyword and cannot name a {what}", entry.line)
        found[name] = tuple(kind for _, kind in kinds)
    return found


@dataclass(frozen=True, slots=True)
class Rule:
    """A derivation rule: the predicate holds for the objects for which the condition does."""

    predicate: str
    parameters: Parameters
    condition: Formula


@located
def rule_of(section: Words, scope: Scope) -> Rule:
    """The rule of a (:derived ...) section."""
    if len(section) != 3 or not isinstance(section[1], Words) or not section[1]:
        raise PddlError(
            f"expected (:derived (PREDICATE ...) CONDITION), found {show(section)[:80]}"
        )
    predicate, *words = section[1]
    parameters = parameters_of(Words(words, section.line), scope.types)
    inner = scope.with_names(parameters)
    # An atom with these parameters must exist, which checks name, arity and types.
    inner.atom(Words([predicate, *(name for name, _ in parameters)], section.line))
    # It is derived of objects that the predicate takes, even where the rule says less of them.
    narrow = tuple(
        (name, scope.narrowed(own, wanted))
        for (name, own), wanted in zip(parameters, scope.predicates[predicate], strict=True)
    )
    return Rule(predicate, narrow, condition(section[2], inner))


def strata(rules: list[Rule]) -> tuple[tuple[Rule, ...], ...]:
    """Rules in strata: what a rule negates is derived in an earlier stratum, what it uses otherwise
    in an earlier one or its own (Thiebaux, Hoffmann and Nebel 2005, section 2).

    Raises PddlError if there is no such order.
    """
    uses: dict[str, list[tuple[str, bool]]] = {rule.predicate: [] for rule in rules}
    for rule in rules:
        uses[rule.predicate] += [use for use in signs(rule.condition) if use[0] in uses]
    part = _parts({one: [name for name, _ in used] for one, used in uses.items()})
    level = [0] * (1 + max(part.values(), default=0))
    for one in sorted(uses, key=part.__getitem__):
        for name, plain in uses[one]:
            if part[name] != part[one]:
                level[part[one]] = max(level[part[one]], level[part[name]] + (not plain))
            elif not plain:
                raise PddlError(f"derived predicate {one!r} depends on its own negation")
    found: dict[int, list[Rule]] = {}
    for rule in rules:
        found.setdefault(level[part[rule.predicate]], []).append(rule)
    return tuple(tuple(found[number]) for number in sorted(found))


def _parts(uses: dict[str, list[str]]) -> dict[str, int]:
    """The strongly connected component of each name, numbered so that those which it uses come
    first (Tarjan 1972).
    """
    seen, low, part, waiting = dict[str, int](), dict[str, int](), dict[str, int](), list[str]()
    for root in uses:
        path = [] if root in seen else [(root, iter(uses[root]))]
        while path:
            name, others = path[-1]
            if name not in seen:
                seen[name] = low[name] = len(seen)
                waiting.append(name)
            for other in others:
                if other not in seen:
                    path.append((other, iter(uses[other])))
                    break
                if other not in part:
                    low[name] = min(low[name], seen[other])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == seen[name]:
                    number = len(part)
                    while name not in part:
                        part[waiting.pop()] = number
    return part
