"""Reading PDDL: from text to frozen records, strictly, with the line where something is wrong.

Covers STRIPS, typing (hierarchies, `either`), constants, negative and disjunctive conditions,
equality, quantifiers, conditional effects, action costs and numeric fluents. What is outside
(durative actions, derived predicates, preferences, timed literals ...) raises NotJudged, which
names the feature: such a task is not judged, which is not the same as "invalid".

Names are folded to lower case, as PDDL has it (ASCII letters only).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from planners.errors import NotJudged, PddlError
from planners.formulas import (
    NUMBER,
    OBJECT,
    Parameters,
    Scope,
    Types,
    condition,
    effect,
    expression,
    known_types,
    one_type,
    parameters_of,
    typed_list,
)
from planners.records import Atom, Formula, Problem, content_hash
from planners.sexpr import parse, show

Fluent = tuple[str, ...]
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
    )
)


@dataclass(frozen=True, slots=True)
class ActionSchema:
    """An action of the domain; conditions and effects are nested tuples."""

    name: str
    parameters: Parameters
    precondition: Formula
    effect: Formula


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """A PDDL domain. `types` maps each type to its parent; `text` is its canonical form."""

    name: str
    requirements: frozenset[str]
    types: dict[str, str]
    constants: tuple[tuple[str, str], ...]
    predicates: dict[str, tuple[Types, ...]]
    functions: dict[str, tuple[Types, ...]]
    actions: dict[str, ActionSchema]
    text: str

    def ancestors(self, kind: str) -> set[str]:
        """A type and everything above it."""
        found = {kind, OBJECT}
        while kind != OBJECT and self.types[kind] not in found:
            kind = self.types[kind]
            found.add(kind)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A domain and a problem, read and checked against each other. `values` are numeric fluents."""

    domain: Domain
    problem: Problem
    values: tuple[tuple[Fluent, float], ...]
    metric: Any | None
    key: str


# ---------------------------------------------------------------- domain


@lru_cache(maxsize=256)
def read_domain(text: str) -> Domain:
    """Read a domain file's text. Raises PddlError."""
    tree = parse(text)
    sections = _sections(tree, "domain")
    single = _by_name([section for section in sections if section[0] != ":action"])
    _only_known(single, {":requirements", ":types", ":constants", ":predicates", ":functions"})
    requirements = frozenset(map(show, single.get(":requirements", [":strips"])))
    unsupported = sorted(requirements - SUPPORTED)
    if unsupported:
        raise NotJudged(
            f"requires {', '.join(unsupported)}; supported: {' '.join(sorted(SUPPORTED))}"
        )
    types = _types(single.get(":types", []))
    constants = one_type(typed_list(single.get(":constants", [])), "constant")
    for _, kind in constants:
        known_types((kind,), types)
    predicates = _signatures(single.get(":predicates", []), types, "predicate")
    functions = _signatures(_function_list(single.get(":functions", [])), types, "function")
    scope = Scope(types, predicates, functions, frozenset(name for name, _ in constants))
    actions: dict[str, ActionSchema] = {}
    for section in sections:
        if section[0] == ":action":
            schema = _action(section, scope)
            if schema.name in actions:
                raise PddlError(f"action {schema.name!r} is declared twice")
            actions[schema.name] = schema
    return Domain(
        tree[1][1], requirements, types, constants, predicates, functions, actions, show(tree)
    )


def _sections(tree: list[Any], kind: str) -> list[Any]:
    """The sections behind `(define (kind name)`."""
    if len(tree) < 2 or tree[0] != "define" or not isinstance(tree[1], list) or len(tree[1]) != 2:
        raise PddlError(f"expected (define ({kind} NAME) ...)")
    if tree[1][0] != kind or not isinstance(tree[1][1], str):
        raise PddlError(f"expected a {kind}, found a {show(tree[1][0])}")
    for section in tree[2:]:
        if not isinstance(section, list) or not section or not isinstance(section[0], str):
            raise PddlError(f"expected a section in parentheses, found {show(section)[:80]}")
    return tree[2:]


def _by_name(sections: list[list[Any]]) -> dict[str, list[Any]]:
    """What stands in each section; a section may stand only once."""
    found: dict[str, list[Any]] = {}
    for name, *content in sections:
        if name in found:
            raise PddlError(f"{name} stands there twice")
        found[name] = content
    return found


def _only_known(sections: dict[str, Any], known: set[str]) -> None:
    for name in sections:
        if name not in known:
            raise NotJudged(f"{name} is not supported (supported: {' '.join(sorted(known))})")


def _types(words: list[Any]) -> dict[str, str]:
    types = {}
    for name, kinds in typed_list(words):
        if name == OBJECT:
            continue
        if len(kinds) != 1 or not isinstance(kinds[0], str):
            raise PddlError(f"type {name!r} has several parents, which is not supported")
        types[name] = kinds[0]
    for parent in list(types.values()):
        types.setdefault(parent, OBJECT)
    for name in types:
        seen, kind = {name}, types[name]
        while kind != OBJECT:
            if kind in seen:
                raise PddlError(f"type {name!r} is its own ancestor")
            seen.add(kind)
            kind = types[kind]
    types.pop(OBJECT, None)
    return types


def _function_list(words: list[Any]) -> list[Any]:
    """Function signatures without their `- number`."""
    kept = []
    for i, word in enumerate(words):
        if isinstance(word, str):
            if word == "-" or (word == "number" and i and words[i - 1] == "-"):
                continue
            raise NotJudged(f"functions of type {word!r} are not supported")
        kept.append(word)
    return kept


