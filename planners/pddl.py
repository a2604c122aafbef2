"""Reading PDDL: from text to frozen records, strictly, with the line where something is wrong.

Covers STRIPS, typing (hierarchies, `either`), constants, negative and disjunctive conditions,
equality, quantifiers, conditional effects, action costs and numeric fluents. What is outside
(durative actions, derived predicates, preferences, timed literals ...) raises PddlError that names
the feature: such a task is not judged, which is not the same as "invalid".

Names are folded to lower case, as PDDL has it (ASCII letters only).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from planners.errors import PddlError
from planners.records import Atom, Formula, Problem, content_hash

Types = tuple[str, ...]
"""The types of a parameter: one, or several where `either` names them."""
Parameters = tuple[tuple[str, Types], ...]
Fluent = tuple[str, ...]

OBJECT = "object"
SUPPORTED = frozenset(
    [
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
    ]
)
COMPARISONS = frozenset(("=", "<", "<=", ">", ">="))
ASSIGNMENTS = frozenset(("assign", "increase", "decrease", "scale-up", "scale-down"))
ARITHMETIC = frozenset("+-*/")
_TOKEN = re.compile(r"[()]|[^\s();]+|;[^\n]*")
_NAME = re.compile(r"[a-z][a-z0-9_\-]*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII)
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
MAX_DEPTH = 100


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


# ---------------------------------------------------------------- s-expressions


def fold(text: str) -> str:
    """Lower case for ASCII letters only: a look-alike letter stays a different letter."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def parse(text: str) -> list[Any]:
    """The one top-level expression of a PDDL file as nested lists of lower-case words."""
    stack: list[list[Any]] = [[]]
    folded = fold(text)
    for token in _TOKEN.findall(folded):
        if token == "(":
            stack.append([])
            if len(stack) > MAX_DEPTH:
                raise PddlError(
                    f"parentheses nest deeper than {MAX_DEPTH}", _line_of(folded, len(stack))
                )
        elif token == ")":
            if len(stack) == 1:
                raise PddlError("a ')' closes nothing", _unbalanced_line(folded))
            done = stack.pop()
            stack[-1].append(done)
        elif token[0] != ";":
            stack[-1].append(token)
    if len(stack) > 1:
        raise PddlError(f"{len(stack) - 1} '(' never closed", folded.count("\n") + 1)
    if len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise PddlError("expected exactly one (define ...) expression")
    return stack[0][0]


def _unbalanced_line(text: str) -> int:
    depth = 0
    for match in _TOKEN.finditer(text):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth < 0:
            return text.count("\n", 0, match.start()) + 1
    return 1


def _line_of(text: str, depth: int) -> int:
    reached = 1
    for match in _TOKEN.finditer(text):
        reached += {"(": 1, ")": -1}.get(match[0], 0)
        if reached >= depth:
            return text.count("\n", 0, match.start()) + 1
    return 1


def show(expression: Any) -> str:
    """A nested list or tuple as PDDL text."""
    if isinstance(expression, str):
        return expression
    return "(" + " ".join(show(part) for part in expression) + ")"


def _freeze(expression: Any) -> Any:
    return (
        expression if isinstance(expression, str) else tuple(_freeze(part) for part in expression)
    )


# ---------------------------------------------------------------- pieces


def typed_list(words: list[Any]) -> list[tuple[str, Types]]:
    """`a b - t c - (either u v)` as names with their types; untyped names are objects."""
    found: list[tuple[str, Types]] = []
    pending: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word == "-":
            if position + 1 == len(words) or not pending:
                raise PddlError(f"a '-' without names or type in {show(words)[:80]}")
            kind = words[position + 1]
            kinds = (kind,) if isinstance(kind, str) else tuple(kind[1:])
            if not isinstance(kind, str) and (kind[:1] != ["either"] or len(kind) < 2):
                raise PddlError(f"expected a type, found {show(kind)}")
            found.extend((name, kinds) for name in pending)
            pending, position = [], position + 2
            continue
        if not isinstance(word, str):
            raise PddlError(f"expected a name, found {show(word)[:80]}")
        pending.append(word)
        position += 1
    return found + [(name, (OBJECT,)) for name in pending]


