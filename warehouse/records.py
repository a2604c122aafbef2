"""The records that the warehouse keeps, one class for each table that others write or read.

They cross from one package to the next; rows do not. What is not known is None in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, lru_cache
from typing import ClassVar

from planners import pddl as planning
from planners.records import INGESTED, content_hash


@lru_cache(maxsize=4096)
def _parsed(domain: str, problem: str) -> planning.Task:
    return planning.read_task(domain, problem)


class Record:
    """A row of a table. `renamed` says which fields are called otherwise in the table."""

    __slots__ = ()
    renamed: ClassVar[dict[str, str]] = {}
    left_out: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    @cache
    def columns(cls) -> dict[str, str]:
        """The fields that are stored, and the column of each."""
        names = [field.name for field in fields(cls) if field.name not in cls.left_out]  # type: ignore[arg-type]
        return {name: cls.renamed.get(name, name) for name in names}


@dataclass(frozen=True, slots=True)
class Experiment(Record):
    """What was begun: `config` is everything that determines the run, as canonical JSON. It is
    NO_SETTINGS for a source of ingested traces.
    """

    id: str
    hash: str
    name: str
    seed: int
    config: str
    code_version: str
    renamed: ClassVar = {"id": "experiment"}


NO_SETTINGS = "{}"
"""The configuration of a source of ingested traces."""


@dataclass(frozen=True, slots=True)
class Domain(Record):
    """A domain's PDDL text, under the hash of it."""

    name: str
    pddl: str
    hash: str
    renamed: ClassVar = {"hash": "domain_hash"}

    @classmethod
    def of(cls, name: str, text: str) -> Domain:
        """The domain that a text describes."""
        return cls(name, text, content_hash(text))


@dataclass(frozen=True, slots=True)
class Task(Record):
    """A planning task as PDDL texts, with its grade; `split` and `position` are its place in the
    experiment that it was asked for by.
    """

    key: str
    domain_hash: str
    domain: str
    size: int
    horizon: int | None
    pddl: str
    domain_pddl: str = ""
    split: str | None = None
    position: int | None = None
    renamed: ClassVar = {"key": "task"}
    left_out: ClassVar = frozenset(("domain_pddl", "split", "position"))

    @classmethod
    def of(cls, domain: Domain, key: str, size: int, horizon: int | None, text: str) -> Task:
        """A task of a domain."""
        return cls(key, domain.hash, domain.name, size, horizon, text, domain.pddl)

    @property
    def parsed(self) -> planning.Task:
        """The task as it is read. Raises PddlError where it cannot be."""
        return _parsed(self.domain_pddl, self.pddl)


@dataclass(frozen=True, slots=True)
class Place(Record):
    """Where an experiment has a task."""

    experiment: str
    task: str
    split: str
    position: int


@dataclass(frozen=True, slots=True)
class Generation(Record):
    """A generation: what it was made from, where its weights are, and the hash of what it learned.

    `training` holds the facts of its training run as JSON.
    """

    experiment: str
    index: int
    parent: int | None
    start: str
    checkpoint: str
    weights_hash: str
    training_set_hash: str | None = None
    training: str | None = None
    renamed: ClassVar = {"index": "generation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Record):
    """What a checker needs of a trace: whose it is, and its text."""

    id: str
    experiment: str
    generation: int
    purpose: str
    task: str
    text: str
    finish_reason: str
    renamed: ClassVar = {"id": "trace"}

    @property
    def ingested(self) -> bool:
        """Whether it was made elsewhere, by no generation of ours."""
        return self.generation == INGESTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace(Answer):
    """A completion for a task, with all that was recorded when it was sampled."""

    sample: int
    seed: int
    prompt_format: str
    prompt_hash: str
    token_ids: tuple[int, ...]
    reasoning_tokens: int
    plan_tokens: int
    logprob: float | None
    sampling_logprob: float | None
    policy: str
    code_version: str
    written_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Record):
    """A checker's verdict on a trace. `superseded`: another version has judged the trace since."""

    trace: str
    checker: str
    checker_version: str
    extraction_version: str
    outcome: str
    step: int | None
    detail: str
    plan_length: int | None
    cost: float | None
    redundant: int | None
    plan: str | None
    experiment: str
    generation: int
    purpose: str
    task: str
    superseded: bool | None = False


@dataclass(frozen=True, slots=True)
class Feedback(Record):
    """Whether a trace's user accepted it."""

    trace: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """A curator's decision on a trace of the pool that a generation was trained from."""

    experiment: str
    generation: int
    trace: str
    kept: bool
    weight: float
    reason: str
    task: str
    from_generation: int
    plan_length: int | None
    reasoning_tokens: int
    accepted: bool | None = None


@dataclass(frozen=True, slots=True)
class Taught:
    """A trace that a generation learns from: its weight and its task."""

    trace: str
    weight: float
    text: str
    prompt_format: str
    purpose: str
    logprob: float | None
    task: Task


@dataclass(frozen=True, slots=True)
class Opinion(Record):
    """What a referee says of a trace's plan; `valid` is None where it has no verdict."""

    trace: str
    referee: str
    valid: bool | None
    note: str


@dataclass(frozen=True, slots=True)
class Promotion(Record):
    """A decision on whether a generation is deployed; `position` is its place among them."""

    experiment: str
    generation: int
    promoted: bool
    decided_by: str
    reason: str
    position: int = 0


@dataclass(frozen=True, slots=True)
class Canary(Record):
    """A plan that was broken on purpose, and the checker's verdict on it."""

    id: str
    experiment: str
    generation: int
    task: str
    kind: str
    text: str
    outcome: str
    renamed: ClassVar = {"id": "canary"}


@dataclass(frozen=True, slots=True)
class Figure(Record):
    """A figure of an audit. `value` is None where the question has no answer; `note` says why."""

    experiment: str
    generation: int
    question: str
    name: str
    measure: str
    value: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Reward(Record):
    """How likely the weights that learned a trace would have been to write it."""

    experiment: str
    generation: int
    trace: str
    logprob: float
    valid_ratio: float | None


@dataclass(frozen=True, slots=True)
class Alternative(Record):
    """A trace on which another curator would have decided otherwise."""

    experiment: str
    generation: int
    curator: str
    trace: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Landed(Record):
    """A landed file that is loaded, and how many rows it had."""

    file: str
    rows: int