def _signatures(words: list[Any], types: dict[str, str], what: str) -> dict[str, tuple[Types, ...]]:
    found: dict[str, tuple[Types, ...]] = {}
    for entry in words:
        if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
            raise PddlError(f"expected a {what} in parentheses, found {show(entry)[:80]}")
        if entry[0] in found:
            raise PddlError(f"{what} {entry[0]!r} is declared twice")
        found[entry[0]] = tuple(kinds for _, kinds in parameters_of(entry[1:], types))
    return found


def _action(section: list[Any], scope: Scope) -> ActionSchema:
    if len(section) < 2 or not isinstance(section[1], str) or len(section) % 2:
        raise PddlError(f"expected (:action NAME :key value ...), found {show(section)[:80]}")
    parts = _by_name(
        [[show(key), value] for key, value in zip(section[2::2], section[3::2], strict=True)]
    )
    for key in parts:
        if key not in (":parameters", ":precondition", ":effect"):
            raise NotJudged(f"action {section[1]!r} has {key}")
    parameters = parameters_of(parts.get(":parameters", [[]])[0], scope.types)
    inner = scope.with_names(name for name, _ in parameters)
    return ActionSchema(
        section[1],
        parameters,
        condition(parts.get(":precondition", [[]])[0], inner),
        effect(parts.get(":effect", [[]])[0], inner),
    )


# ---------------------------------------------------------------- problem


def read_task(domain_text: str, problem_text: str) -> Task:
    """Read a problem against its domain. Raises PddlError."""
    domain = read_domain(domain_text)
    tree = parse(problem_text)
    sections = _by_name(_sections(tree, "problem"))
    _only_known(sections, {":domain", ":requirements", ":objects", ":init", ":goal", ":metric"})
    if sections.get(":domain") != [domain.name]:
        raise PddlError(
            f"the problem is for domain {show(sections.get(':domain', []))}, the domain is "
            f"{domain.name!r}"
        )
    objects = one_type(
        [*((n, (k,)) for n, k in domain.constants), *typed_list(sections.get(":objects", []))],
        "object",
    )
    for name, kind in objects:
        if name.startswith("?"):
            raise PddlError(f"object {name!r} looks like a variable")
        known_types((kind,), domain.types)
    scope = Scope(
        domain.types, domain.predicates, domain.functions, frozenset(name for name, _ in objects)
    )
    init, values = _init(sections.get(":init", []), scope)
    goal_section = sections.get(":goal", [])
    if len(goal_section) != 1:
        raise PddlError("a problem needs one (:goal ...) with one condition")
    problem = Problem(domain.name, tree[1][1], objects, init, condition(goal_section[0], scope))
    return Task(
        domain,
        problem,
        values,
        _metric(sections.get(":metric"), scope),
        task_key(domain, problem, values),
    )


def _init(
    words: list[Any], scope: Scope
) -> tuple[tuple[Atom, ...], tuple[tuple[Fluent, float], ...]]:
    atoms: dict[Atom, None] = {}
    values: dict[Fluent, float] = {}
    for entry in words:
        if not isinstance(entry, list) or not entry:
            raise PddlError(f"expected a fact in parentheses, found {show(entry)[:80]}")
        if entry[0] == "=" and len(entry) == 3:
            if not isinstance(entry[2], str) or not NUMBER.fullmatch(entry[2]):
                raise PddlError(f"expected a number in {show(entry)[:80]}")
            values[scope.fluent(entry[1])] = float(entry[2])
        elif entry[0] == "at" and len(entry) == 3 and isinstance(entry[2], list):
            raise NotJudged("timed initial literals are not supported")
        elif entry[0] == "not" and len(entry) == 2:
            atoms.pop(scope.atom(entry[1]), None)
        else:
            atoms[scope.atom(entry)] = None
    return tuple(atoms), tuple(values.items())


def _metric(words: list[Any] | None, scope: Scope) -> Any | None:
    if words is None:
        return None
    if len(words) != 2 or words[0] not in ("minimize", "maximize"):
        raise PddlError(f"expected (:metric minimize EXPRESSION), found {show(words)[:80]}")
    if show(words[1]) in ("(total-time)", "total-time") and "total-time" not in scope.functions:
        return None
    return expression(words[1], scope)


def task_key(
    domain: Domain, problem: Problem, values: tuple[tuple[Fluent, float], ...] = ()
) -> str:
    """Hash of the canonical PDDL: order of objects, facts and goals and the problem's name do not
    count.
    """
    ordered = canonical(problem)
    return content_hash(
        domain.text,
        repr(ordered.objects),
        repr(ordered.init),
        repr(sorted(values)),
        repr(ordered.goal),
    )


def canonical(problem: Problem) -> Problem:
    """The same problem with objects, facts and goals in sorted order: one text for one task key."""
    goal = problem.goal
    if goal and goal[0] == "and":
        goal = ("and", *sorted(goal[1:], key=repr))
    return Problem(
        problem.domain,
        problem.name,
        tuple(sorted(problem.objects)),
        tuple(sorted(problem.init)),
        goal,
    )


def print_problem(problem: Problem) -> str:
    """A problem as PDDL text (no numeric fluents)."""
    objects = "".join(
        f"\n    {name}" + ("" if k == OBJECT else f" - {k}") for name, k in problem.objects
    )
    facts = "".join(f"\n    {show(atom)}" for atom in problem.init)
    return (
        f"(define (problem {problem.name})\n  (:domain {problem.domain})\n  (:objects{objects})\n"
        f"  (:init{facts})\n  (:goal {_goal_text(problem.goal)}))\n"
    )


def _goal_text(goal: Formula) -> str:
    if goal and goal[0] == "and":
        return "(and" + "".join(f"\n    {show(part)}" for part in goal[1:]) + ")"
    return show(goal)
