"""The frozen records that every package speaks in.

Identity is content: a task's key is the hash of its canonical PDDL, whatever its file looked like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Protocol

from annotated_types import Ge, Gt, Le

Atom = tuple[str, ...]
"""A ground atom: predicate, then its objects."""
Action = tuple[str, ...]
"""A ground action: schema name, then its objects."""
Formula = tuple[Any, ...]
"""A PDDL condition as nested tuples, for example ("and", ("on", "a", "b"), ("not", ("clear",
"b"))).
"""


INGESTED = -1
"""The generation of traces that no generation of ours wrote."""


class Outcome(StrEnum):
    """What became of a plan: a closed table. A trace that was not judged has no outcome at all."""

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
        """One action a line, each line ended, as plan files have it."""
        return "".join(f"({' '.join(action)})\n" for action in self.actions)


class Verdict(NamedTuple):
    """A checker's judgement of one plan.

    `step` is the 0-based index of the first bad action, None where no single action is to blame.
    `detail` is the unmet condition in PDDL, or what else was wrong, in words. `cost` is the plan's
    cost under the task's metric (its length where there is none), None unless VALID.
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


STRICT: Any = {"extra": "forbid", "strict": True}
"""How pydantic reads settings that are declared here as plain dataclasses."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are drawn: temperature 0 is greedy, `top_p` the probability of the nucleus,
    `max_new_tokens` the most tokens of a completion.
    """

    __pydantic_config__ = STRICT

    temperature: Annotated[float, Ge(0)] = 1.0
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    max_new_tokens: Annotated[int, Gt(0)] = 128


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion.

    `logprob` is the natural log-probability of the tokens under the model itself (temperature 1);
    `sampling_logprob` under the distribution they were drawn from. None where a backend cannot
    tell. `finish_reason` is "stop" (the model ended it) or "length" (cut at max_new_tokens).
    `token_ids` are empty where a backend tells only how many `tokens` there are, None where not
    even that; `reasoning_tokens` are those up to and with the end of the reasoning.
    """

    text: str
    finish_reason: str
    token_ids: tuple[int, ...] = ()
    logprob: float | None = None
    sampling_logprob: float | None = None
    reasoning_tokens: int = 0
    tokens: int | None = None

    @property
    def plan_tokens(self) -> int:
        """Tokens behind the reasoning."""
        written = len(self.token_ids) if self.tokens is None else self.tokens
        return written - self.reasoning_tokens


class Policy(Protocol):
    """What samples completions: a model, a server, a script."""

    name: str

    def require_room(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Raises InvalidInput where prompts are too long to be answered, as far as it can tell."""
        ...

    def sample(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> list[Completion]:
        """One completion per prompt, in order; `seeds[i]` alone decides the random draws of row
        i. `on_rows` is told how many are done.
        """
        ...

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float | None]:
        """Log-probability (natural, summed over tokens) of each completion given its prompt, None
        where a backend cannot tell.
        """
        ...


def content_hash(*parts: str, length: int = 32) -> str:
    """Hex digest (`length` characters of blake2b) of the parts; part boundaries count."""
    digest = hashlib.blake2b(digest_size=length // 2)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from what identifies a draw (experiment seed, generation, task, sample ...)."""
    return int(content_hash(*map(str, parts)), 16) >> 65
