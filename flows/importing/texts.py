"""Texts in messages as other tools write them: their parts, reasoning, and how answers ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

DEEPEST = 12
"""Levels of an object that are looked through for a text."""
TEXT_IN = ("content", "text", "parts", "message", "messages", "kwargs", "prompt", "prompts",
           "completion", "input", "output", "answer")  # fmt: skip
"""Where an object may have its text, in the order in which they are tried."""
PARTS_IN = ("content", "parts")
"""Where a message may have its text in several parts."""
FIRST_OF = ("choices", "generations", "candidates")
"""Where it may have several answers, of which the first counts."""
THOUGHT_IN = ("reasoning_content", "reasoning", "thinking")
"""Where a message or a part of one may have its reasoning; a part may also be of such a type."""
ENDED_IN = (*FIRST_OF, "generation_info", "response_metadata", "message", "kwargs")
"""Where an answer may have an object that tells how it ended."""
REASONS = ("finish_reason", "stop_reason", "finishReason")
"""Where an answer may tell why it ended."""
CUT = {"length", "max_tokens", "model_length"}
"""Ends of an answer that had no room."""


def pieces(value: object, depth: int = 0) -> Iterator[tuple[bool, str]]:
    """The texts in a string, messages, parts of one, or objects with them; whether each is
    reasoning.
    """
    if isinstance(value, str):
        yield False, value
    elif depth < DEEPEST and isinstance(value, list):
        for one in value:
            yield from pieces(one, depth + 1)
    elif depth < DEEPEST and isinstance(value, dict):
        thought = value.get("type") in THOUGHT_IN
        for name in THOUGHT_IN:
            if isinstance(found := value.get(name), str) and found:
                yield True, found
        for name in FIRST_OF:
            if (first := first_of(value.get(name))) is not None:
                # LangChain's has a text as well, without the reasoning.
                told = first.get("message") if isinstance(first, dict) else None
                yield from [*pieces(told, depth + 1)] or pieces(first, depth + 1)
                return
        for name in TEXT_IN:
            if value.get(name) is not None:
                found = ((thought or one, text) for one, text in pieces(value[name], depth + 1))
                yield from _joined(found) if name in PARTS_IN else found
                return


def _joined(parts: Iterable[tuple[bool, str]]) -> Iterator[tuple[bool, str]]:
    """Parts of one message: those that follow each other are one text."""
    for thought, texts in groupby(parts, key=lambda part: part[0]):
        yield thought, "".join(text for _, text in texts)


def _calls_tools(value: object, depth: int = 0) -> bool:
    """Whether an answer calls tools."""
    if isinstance(value, list):
        value = first_of(value)
    if depth > DEEPEST or not isinstance(value, dict):
        return False
    inner = (_calls_tools(value.get(name), depth + 1) for name in ENDED_IN)
    return bool(value.get("tool_calls")) or any(inner)


def text_of(value: object) -> str:
    """The text of a prompt: a string, messages, parts of one, or objects with them."""
    system = value.get("system") if isinstance(value, dict) else None  # as of Anthropic
    every = [*pieces(system), *pieces(value)] if isinstance(system, str | list) else pieces(value)
    return "\n\n".join(text for thought, text in every if text and not thought)


def answer_of(value: object) -> str | None:
    """The text of an answer, after its reasoning if that is told; None where there is none, as
    after a call that failed, or where it calls tools instead.
    """
    found = list(pieces(value))
    silent = not any(text.strip() for thought, text in found if not thought)
    if not found or (silent and _calls_tools(value)):
        return None
    thought, text = ("\n\n".join(one for is_it, one in found if one and is_it is kind)
                     for kind in (True, False))  # fmt: skip
    return f"<think>\n{thought}\n</think>\n{text}" if thought else text


def ended(value: object, depth: int = 0) -> str:
    """`length` where an answer tells that it was cut, else `stop`."""
    if isinstance(value, list):
        value = first_of(value)
    if depth > DEEPEST or not isinstance(value, dict):
        return "stop"
    if {str(value.get(name)).lower() for name in REASONS} & CUT:
        return "length"
    inner = (ended(value.get(name), depth + 1) for name in ENDED_IN)
    return "length" if "length" in inner else "stop"


def first_of(value: object) -> object:
    """The first of several, or of the several of the first; None where there is none."""
    while isinstance(value, list):
        value = value[0] if value else None
    return value
