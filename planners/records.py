"""The frozen records that all packages share, and the hashes that identify things by content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Annotated, Any, NamedTuple, Protocol

from annotated_types import Ge, Gt, Le

Atom = tuple[str, ...]
"""A ground atom: predicate, then its objects."""
Action = tuple[str, ...]
"""A ground action: schema name, then its objects."""
Formula = tuple[Any, ...]
"""A PDDL condition as nested tuples: ("and", ("on", "a", "b"), ("not", ("clear", "b")))."""


INGESTED = -1
"""The generation number of imported traces, which none of our models sampled."""


class Outcome(StrEnum):
    """Every outcome that a judged plan can have. A trace that was not judged has None instead."""

    VALID = "VALID"
    GOAL_NOT_REACHED = "GOAL_NOT_REACHED"
    PRECONDITION_FAILED = "PRECONDITION_FAILED"
    UNKNOWN_ACTION = "UNKNOWN_ACTION"
    UNKNOWN_OBJECT = "UNKNOWN_OBJECT"
    WRONG_ARITY = "WRONG_ARITY"
    WRONG_TYPE = "WRONG_TYPE"
    NO_PLAN = "NO_PLAN"
    TRUNCATED = "TRUNCATED"


@dataclass(frozen=True, slots=True)
class Problem:
    """A PDDL problem as read or generated: lower-case names, facts in file order."""

    domain: str
    name: str
    objects: tuple[tuple[str, str], ...]
    init: tuple[Atom, ...]
    goal: Formula


@dataclass(frozen=True, slots=True)
class Plan:
    """A sequential plan: ground actions in order."""

    actions: tuple[Action, ...]

    def __len__(self) -> int:
        return len(self.actions)

    def __str__(self) -> str:
        """The text of a plan file: one action per line, each ending in a newline."""
        return "".join(f"({' '.join(action)})\n" for action in self.actions)


class Verdict(NamedTuple):
    """A checker's judgement of one plan.

    `step` is the 0-based index of the first bad action, None if no single action is to blame.
    `detail` is the unmet condition in PDDL, or in words whatever else was wrong. `cost` is None
    unless VALID, then the plan's cost under the task's metric, or its length without a metric.
    """

    outcome: Outcome
    step: int | None
    detail: str
    cost: float | None
    checker: str
    checker_version: str

    @property
    def valid(self) -> bool:
        return self.outcome is Outcome.VALID


STRICT: Any = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
"""Pydantic's configuration for the plain dataclasses that hold settings."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling settings. Temperature 0 is greedy decoding; `top_p` is the probability mass of
    nucleus sampling; `max_new_tokens` is the most tokens that a completion may have.
    """

    __pydantic_config__ = STRICT

    temperature: Annotated[float, Ge(0)] = 1.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    max_new_tokens: Annotated[int, Gt(0)] = 128


class Turn(NamedTuple):
    """The characters and tokens of one turn in a completion that has several. The model and the
    tool `validate` take turns, and the model has the first and the last one.
    """

    characters: int
    tokens: int


def turn_texts(text: str, characters: Sequence[int]) -> list[str]:
    """The text of each turn of a completion, given their characters; the whole of one turn."""
    ends = list(accumulate(characters, initial=0))
    return [text[start:end] for start, end in pairwise(ends)] or [text]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion.

    `logprob` is the natural log-probability of its tokens under the model at temperature 1, and
    `sampling_logprob` under the distribution they were drawn from; None if the backend reports
    none. `finish_reason` is "stop" (the model ended it) or "length" (cut at max_new_tokens).
    `token_ids` is empty if the backend reports only the number of `tokens`, and `tokens` is None
    if it reports neither. `reasoning_tokens` counts tokens up to the end mark of the reasoning, and
    all turns but the last one. `turns` is empty if there is one turn only; log-probabilities are of
    the model's own tokens.
    """

    text: str
    finish_reason: str
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    sampling_logprob: float | None = None
    reasoning_tokens: int = 0
    tokens: int | None = None
    turns: tuple[Turn, ...] = ()

    @property
    def plan_tokens(self) -> int:
        """Number of tokens after the reasoning."""
        written = len(self.token_ids) if self.tokens is None else self.tokens
        return written - self.reasoning_tokens

    @property
    def turn_characters(self) -> tuple[int, ...] | None:
        """The characters of each turn; None if there is one only."""
        return tuple(turn.characters for turn in self.turns) or None

    @property
    def turn_tokens(self) -> tuple[int, ...] | None:
        """The tokens of each turn; None if there is one only."""
        return tuple(turn.tokens for turn in self.turns) or None


Prompt = str | tuple[int, ...]
"""A prompt as a text, or as the token ids of all that the model has read and written so far."""


Heard = Callable[[int, int], None]
"""Told a token as it is drawn: how many came before, and its id. If memory ran out, the first ones
are drawn again, and are the same.
"""


class Policy(Protocol):
    """The interface of anything that samples completions: a model, a server, a script."""

    name: str

    def require_room(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Raise InvalidInput if prompts are known to be too long to leave room for an answer. By
        default, any prompt is accepted.
        """
        return None

    def stream(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        known: Collection[int] = (),
    ) -> Iterator[dict[int, Completion]]:
        """Yield completions by row, as they are finished, one per prompt.

        `seeds[i]` alone decides the random draws of row i. Rows in `known` are not needed; they may
        be yielded all the same, so that the others are computed exactly as without them.
        """
        ...

    def sample(
        self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion per prompt, in order."""
        found: dict[int, Completion] = {}
        for some in self.stream(prompts, sampling, seeds):
            found |= some
        return [found[row] for row in range(len(prompts))]


def content_hash(*parts: str, length: int = 32) -> str:
    """blake2b hex digest, `length` characters, of the parts; ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.blake2b(digest_size=length // 2)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


IDENTITY = re.compile(r"[A-Za-z0-9_.-]+-[0-9a-f]{12}")
"""The id of an experiment: its name and the hash of its settings."""
SEEDS = 2**63
"""Seeds are below this."""


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the parts that identify a draw: experiment seed, generation, task ..."""
    return int(content_hash(*map(str, parts)), 16) >> 65
