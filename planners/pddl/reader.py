"""A strict PDDL reader: from text to frozen records; errors give the line.

Covers STRIPS, typing (hierarchies, `either`), constants, negative and disjunctive conditions,
equality, quantifiers, conditional effects, derived predicates, action costs and numeric fluents.
Anything else (durative actions, preferences, timed literals ...) raises NotJudged, which names the
feature: "not judged" is not "invalid". Names are case-insensitive: ASCII letters become lower case.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from planners.errors import NotJudged, PddlError
from planners.files import read_pddl
from planners.pddl.declarations import (
    DOMAIN_SECTIONS,
    PROBLEM_SECTIONS,
    Rule,
    by_name,
    function_list,
    objects_of,
    require_known,
    require_supported,
    rule_of,
    sections_of,
    signatures_of,
    strata,
    types_of,
)
from planners.pddl.formulas import (
    COMPARE,
    NUMBER,
    Number,
    Parameters,
    Scope,
    Types,
    ancestors,
    condition,
    effect,
    expression,
    number,
    parameters_of,
)
from planners.pddl.literals import changed_by
from planners.pddl.renaming import canonical, keyed
from planners.pddl.sexpr import Words, located, parse, show
from planners.records import Atom, Formula, Problem, content_hash


@dataclass(frozen=True, slots=True)
class ActionSchema:
    """An action schema; its precondition and effect are nested tuples."""

    name: str
    parameters: Parameters
    precondition: Formula
    effect: Formula


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """A PDDL domain. `types` maps each type to its parents; `text` is its canonical form; `notes`
    tell what was not PDDL and was read all the same. `rules` derive predicates, stratum by stratum:
    a rule negates only predicates that earlier strata derive.
    """

    name: str
    types: dict[str, Types]
    constants: tuple[tuple[str, str], ...]
    predicates: dict[str, tuple[Types, ...]]
    functions: dict[str, tuple[Types, ...]]
    actions: dict[str, ActionSchema]
    text: str
    notes: tuple[str, ...] = ()
    rules: tuple[tuple[Rule, ...], ...] = ()

    @property
    def derived(self) -> frozenset[str]:
        """The predicates that rules derive."""
        return frozenset(rule.predicate for stratum in self.rules for rule in stratum)

    def ancestors(self, kind: str) -> set[str]:
        """A type and all its supertypes, `object` included."""
        return ancestors(kind, self.types)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A domain and a problem, checked against each other. `values` are the numeric fluents; `key`
    is the task's content hash; the `metric` is to be minimized unless `maximize` is set; `notes`
    tell what was not PDDL, in either file, and was read all the same.
    """

    domain: Domain
    problem: Problem
    values: tuple[tuple[Atom, Number], ...]
    metric: Any | None
    key: str
    maximize: bool = False
    notes: tuple[str, ...] = ()


# ---------------------------------------------------------------- domain


@lru_cache(maxsize=256)
def read_domain(text: str) -> Domain:
    """The domain of a PDDL text. Raises PddlError, or NotJudged for an unsupported feature."""
    tree = parse(text)
    sections = sections_of(tree, "domain")
    _require_supported(sections)
    require_known(sections, DOMAIN_SECTIONS)
    single = by_name([one for one in sections if one[0] not in (":action", ":derived")])
    types = types_of(single.get(":types", []))
    constants = objects_of(single.get(":constants", []), types, "constant")
    predicates = signatures_of(single.get(":predicates", []), types, "predicate")
    functions = signatures_of(function_list(single.get(":functions", [])), types, "function")
    scope = Scope(types, predicates, functions, {name: (kind,) for name, kind in constants})
    actions: dict[str, ActionSchema] = {}
    for section in sections:
        if section[0] == ":action":
            schema = _action(section, scope)
            if schema.name in actions:
                raise PddlError(f"action {schema.name!r} is declared twice", section.line)
            actions[schema.name] = schema
    rules = strata([rule_of(section, scope) for section in sections if section[0] == ":derived"])
    _require_underived(sections, actions, {rule.predicate for part in rules for rule in part})
    return Domain(
        tree[1][1], types, constants, predicates, functions, actions, show(tree),
        tuple(f"domain {note}" for note in tree.notes), rules,
    )  # fmt: skip