def _parameters(words: Any, domain_types: dict[str, str]) -> Parameters:
    if not isinstance(words, list):
        raise PddlError(f"expected a parameter list, found {words!r}")
    parameters = tuple(typed_list(words))
    seen: set[str] = set()
    for name, kinds in parameters:
        if not name.startswith("?") or name in seen:
            raise PddlError(f"parameter {name!r} is repeated or does not start with '?'")
        seen.add(name)
        _known_types(kinds, domain_types)
    return parameters


def _known_types(kinds: Types, types: dict[str, str]) -> None:
    for kind in kinds:
        if not isinstance(kind, str) or (kind != OBJECT and kind not in types):
            raise PddlError(f"type {show(kind)!r} is not declared")


def _one_type(names: list[tuple[str, Types]], what: str) -> tuple[tuple[str, str], ...]:
    seen: set[str] = set()
    for name, kinds in names:
        if name in seen:
            raise PddlError(f"{what} {name!r} is declared twice")
        if len(kinds) != 1:
            raise PddlError(
                f"{what} {name!r} has an (either ...) type, which is not supported here"
            )
        seen.add(name)
    return tuple((name, kinds[0]) for name, kinds in names)


# ---------------------------------------------------------------- conditions and effects


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a formula may speak of: the vocabulary and the variables and objects in sight."""

    types: dict[str, str]
    predicates: dict[str, tuple[Types, ...]]
    functions: dict[str, tuple[Types, ...]]
    names: frozenset[str]

    def with_names(self, names: Any) -> _Scope:
        return _Scope(self.types, self.predicates, self.functions, self.names.union(names))

    def atom(self, words: Any) -> Atom:
        """An atom, its predicate and arity known and its arguments in sight."""
        return self._applied(words, self.predicates, "predicate")

    def fluent(self, words: Any) -> Atom:
        return self._applied(
            [words] if isinstance(words, str) else words, self.functions, "function"
        )

    def _applied(self, words: Any, known: dict[str, tuple[Types, ...]], what: str) -> Atom:
        if not words or not all(isinstance(word, str) for word in words):
            raise PddlError(f"expected a {what} and its arguments, found {show(words)[:80]}")
        name, *arguments = words
        if name not in known:
            raise PddlError(f"{what} {name!r} is not declared")
        if len(known[name]) != len(arguments):
            raise PddlError(f"{what} {name!r} takes {len(known[name])} arguments: {show(words)}")
        for argument in arguments:
            self.term(argument)
        return tuple(words)

    def term(self, word: Any) -> str:
        if not isinstance(word, str) or word not in self.names:
            kind = "variable" if show(word).startswith("?") else "object"
            raise PddlError(f"{kind} {show(word)!r} is not declared")
        return word


def condition(words: Any, scope: _Scope) -> Formula:
    """A checked condition as nested tuples; an empty list is the empty conjunction."""
    if not isinstance(words, list):
        raise PddlError(f"expected a condition in parentheses, found {words!r}")
    if not words:
        return ("and",)
    head = words[0]
    if head in ("and", "or"):
        return (head, *(condition(part, scope) for part in words[1:]))
    if head in ("not", "imply"):
        if len(words) != (2 if head == "not" else 3):
            raise PddlError(
                f"{head!r} takes {'one' if head == 'not' else 'two'}: {show(words)[:80]}"
            )
        return (head, *(condition(part, scope) for part in words[1:]))
    if head in ("forall", "exists"):
        if len(words) != 3:
            raise PddlError(f"{head!r} takes parameters and one condition: {show(words)[:80]}")
        parameters = _parameters(words[1], scope.types)
        inner = scope.with_names(name for name, _ in parameters)
        return (head, parameters, condition(words[2], inner))
    if head in COMPARISONS and len(words) == 3:
        if head == "=" and all(isinstance(w, str) and w in scope.names for w in words[1:]):
            return ("=", scope.term(words[1]), scope.term(words[2]))
        return ("compare", head, expression(words[1], scope), expression(words[2], scope))
    return scope.atom(words)


def expression(words: Any, scope: _Scope) -> Any:
    """A numeric expression: a float, ("fluent", ...), or (operator, left, right)."""
    if isinstance(words, str) and _NUMBER.fullmatch(words):
        return float(words)
    if isinstance(words, list) and words and words[0] in ARITHMETIC:
        parts = [expression(part, scope) for part in words[1:]]
        if words[0] == "-" and len(parts) == 1:
            return ("-", 0.0, parts[0])
        if len(parts) < 2 or (len(parts) > 2 and words[0] in "-/"):
            raise PddlError(f"wrong number of operands: {show(words)[:80]}")
        folded = parts[0]
        for part in parts[1:]:
            folded = (words[0], folded, part)
        return folded
    return ("fluent", *scope.fluent(words))


def effect(words: Any, scope: _Scope, conditional: bool = False) -> Formula:
    """A checked effect as nested tuples."""
    if not isinstance(words, list):
        raise PddlError(f"expected an effect in parentheses, found {words!r}")
    if not words:
        return ("and",)
    head = words[0]
    if head == "and":
        return ("and", *(effect(part, scope, conditional) for part in words[1:]))
    if head == "not" and len(words) == 2:
        return ("not", scope.atom(words[1]))
    if head == "forall" and len(words) == 3:
        parameters = _parameters(words[1], scope.types)
        inner = scope.with_names(name for name, _ in parameters)
        return ("forall", parameters, effect(words[2], inner, conditional))
    if head == "when" and len(words) == 3:
        if conditional:
            raise PddlError("a (when ...) inside a (when ...) is not PDDL")
        return ("when", condition(words[1], scope), effect(words[2], scope, True))
    if head in ASSIGNMENTS and len(words) == 3:
        return (head, scope.fluent(words[1]), expression(words[2], scope))
    return scope.atom(words)


# ---------------------------------------------------------------- domain


@lru_cache(maxsize=256)
def read_domain(text: str) -> Domain:
    """Read a domain file's text. Raises PddlError."""
    tree = parse(text)
    sections = _sections(tree, "domain")
    single = {s[0]: s[1:] for s in sections if isinstance(s, list) and s and s[0] != ":action"}
    _only_known(single, {":requirements", ":types", ":constants", ":predicates", ":functions"})
    requirements = frozenset(single.get(":requirements", [":strips"]))
    unsupported = sorted(show(r) for r in requirements - SUPPORTED)
    if unsupported:
        raise PddlError(
            f"not judged: requires {', '.join(unsupported)}; supported: "
            f"{' '.join(sorted(SUPPORTED))}"
        )
    types = _types(single.get(":types", []))
    constants = _one_type(typed_list(single.get(":constants", [])), "constant")
    for _, kind in constants:
        _known_types((kind,), types)
    predicates = _signatures(single.get(":predicates", []), types, "predicate")
    functions = _signatures(_function_list(single.get(":functions", [])), types, "function")
    scope = _Scope(types, predicates, functions, frozenset(name for name, _ in constants))
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


