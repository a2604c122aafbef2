"""Reading of conditions, effects and typed lists into nested tuples, checked against declarations.

Everything here raises PddlError for invalid PDDL and NotJudged for unsupported features.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Any

from planners.errors import NotJudged, PddlError
from planners.pddl.sexpr import located, show
from planners.records import Atom, Formula

Types = tuple[str, ...]
"""The types of a parameter: one, or several if declared with `either`."""
Parameters = tuple[tuple[str, Types], ...]

OBJECT = "object"
COMPARISONS = frozenset(("=", "<", "<=", ">", ">="))
ASSIGNMENTS = frozenset(("assign", "increase", "decrease", "scale-up", "scale-down"))
ARITHMETIC = frozenset("+-*/")
CONNECTIVES = frozenset(("and", "or", "not", "imply", "forall", "exists", "when"))
COMPARE = "(compare)"
"""Head of a numeric comparison once read. Its parentheses keep it from being a predicate's name."""
FLUENT = "(fluent)"
"""Head of a numeric fluent once read, likewise."""
Number = int | Fraction
"""A number of PDDL, exact: its decimals are rationals."""
LONGEST_NUMBER = 400
"""Digits, and size of the exponent, beyond which a number is refused."""
MOST_VARIABLES = 100
"""Variables of a quantifier, at most: their objects are chosen one within the other."""
MOST_BITS = 8192
"""Size of a number's numerator and denominator, at most."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII)


@located
def typed_list(words: list[Any]) -> list[tuple[str, Types]]:
    """Names with their types, from `a b - t c - (either u v)`; untyped names are `object`."""
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
            if not isinstance(kind, str) and (
                kind[:1] != ["either"] or len(kind) < 2 or not all(isinstance(k, str) for k in kind)
            ):
                raise PddlError(f"expected a type, found {show(kind)}")
            found.extend((name, kinds) for name in pending)
            pending, position = [], position + 2
            continue
        if not isinstance(word, str):
            raise PddlError(f"expected a name, found {show(word)[:80]}")
        pending.append(word)
        position += 1
    return found + [(name, (OBJECT,)) for name in pending]


@located
def parameters_of(words: Any, domain_types: dict[str, Types]) -> Parameters:
    """A parameter list: distinct variables, each with its declared types."""
    if not isinstance(words, list):
        raise PddlError(f"expected a parameter list, found {words!r}")
    parameters = tuple(typed_list(words))
    seen: set[str] = set()
    for name, kinds in parameters:
        if not name.startswith("?") or name in seen:
            raise PddlError(f"parameter {name!r} is repeated or does not start with '?'")
        seen.add(name)
        known_types(kinds, domain_types)
    return parameters


def known_types(kinds: Types, types: dict[str, Types]) -> None:
    """Raise PddlError if a type is not declared."""
    for kind in kinds:
        if not isinstance(kind, str) or (kind != OBJECT and kind not in types):
            raise PddlError(f"type {show(kind)!r} is not declared")


def one_type(names: list[tuple[str, Types]], what: str) -> tuple[tuple[str, str], ...]:
    """(name, type) pairs. Raises PddlError for a repeated name or an (either ...) type."""
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


def ancestors(kind: str, types: dict[str, Types]) -> set[str]:
    """A type and all its supertypes, `object` included; `types` maps each type to its parents."""
    found, left = {OBJECT}, [kind]
    while left:
        if (kind := left.pop()) not in found:
            found.add(kind)
            left += types[kind]
    return found


@dataclass(frozen=True, slots=True)
class Scope:
    """The declarations that a formula is checked against, and the names in scope.

    `names` gives each object and variable its types: several for a variable with `either`.
    """

    types: dict[str, Types]
    predicates: dict[str, tuple[Types, ...]]
    functions: dict[str, tuple[Types, ...]]
    names: dict[str, Types]
    above: dict[str, set[str]] = field(default_factory=dict)
    """The ancestors of the types that were asked about."""
    common: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The types below pairs of them."""

    def with_names(self, names: Iterable[tuple[str, Types]]) -> Scope:
        return replace(self, names=self.names | dict(names))

    def atom(self, words: Any, exact: bool = False) -> Atom:
        """An atom, if its predicate is declared with this arity and its arguments are in scope.

        A variable may have a wider type than the predicate takes, since an atom of other objects is
        false; where it is `exact` it may not, since an action would add such an atom.
        """
        return self._applied(words, self.predicates, "predicate", exact)

    def fluent(self, words: Any, exact: bool = False) -> Atom:
        """A numeric fluent, on the same conditions; parentheses around a lone name are optional."""
        told = [words] if isinstance(words, str) else words
        return self._applied(told, self.functions, "function", exact)

    def _applied(
        self, words: Any, known: dict[str, tuple[Types, ...]], what: str, exact: bool = False
    ) -> Atom:
        if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
            raise PddlError(f"expected a {what} and its arguments, found {show(words)[:80]}")
        name, *arguments = words
        if name not in known:
            raise PddlError(f"{what} {name!r} is not declared")
        if len(known[name]) != len(arguments):
            raise PddlError(f"{what} {name!r} takes {len(known[name])} arguments: {show(words)}")
        for argument, kinds in zip(arguments, known[name], strict=True):
            own = self.names[self.term(argument)]
            # An object is of its type, and so must every object be that an effect names.
            fits = self._below if exact or argument[0] != "?" else self._overlap
            every = all if exact else any
            if not every(any(fits(kind, wanted) for wanted in kinds) for kind in own):
                raise PddlError(
                    f"{argument} in {show(words)} is of type {' or '.join(own)}, and {what} "
                    f"{name!r} takes {' or '.join(kinds)}"
                )
        return tuple(words)

    def narrowed(self, own: Types, wanted: Types) -> Types:
        """The types of the objects that are of one of the first types and one of the second."""
        found = [common for kind in own for other in wanted for common in self._both(kind, other)]
        return tuple(dict.fromkeys(found))

    def _below(self, kind: str, wanted: str) -> bool:
        """Whether a type is another, or a subtype of it."""
        if kind not in self.above:
            self.above[kind] = ancestors(kind, self.types)
        return wanted in self.above[kind]

    def _overlap(self, kind: str, wanted: str) -> bool:
        """Whether some object can be of both types."""
        return bool(self._both(kind, wanted))

    def _both(self, kind: str, wanted: str) -> list[str]:
        """The types whose objects are of both: one of the two, or the highest below both, as
        where a type is declared with `either`.
        """
        for one, other in ((kind, wanted), (wanted, kind)):
            if self._below(one, other):
                return [one]
        if (kind, wanted) not in self.common:
            below = (one for one in self.types if self._below(one, kind))
            both = dict.fromkeys(one for one in below if self._below(one, wanted))
            self.common[kind, wanted] = [
                one for one in both if not any(parent in both for parent in self.types[one])
            ]
        return self.common[kind, wanted]

    def term(self, word: Any) -> str:
        if not isinstance(word, str) or word not in self.names:
            kind = "variable" if show(word).startswith("?") else "object"
            raise PddlError(f"{kind} {show(word)!r} is not declared")
        return word