def _require_supported(sections: list[Words]) -> None:
    """An unsupported requirement is named, instead of an error where it is used."""
    for section in sections:
        if section[0] == ":requirements":
            require_supported(section)


def _require_underived(
    sections: list[Words], actions: dict[str, ActionSchema], derived: set[str]
) -> None:
    """Raise PddlError if an action changes a predicate that rules derive."""
    lines = {section[1]: section.line for section in sections if section[0] == ":action"}
    for schema in actions.values():
        if both := sorted(changed_by(schema.effect) & derived):
            raise PddlError(
                f"action {schema.name!r} changes {both[0]!r}, which is derived", lines[schema.name]
            )


@located
def _action(section: Words, scope: Scope) -> ActionSchema:
    if len(section) < 2 or not isinstance(section[1], str) or len(section) % 2:
        raise PddlError(f"expected (:action NAME :key value ...), found {show(section)[:80]}")
    pairs = zip(section[2::2], section[3::2], strict=True)
    parts = by_name([Words((show(key), value), section.line) for key, value in pairs])
    for key in parts:
        if key not in (":parameters", ":precondition", ":effect"):
            raise NotJudged(f"action {section[1]!r} uses {key}, which is not supported")
    parameters = parameters_of(parts.get(":parameters", [[]])[0], scope.types)
    inner = scope.with_names(parameters)
    return ActionSchema(
        section[1],
        parameters,
        condition(parts.get(":precondition", [[]])[0], inner),
        effect(parts.get(":effect", [[]])[0], inner),
    )


@lru_cache(maxsize=256)
def changing(domain: Domain) -> frozenset[str]:
    """The predicates that actions add or delete, or rules derive; all others are static."""
    return domain.derived.union(*(changed_by(schema.effect) for schema in domain.actions.values()))


@lru_cache(maxsize=256)
def compares(domain: Domain) -> bool:
    """Whether some action of a domain compares numbers, in a precondition or a (when ...)."""

    def within(formula: Any) -> bool:
        return isinstance(formula, tuple) and (COMPARE in formula or any(map(within, formula)))

    return any(within((s.precondition, s.effect)) for s in domain.actions.values())


# ---------------------------------------------------------------- problem


def read_task(domain_text: str | Path, problem_text: str | Path, any_domain: bool = False) -> Task:
    """The task of two PDDL texts or files; with `any_domain` the problem may name another domain.

    A string is always the text itself, a file is given as a Path. Raises PddlError, NotJudged for
    an unsupported feature, and InvalidInput for a file that cannot be read.
    """
    domain_text, problem_text = (
        read_pddl(given) if isinstance(given, Path) else given
        for given in (domain_text, problem_text)
    )
    domain = read_domain(domain_text)
    tree = parse(problem_text)
    stated = sections_of(tree, "problem")
    notes = [*domain.notes, *(f"problem {note}" for note in tree.notes)]
    try:
        _require_domain(stated, domain.name)
    except PddlError as error:
        if not any_domain:
            raise
        notes.append(error.message)
    _require_supported(stated)
    require_known(stated, PROBLEM_SECTIONS)
    sections = by_name(stated)
    own = objects_of(sections.get(":objects", []), domain.types, "object")
    constants = dict(domain.constants)
    for name, kind in own:
        if name in constants and kind != constants[name]:
            raise PddlError(
                f"object {name!r} is of type {kind}, and a constant of the domain of type "
                f"{constants[name]}",
                sections[":objects"].line,
            )
        if name in constants:
            notes.append(f"object {name!r} is a constant of the domain")
    objects = domain.constants + tuple(pair for pair in own if pair[0] not in constants)
    scope = Scope(
        domain.types,
        domain.predicates,
        domain.functions,
        {name: (kind,) for name, kind in objects},
    )
    init, values = _init(sections.get(":init", []), scope)
    derived = domain.derived
    if stated_anyway := [atom for atom in init if atom[0] in derived]:
        raise PddlError(
            f"{show(stated_anyway[0])} is derived by rules of the domain",
            sections[":init"].line,
        )
    goal_section = sections.get(":goal", Words())
    if len(goal_section) != 1:
        raise PddlError("a problem needs one (:goal ...) with one condition", goal_section.line)
    problem = Problem(domain.name, tree[1][1], objects, init, condition(goal_section[0], scope))
    metric, maximize = _metric(sections.get(":metric"), scope)
    key = task_key(domain, problem, values, metric, maximize)
    return Task(domain, problem, values, metric, key, maximize, tuple(notes))


