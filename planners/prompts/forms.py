"""Other forms of a plan than lines of actions in parentheses: JSON, function calls, one expression.

Each function takes a text that should be a plan and nothing else, and the names of the domain's
actions; it returns the plan, or None where the text has another form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from planners.pddl.sexpr import fold
from planners.records import Action, Plan

# Possessive repeats (`++`) keep hostile completions from backtracking.
_WRAPPED = re.compile(r"[\[(]\s*+(?::?plan(?=[\s(]))?\s*+((?:\([^()]*+\)[\s,]*+)++)[\])]", re.I)
_SOME = re.compile(r"\s*+(?:\([^()]*+\)\s*+)++|[^()]++")
"""Actions in parentheses, or one without."""
_INSIDE = re.compile(r"\(([^()]*)\)")
_CALL = re.compile(r"([^\s()\[\],]+)\(([^()]*)\)[.;,]?")
_PLANS = ("plan", "actions", "steps", "solution", "answer")
"""Keys under which a JSON object may hold its plan."""
_WORD = re.compile(r"[^\s()]+")
_JOINED = re.compile(r"\(\s*+([^\s();]++)([^();]*+)\)")
_NUMBERED = re.compile(r"^[ \t]*+\((\d{1,6})\)[ \t]*+(?=[(`])", re.M)
_IN_A_ROW = re.compile(r"\);[ \t]*+(?=\([ \t]*+([^\s()]++))")
_SPACES = str.maketrans(
    dict.fromkeys("\u00a0\u202f\u2007\u2009\u3000", " ") | {"\u200b": "", "\ufeff": ""}
)
_NAMES = ("action", "name", "schema", "operator")
_ARGUMENTS = ("args", "arguments", "parameters", "params", "objects")
LARGEST = 1 << 20
"""Characters of the longest text that is tried as JSON."""


def wrapped(text: str, schemas: Container[str]) -> Plan | None:
    """`(plan (a) (b))`, `((a) (b))` or `[(a), (b)]`: one expression around all actions."""
    found = _WRAPPED.fullmatch(text.strip())
    if found is None:
        return None
    actions = [tuple(fold(inside).split()) for inside in _INSIDE.findall(found[1])]
    return Plan(tuple(actions)) if all(actions) else None


def calls(text: str, schemas: Container[str]) -> Plan | None:
    """`stack(a, b)` on each line, of the domain's actions."""
    actions: list[Action] = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        found = _CALL.fullmatch(line)
        if found is None or fold(found[1]) not in schemas:
            return None
        arguments = (part.strip() for part in found[2].split(","))
        actions.append((fold(found[1]), *(fold(part) for part in arguments if part)))
    return Plan(tuple(actions)) if actions else None


