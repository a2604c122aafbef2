"""S-expressions: from PDDL text to nested lists of lower-case words, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

from planners.errors import PddlError

F = TypeVar("F", bound=Callable[..., Any])

_TOKEN = re.compile(r"[()\n]|[^\s();]+|;[^\n]*")
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
MAX_DEPTH = 100
"""Deeper nesting is refused, since the readers recurse."""


def fold(text: str) -> str:
    """Lower case for ASCII letters only, so that look-alikes such as the Kelvin sign stay apart."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


class Words(list[Any]):
    """A parenthesised list of a PDDL file, with the line on which it starts.

    The list of a whole file also has `notes`: what was not PDDL and was read all the same.
    """

    __slots__ = ("line", "notes")

    def __init__(self, words: Iterable[Any] = (), line: int | None = None) -> None:
        super().__init__(words)
        self.line = line
        self.notes: tuple[str, ...] = ()


def located(read: F) -> F:
    """A decorator that adds the line of a reader's first argument to PddlErrors without one."""

    @wraps(read)
    def reading(words: Any, *rest: Any) -> Any:
        try:
            return read(words, *rest)
        except PddlError as error:
            raise error.at(getattr(words, "line", None)) from None

    return cast(F, reading)


def parse(text: str) -> Words:
    """The one expression of a PDDL text, as nested lists of lower-case words. Raises PddlError."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PddlError(f"character {error.start + 1} is half of a surrogate pair") from None
    if "(" not in text:
        raise PddlError(
            f"{text[:60]!r} is not PDDL text; from Python, give a file as a pathlib.Path, and a "
            "built-in domain by its text"
            if text.strip()
            else "the text is empty"
        )
    stack = [Words()]
    line = 1
    surplus: int | None = None
    notes: list[str] = []
    for token in _TOKEN.findall(fold(text)):
        if surplus is not None and token != "\n" and token[0] != ";":
            raise PddlError("unmatched ')'", surplus)
        if token == "\n":
            line += 1
        elif token == "(":
            stack.append(Words((), line))
            if len(stack) > MAX_DEPTH:
                raise PddlError(f"parentheses nest deeper than {MAX_DEPTH}", line)
        elif token == ")":
            if len(stack) == 1:
                surplus = line  # one at the very end does no harm
                notes.append(f"line {line}: a surplus ')' at the end was left out")
                continue
            done = stack.pop()
            stack[-1].append(done)
        elif token[0] == "-" and token[1:2].isalpha():
            notes.append(f"line {line}: {token!r} was read as '- {token[1:]}'")
            stack[-1] += ("-", token[1:])
        elif token[0] != ";":
            stack[-1].append(token)
    if len(stack) > 1:
        begun = ", ".join(str(words.line) for words in stack[1:4])
        raise PddlError(f"{len(stack) - 1} '(' never closed, opened on line {begun}", line)
    if len(stack[0]) != 1 or not isinstance(stack[0][0], Words):
        raise PddlError("expected exactly one (define ...) expression")
    tree: Words = stack[0][0]
    tree.notes = tuple(notes)
    return tree


def words_of(part: Any) -> Iterator[str]:
    """Every word of a nested list or tuple, in order."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from words_of(inner)


def show(expression: Any) -> str:
    """A nested list or tuple as PDDL text."""
    if isinstance(expression, str):
        return expression
    return "(" + " ".join(show(part) for part in expression) + ")"