def _head(words: list[Any]) -> str:
    """The first word, which says what kind of expression this is."""
    if not isinstance(words[0], str):
        raise PddlError(f"expected a name after '(', found {show(words)[:80]}")
    return words[0]


@located
def condition(words: Any, scope: Scope) -> Formula:
    """A condition as nested tuples; an empty list is the empty conjunction."""
    if not isinstance(words, list):
        raise PddlError(f"expected a condition in parentheses, found {words!r}")
    if not words:
        return ("and",)
    head = _head(words)
    if head in ("not", "imply") and len(words) != (2 if head == "not" else 3):
        raise PddlError(f"{head!r} takes {'one' if head == 'not' else 'two'}: {show(words)[:80]}")
    if head in ("and", "or", "not", "imply"):
        return (head, *(condition(part, scope) for part in words[1:]))
    if head in ("forall", "exists"):
        if len(words) != 3:
            raise PddlError(f"{head!r} takes parameters and one condition: {show(words)[:80]}")
        parameters = parameters_of(words[1], scope.types)
        if len(parameters) > MOST_VARIABLES:
            raise NotJudged(
                f"{head!r} over {len(parameters)} variables; up to {MOST_VARIABLES} are supported"
            )
        inner = scope.with_names(parameters)
        return (head, parameters, condition(words[2], inner))
    if head in COMPARISONS and len(words) == 3:
        # `=` compares objects if both sides name one, and numbers otherwise.
        if head == "=" and all(isinstance(w, str) and w in scope.names for w in words[1:]):
            return ("=", scope.term(words[1]), scope.term(words[2]))
        return (COMPARE, head, expression(words[1], scope), expression(words[2], scope))
    # A domain may have a predicate of that name.
    if head == "preference" and head not in scope.predicates:
        raise NotJudged("preferences are not supported")
    return scope.atom(words)