def in_json(text: str, schemas: Container[str]) -> Plan | None:
    """A JSON list of actions, or an object that holds one: strings, lists of words, or objects with
    a name and arguments.
    """
    if not text.lstrip().startswith(("[", "{")) or len(text) > LARGEST:
        return None
    try:
        found = _plan_of(json.loads(text, object_pairs_hook=_once), schemas)
        str(found).encode()  # an escape may stand for half a character, which is none
    except (ValueError, RecursionError):
        return None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys. Raises ValueError for a key that is there twice: which counts?"""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _plan_of(value: Any, schemas: Container[str]) -> Plan | None:
    if isinstance(value, dict):
        told = [value[key] for key in _PLANS if key in value]
        # A number of steps, or a word, beside the plan is not another one.
        held = [_plan_of(one, schemas) for one in told if _may_hold(one, schemas)]
        return held[0] if held and all(plan == held[0] for plan in held) else None
    if isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, list):
        return None
    found = [_actions_of(item, schemas) for item in value]
    actions = [action for some in found for action in some or ((),)]
    known = [action for action in actions if action and action[0] in schemas]
    return Plan(tuple(known)) if len(known) == len(actions) else None


def _may_hold(value: Any, schemas: Container[str]) -> bool:
    if isinstance(value, str):
        return "(" in value or any(word in schemas for word in fold(value).split())
    return isinstance(value, list | dict)


def _actions_of(item: Any, schemas: Container[str]) -> list[Action] | None:
    """The action of an object or a list of words, or those of a string; None if it has none."""
    if isinstance(item, dict):
        name = next((item[key] for key in _NAMES if key in item), None)
        rest: Any = next((item[key] for key in _ARGUMENTS if key in item), None)
        rest = _beside(name, item, schemas) if rest is None else rest
        rest = _in_order(name, rest, schemas) if isinstance(rest, dict) else rest
        if not isinstance(rest, list):
            return None
        item = [name, *rest] if rest else name
    if isinstance(item, str):
        if not _SOME.fullmatch(item):
            return None
        bare = fold(item.replace(",", " "))
        first, *later = (part.split() for part in re.split("[,;]", fold(item)))
        if is_whole(first, schemas) and any(words and words[0] in schemas for words in later):
            return None  # several actions in a row, without parentheses
        return [tuple(one.split()) for one in _INSIDE.findall(bare)] or [tuple(bare.split())]
    if not isinstance(item, list) or not all(isinstance(word, str) for word in item):
        return None
    words = [fold(word.strip()) for word in item]
    return [tuple(words)] if all(map(_WORD.fullmatch, words)) else None


def _beside(name: Any, item: dict[str, Any], schemas: Container[str]) -> list[Any] | None:
    """Arguments that stand beside an action by their parameters' names, in order: none for one that
    takes none, and None where they are others.
    """
    known = isinstance(name, str) and isinstance(schemas, Mapping) and schemas.get(fold(name))
    beside = {key: value for key, value in item.items() if key not in _NAMES}
    if not known or not known.parameters or not beside:
        return []
    given = {f"?{fold(key).removeprefix('?')}" for key in beside}
    fits = given == {variable for variable, _ in known.parameters}
    return _in_order(name, beside, schemas) if fits else None


def is_whole(words: Sequence[str], schemas: Container[str]) -> bool:
    """Whether these words may be an action with all its arguments."""
    known = schemas.get(words[0]) if words and isinstance(schemas, Mapping) else None
    return known is None or len(known.parameters) == len(words) - 1


def _in_order(name: Any, named: dict[str, Any], schemas: Container[str]) -> list[Any] | None:
    """Arguments that are given by name, in the order of the action's parameters; None if they are
    not those, as nothing is guessed. One alone needs no order.
    """
    if len(named) <= 1:
        return list(named.values())
    known = isinstance(name, str) and isinstance(schemas, Mapping) and schemas.get(fold(name))
    order = [variable for variable, _ in known.parameters] if known else []
    given = {f"?{fold(key).removeprefix('?')}": value for key, value in named.items()}
    fits = given.keys() == set(order) and len(given) == len(named)
    return [given[variable] for variable in order] if fits else None


def tidied(answer: str, schemas: Container[str]) -> str:
    """An answer with plain blanks, each action on one line and without commas, numbers
    as `1.`, and no `;` between two actions.
    """

    def joined(match: re.Match[str]) -> str:
        if not ("\n" in match[0] or "," in match[0]) or fold(match[1].rstrip(",")) not in schemas:
            return match[0]
        words = (word.rstrip(",") for word in (match[1], *match[2].split()))
        return f"({' '.join(filter(None, words))})"

    def in_a_row(match: re.Match[str]) -> str:
        return ") " if fold(match[1]) in schemas else match[0]

    plain = _NUMBERED.sub(r"\1. ", answer.translate(_SPACES))
    return _IN_A_ROW.sub(in_a_row, _JOINED.sub(joined, plain))


FORMS: tuple[Callable[[str, Container[str]], Plan | None], ...] = (wrapped, in_json, calls)
"""In the order in which they are tried."""
