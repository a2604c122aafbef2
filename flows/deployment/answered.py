"""One answer to a user, or one piece of feedback, as a line of the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from planners.errors import InvalidInput
from planners.records import SEEDS, Completion, content_hash

Endpoint = Literal["chat", "completions", "plans", "correction", "shadow"]


CHOSEN = "chosen"
"""Among the settings of an answer: that its generation was asked for by its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A completion that a user was given, one that a shadow wrote beside it, or a plan that a user
    wrote to correct one; `corrects` is then the user's answer.

    `domain` and `problem` are PDDL, if the prompt is a planning task; `prompt_format` is then that
    of the prompt. `user` and `session` are keyed hashes.
    """

    nonce: str
    endpoint: Endpoint
    experiment: str
    generation: int
    weights: str
    received: datetime
    latency_ms: float
    prompt: str
    prompt_format: str
    settings: dict[str, float | int | None]
    text: str
    finish_reason: Literal["stop", "length"]
    policy: str
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 0
    token_ids: tuple[int, ...] = ()
    reasoning_tokens: int = 0
    plan_tokens: int = 0
    logprob: float | None = None
    sampling_logprob: float | None = None
    domain: str | None = None
    problem: str | None = None
    user: str | None = None
    session: str | None = None
    metadata: dict[str, Any] | None = None
    corrects: str | None = None
    turn_characters: tuple[int, ...] | None = None
    turn_tokens: tuple[int, ...] | None = None

    @property
    def trace(self) -> str:
        """The id of its trace."""
        return answered_id(self.nonce, content_hash(self.prompt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A user's word on an answer."""

    trace: str
    accepted: bool
    given: datetime
    score: float | None = None
    comment: str | None = None
    user: str | None = None


def answered_id(nonce: str, prompt_hash: str) -> str:
    """The id of a trace that answers a user, or corrects an answer."""
    return content_hash(nonce, prompt_hash)


def drawn(completion: Completion) -> Mapping[str, Any]:
    """The fields of an answer that its completion gives."""
    names = (
        "text", "token_ids", "reasoning_tokens", "plan_tokens", "logprob", "sampling_logprob",
        "turn_characters", "turn_tokens",
    )  # fmt: skip
    cut = completion.finish_reason == "length"
    written = {name: getattr(completion, name) for name in names}
    return {**written, "finish_reason": "length" if cut else "stop"}


KINDS: dict[str, TypeAdapter[Any]] = {
    "answered": TypeAdapter(Answered),
    "told": TypeAdapter(Told),
}


def as_line(what: Answered | Told) -> bytes:
    """A line of the log, its end included."""
    kind = "answered" if isinstance(what, Answered) else "told"
    content = {"kind": kind} | {one.name: getattr(what, one.name) for one in fields(what)}
    return json.dumps(content, default=datetime.isoformat).encode() + b"\n"


def of_line(line: bytes) -> Answered | Told:
    """Read a line. Raises InvalidInput where it says nothing that this version knows."""
    try:
        content = json.loads(line)
        found: Answered | Told = KINDS[content.pop("kind")].validate_python(
            {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
        )
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"a line of the log cannot be read: {str(error)[:200]}") from error