def require_same_domain(domain_text: str, problem_text: str) -> None:
    """Raise PddlError if a problem is for another domain; the features of both do not matter."""
    domain = parse(domain_text)
    sections_of(domain, "domain")
    _require_domain(sections_of(parse(problem_text), "problem"), domain[1][1])


def _require_domain(sections: list[Words], domain: str) -> None:
    """Raise PddlError if the sections of a problem name another domain, or none."""
    for section in sections:
        if section[0] == ":domain":
            meant = " ".join(map(show, section[1:]))
            if section[1:] != [domain]:
                raise PddlError(
                    f"the problem is for domain {meant!r}, the domain is {domain!r}", section.line
                )
            return
    raise PddlError(f"the problem names no domain: (:domain {domain}) is missing")


@located
def _init(
    words: list[Any], scope: Scope
) -> tuple[tuple[Atom, ...], tuple[tuple[Atom, Number], ...]]:
    atoms: dict[Atom, bool] = {}
    values: dict[Atom, Number] = {}
    for entry in words:
        _fact(entry, scope, atoms, values)
    return tuple(atom for atom, true in atoms.items() if true), tuple(values.items())


@located
def _fact(entry: Any, scope: Scope, atoms: dict[Atom, bool], values: dict[Atom, Number]) -> None:
    """Add one entry of (:init ...) to `atoms` or `values`."""
    if not isinstance(entry, list) or not entry:
        raise PddlError(f"expected a fact in parentheses, found {show(entry)[:80]}")
    if entry[0] == "=" and len(entry) == 3:
        if not isinstance(entry[2], str) or not NUMBER.fullmatch(entry[2]):
            raise PddlError(f"expected a number in {show(entry)[:80]}")
        fluent, value = scope.fluent(entry[1]), number(entry[2])
        if values.setdefault(fluent, value) != value:
            raise PddlError(f"{show(fluent)} has two initial values, of which one is {entry[2]}")
    # (at 5 (on a b)) is a timed literal; (at truck1 depot) is a plain fact.
    elif entry[0] == "at" and len(entry) == 3 and isinstance(entry[2], list):
        raise NotJudged("timed initial literals are not supported")
    else:
        true = not (entry[0] == "not" and len(entry) == 2)
        atom = scope.atom(entry if true else entry[1])
        if atoms.setdefault(atom, true) != true:
            raise PddlError(f"{show(atom)} is true and false at the beginning")


@located
def _metric(words: list[Any] | None, scope: Scope) -> tuple[Any | None, bool]:
    """The expression of a metric, or None without one, and whether it is to be maximized."""
    if words is None:
        return None, False
    if len(words) != 2 or words[0] not in ("minimize", "maximize"):
        raise PddlError(f"expected (:metric minimize EXPRESSION), found {show(words)[:80]}")
    # Without durative actions total-time is the number of steps, as if there were no metric.
    if show(words[1]) in ("(total-time)", "total-time") and "total-time" not in scope.functions:
        return None, False
    return expression(words[1], scope), words[0] == "maximize"


def task_key(
    domain: Domain, problem: Problem, values: tuple[tuple[Atom, Number], ...] = (),
    metric: Any | None = None, maximize: bool = False,
) -> str:  # fmt: skip
    """Hash of the canonical PDDL. The order of objects, facts and goals does not matter, nor does
    the problem's name. A metric does: it decides what a plan costs.
    """
    ordered = canonical(problem)
    return content_hash(
        domain.text,
        repr(ordered.objects),
        repr(ordered.init),
        repr(sorted(keyed(values))),
        repr(keyed(ordered.goal)),
        *(() if metric is None else (repr((keyed(metric), maximize)),)),
    )