def _only_known(sections: dict[str, Any], known: set[str]) -> None:
    for name in sections:
        if name not in known:
            raise PddlError(
                f"not judged: {name} is not supported (supported: {' '.join(sorted(known))})"
            )


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
            raise PddlError(f"not judged: functions of type {word!r} are not supported")
        kept.append(word)
    return kept


def _signatures(words: list[Any], types: dict[str, str], what: str) -> dict[str, tuple[Types, ...]]:
    found: dict[str, tuple[Types, ...]] = {}
    for entry in words:
        if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
            raise PddlError(f"expected a {what} in parentheses, found {show(entry)[:80]}")
        if entry[0] in found:
            raise PddlError(f"{what} {entry[0]!r} is declared twice")
        found[entry[0]] = tuple(kinds for _, kinds in _parameters(entry[1:], types))
    return found


def _action(section: list[Any], scope: _Scope) -> ActionSchema:
    if len(section) < 2 or not isinstance(section[1], str) or len(section) % 2:
        raise PddlError(f"expected (:action NAME :key value ...), found {show(section)[:80]}")
    parts = dict(zip(section[2::2], section[3::2], strict=True))
    for key in parts:
        if key not in (":parameters", ":precondition", ":effect"):
            raise PddlError(f"not judged: action {section[1]!r} has {show(key)}")
    parameters = _parameters(parts.get(":parameters", []), scope.types)
    inner = scope.with_names(name for name, _ in parameters)
    return ActionSchema(
        section[1],
        parameters,
        condition(parts.get(":precondition", []), inner),
        effect(parts.get(":effect", []), inner),
    )


