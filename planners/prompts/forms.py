"""Other forms of a plan than lines of actions in parentheses: JSON, function calls, one expression.

Each function takes a text that should be a plan and nothing else, and the names of the domain's
actions; it returns the plan, or None where the text has another form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container
from typing import Any

from planners.pddl.sexpr import fold
from planners.records import Action, Plan

# Possessive repeats (`++`) keep hostile completions from backtracking.
_WRAPPED = re.compile(r"[\[(]\s*+(?::?plan(?=[\s(]))?\s*+((?:\([^()]*+\)[\s,]*+)++)[\])]", re.I)
_INSIDE = re.compile(r"\(([^()]*)\)")
_CALL = re.compile(r"([^\s()\[\],]+)\(([^()]*)\)[.;,]?")
_PLANS = ("plan", "actions", "steps", "solution", "answer")
"""Keys under which a JSON object may hold its plan."""
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
        return _plan_of(json.loads(text), schemas)
    except (ValueError, RecursionError):
        return None


def _plan_of(value: Any, schemas: Container[str]) -> Plan | None:
    if isinstance(value, dict):
        held = [value[key] for key in _PLANS if key in value]
        return _plan_of(held[0], schemas) if held else None
    if isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, list):
        return None
    actions = [_action_of(item) for item in value]
    known = [action for action in actions if action and action[0] in schemas]
    return Plan(tuple(known)) if len(known) == len(actions) else None


def _action_of(item: Any) -> Action | None:
    """An action as a string, as a list of words, or as an object."""
    if isinstance(item, dict):
        name = next((item[key] for key in _NAMES if key in item), None)
        rest: Any = next((item[key] for key in _ARGUMENTS if key in item), [])
        item = [name, *rest] if isinstance(rest, list) and rest else name
    if isinstance(item, str):
        item = item.strip().removeprefix("(").removesuffix(")").split()
    if not isinstance(item, list) or not all(isinstance(word, str) for word in item):
        return None
    return tuple(fold(word) for word in item)


FORMS: tuple[Callable[[str, Container[str]], Plan | None], ...] = (wrapped, in_json, calls)
"""In the order in which they are tried."""