@located
def expression(words: Any, scope: Scope) -> Any:
    """A numeric expression: a number, (FLUENT, ...), or (operator, operand, operand, ...)."""
    if isinstance(words, str) and NUMBER.fullmatch(words):
        return number(words)
    if isinstance(words, list) and words and _head(words) in ARITHMETIC:
        parts = [expression(part, scope) for part in words[1:]]
        if words[0] == "-" and len(parts) == 1:
            return ("-", 0, parts[0])
        if len(parts) < 2 or (len(parts) > 2 and words[0] in "-/"):
            raise PddlError(f"wrong number of operands: {show(words)[:80]}")
        return (words[0], *parts)
    if isinstance(words, list) and words[:1] == ["is-violated"] and not scope.functions:
        raise NotJudged("preferences (is-violated) are not supported")
    return (FLUENT, *scope.fluent(words))


def number(word: str) -> Number:
    """The exact value of a word that matches NUMBER. Raises PddlError if it is too long."""
    digits, _, exponent = word.partition("e")
    longest = LONGEST_NUMBER
    if len(digits) > longest or len(exponent) > 4 or abs(int(exponent or 0)) > longest:
        shown = word if len(word) < 20 else f"{word[:20]}..."
        raise PddlError(f"the number {shown} is too large")
    value = Fraction(word)
    return int(value) if value.denominator == 1 else value


def number_text(value: Number) -> str:
    """A number as text that reads back as the same number; a fraction like 1/3 as it is."""
    if (short := as_float(value)) is not None:
        whole = short.is_integer() and abs(short) < 1e15
        return str(int(short)) if whole else repr(short)
    exact = Context(prec=3 * LONGEST_NUMBER, Emin=-9999, Emax=9999, traps=[Inexact])
    try:
        found = exact.divide(Decimal(value.numerator), Decimal(value.denominator))
    except Inexact:
        return str(value)
    text = format(found, "f")
    return text if len(text) <= LONGEST_NUMBER else format(found.normalize(exact), "e")


def as_float(value: Number) -> float | None:
    """The float whose shortest text is exactly this number, or None if there is none."""
    try:
        near = float(value)
    except OverflowError:
        return None
    return near if Fraction(repr(near)) == value else None


def calculated(operator: str, left: Number, right: Number) -> Number:
    """Two numbers by +, -, * or /. Raises NotJudged where the result is beyond all bounds."""
    found: Number
    if operator in "+-":
        found = left + right if operator == "+" else left - right
    else:
        found = left * right if operator == "*" else Fraction(left) / right
    if max(found.numerator.bit_length(), found.denominator.bit_length()) > MOST_BITS:
        raise NotJudged(f"a number of this plan grows beyond {MOST_BITS} bits")
    return found


@located
def effect(words: Any, scope: Scope, conditional: bool = False) -> Formula:
    """An effect as nested tuples; `conditional` is set inside a (when ...), which cannot nest."""
    if not isinstance(words, list):
        raise PddlError(f"expected an effect in parentheses, found {words!r}")
    if not words:
        return ("and",)
    head = _head(words)
    if head == "and":
        return ("and", *(effect(part, scope, conditional) for part in words[1:]))
    if head == "not" and len(words) == 2:
        return ("not", scope.atom(words[1]))
    if head == "forall" and len(words) == 3:
        parameters = parameters_of(words[1], scope.types)
        inner = scope.with_names(parameters)
        return ("forall", parameters, effect(words[2], inner, conditional))
    if head == "when" and len(words) == 3:
        if conditional:
            raise PddlError("a (when ...) inside a (when ...) is not PDDL")
        return ("when", condition(words[1], scope), effect(words[2], scope, True))
    if head in ASSIGNMENTS and len(words) == 3:
        # The others need a value that is there already.
        fluent = scope.fluent(words[1], exact=head == "assign")
        return (head, fluent, expression(words[2], scope))
    return scope.atom(words, exact=True)