# ---------------------------------------------------------------- problem


def read_task(domain_text: str, problem_text: str) -> Task:
    """Read a problem against its domain. Raises PddlError."""
    domain = read_domain(domain_text)
    tree = parse(problem_text)
    sections = {s[0]: s[1:] for s in _sections(tree, "problem")}
    _only_known(sections, {":domain", ":requirements", ":objects", ":init", ":goal", ":metric"})
    if sections.get(":domain") != [domain.name]:
        raise PddlError(
            f"the problem is for domain {show(sections.get(':domain', []))}, the domain is "
            f"{domain.name!r}"
        )
    objects = _one_type(
        [*((n, (k,)) for n, k in domain.constants), *typed_list(sections.get(":objects", []))],
        "object",
    )
    for name, kind in objects:
        if name.startswith("?"):
            raise PddlError(f"object {name!r} looks like a variable")
        _known_types((kind,), domain.types)
    scope = _Scope(
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
    words: list[Any], scope: _Scope
) -> tuple[tuple[Atom, ...], tuple[tuple[Fluent, float], ...]]:
    atoms: dict[Atom, None] = {}
    values: dict[Fluent, float] = {}
    for entry in words:
        if not isinstance(entry, list) or not entry:
            raise PddlError(f"expected a fact in parentheses, found {show(entry)[:80]}")
        if entry[0] == "=" and len(entry) == 3:
            if not isinstance(entry[2], str) or not _NUMBER.fullmatch(entry[2]):
                raise PddlError(f"expected a number in {show(entry)[:80]}")
            values[scope.fluent(entry[1])] = float(entry[2])
        elif entry[0] == "at" and len(entry) == 3 and isinstance(entry[2], list):
            raise PddlError("not judged: timed initial literals are not supported")
        elif entry[0] == "not" and len(entry) == 2:
            atoms.pop(scope.atom(entry[1]), None)
        else:
            atoms[scope.atom(entry)] = None
    return tuple(atoms), tuple(values.items())


def _metric(words: list[Any] | None, scope: _Scope) -> Any | None:
    if words is None:
        return None
    if len(words) != 2 or words[0] not in ("minimize", "maximize"):
        raise PddlError(f"expected (:metric minimize EXPRESSION), found {show(words)[:80]}")
    if words[1] in (["total-time"], "total-time") and "total-time" not in scope.functions:
        return None
    return expression(words[1], scope)


def task_key(
    domain: Domain, problem: Problem, values: tuple[tuple[Fluent, float], ...] = ()
) -> str:
    """Hash of the canonical PDDL: order of objects, facts and goals and the problem's name do not
    count.
    """
    goal = problem.goal
    parts = sorted(goal[1:], key=repr) if goal and goal[0] == "and" else [goal]
    return content_hash(
        domain.text,
        repr(sorted(problem.objects)),
        repr(sorted(problem.init)),
        repr(sorted(values)),
        repr(parts),
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
