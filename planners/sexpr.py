"""S-expressions: PDDL text to nested lists of lower-case words, and back."""

from __future__ import annotations

import re
from typing import Any

from planners.errors import PddlError

_TOKEN = re.compile(r"[()]|[^\s();]+|;[^\n]*")
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
MAX_DEPTH = 100


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
