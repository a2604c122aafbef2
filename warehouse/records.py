"""The records that the warehouse keeps: one class per table, one sentence per column.

Packages exchange records, never rows. Unknown values are None. `warehouse.schema` builds the tables
from these classes, so each column is declared once. Ids are hashes of content, so writing the same
record twice gives one row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, ClassVar

from planners import pddl as planning
from planners.records import Turn, content_hash


def stored(sentence: str, *, key: bool = False, column: str | None = None, **how: Any) -> Any:
    """A field that is stored as a column, named `column` if given; `key` makes it part of the row's
    key.
    """
    return field(metadata={"sentence": sentence, "key": key, "column": column}, **how)


def utc(time: datetime) -> datetime:
    """The time in UTC, without its zone; a time that names no zone is taken to be in UTC."""
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


@lru_cache(maxsize=4096)
def _parsed(domain: str, problem: str) -> planning.Task:
    return planning.read_task(domain, problem)


class Record:
    """A row of a table; `grain` says what a row is."""

    __slots__ = ()
    table: ClassVar[str]
    grain: ClassVar[str]

    @classmethod
    @cache
    def columns(cls) -> dict[str, str]:
        """The column of each field that is stored, by field name."""
        declared: tuple[Any, ...] = fields(cls)  # type: ignore[arg-type]
        return {f.name: f.metadata["column"] or f.name for f in declared if f.metadata}


NO_SETTINGS = "{}"
"""The `config` of a source of ingested traces: it has no settings."""


@dataclass(frozen=True, slots=True)
class Experiment(Record):
    """An experiment that was started, or a source of ingested traces."""

    table = "experiments"
    grain = (
        "One row per experiment: everything that determines a run. A source of ingested traces has "
        "a row with empty settings."
    )

    id: str = stored("Its name and hash, as views show it.", key=True, column="experiment")
    hash: str = stored("Hash of all that determines the run's contents.")
    name: str = stored("Name of the preset or file it came from.")
    seed: int = stored("The seed that every other seed of the run derives from.")
    config: str = stored("Everything that determines the run, as canonical JSON.")
    code_version: str = stored("Version of Posterity that started it.")


@dataclass(frozen=True, slots=True)
class Domain(Record):
    """A PDDL domain, identified by the hash of its text."""

    table = "domains"
    grain = "One row per PDDL domain."

    hash: str = stored("Hash of the domain's PDDL text.", key=True, column="domain_hash")
    name: str = stored("Name of the domain.")
    pddl: str = stored("The domain's PDDL text.")

    @classmethod
    def of(cls, name: str, text: str) -> Domain:
        """The domain that a text describes."""
        return cls(content_hash(text), name, text)


@dataclass(frozen=True, slots=True)
class Task(Record):
    """A planning task as PDDL texts, with its size and horizon. `split` and `position`, which are
    not stored, are its place in the experiment that it was read for.
    """

    table = "tasks"
    grain = "One row per planning task."

    key: str = stored("Hash of the task's canonical PDDL.", key=True, column="task")
    domain_hash: str = stored("The domain it belongs to.")
    domain: str = stored("Name of that domain.")
    size: int = stored("Size as the domain's generator counts it, for example blocks.")
    horizon: int | None = stored("Graded difficulty for whoever wrote the task first.")
    pddl: str = stored("The problem's PDDL text.")
    domain_pddl: str = ""
    split: str | None = None
    position: int | None = None

    @classmethod
    def of(cls, domain: Domain, key: str, size: int, horizon: int | None, text: str) -> Task:
        """A task of a domain."""
        return cls(key, domain.hash, domain.name, size, horizon, text, domain.pddl)

    @property
    def parsed(self) -> planning.Task:
        """The parsed task. Raises PddlError if its PDDL is wrong."""
        return _parsed(self.domain_pddl, self.pddl)


@dataclass(frozen=True, slots=True)
class Place(Record):
    """The place of a task in an experiment: its split and position."""

    table = "experiment_tasks"
    grain = "One row per task of an experiment: which split it is in."

    experiment: str = stored("The experiment.", key=True)
    task: str = stored("The task.", key=True)
    split: str = stored("train (deployed, learned from), heldout, larger than trained, or fresh.")
    position: int = stored("Place of the task in its split, from 0.")
    generation: int | None = stored("The generation that a fresh task is for.", default=None)
    horizon: int | None = stored("Graded difficulty as this experiment drew it.", default=None)


@dataclass(frozen=True, slots=True)
class Generation(Record):
    """A generation: what it was made from, where its weights are, and what it learned."""

    table = "generations"
    grain = "One row per model generation."

    experiment: str = stored("The experiment.", key=True)
    index: int = stored("Index of the generation; 0 is the base.", key=True, column="generation")
    parent: int | None = stored("The generation deployed when it was made; none for the base.")
    start: str = stored("Weights that training started from: base, parent, or none for the base.")
    checkpoint: str = stored("Folder of the weights, in the warehouse's folder of checkpoints.")
    weights_hash: str = stored("Hash of the weights file.")
    training_set_hash: str | None = stored(
        "Hash of tasks, completions and weights learned.", default=None
    )
    training: str | None = stored(
        "Facts of the training run as JSON: rows, steps, tokens, losses.", default=None
    )
    files: str | None = stored(
        "Hash of each file beside the weights, such as the tokenizer's, as JSON.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace(Record):
    """A completion for a task, with all that was recorded when it was sampled."""

    table = "traces"
    grain = "One row per trace; kept for ever, valid or not."

    id: str = stored(
        "Hash of experiment, generation, purpose, task and sample; of an ingested trace, of its "
        "source, task, model and text; of a user's, of nonce and prompt.",
        key=True,
        column="trace",
    )
    experiment: str = stored("The experiment, or the source of ingested traces.")
    generation: int = stored("Generation that wrote it; -1 for ingested traces.")
    purpose: str = stored(
        "deploy, request (by a user), correction (of one) or ingest, which may be learned from; "
        "evaluate or shadow (of a request), which never are."
    )
    task: str = stored("The task it answers.")
    sample: int = stored("Number of the sample of this task, from 0.")
    seed: int = stored("Seed of its random draws.")
    prompt_format: str = stored("Name and version of the prompt format.")
    prompt_hash: str = stored("Hash of the prompt text.")
    text: str = stored("The whole completion: reasoning, then a plan.")
    token_ids: tuple[int, ...] = stored("Token ids of the completion, end-of-sequence included.")
    reasoning_tokens: int = stored("Tokens up to and with the end of the reasoning.")
    plan_tokens: int = stored("Tokens after the reasoning.")
    finish_reason: str = stored("stop (the model ended it) or length (cut).")
    logprob: float | None = stored("Natural log-probability under the model itself.")
    sampling_logprob: float | None = stored("The same under the distribution it was drawn from.")
    policy: str = stored("Name and weights hash of what wrote it.")
    code_version: str = stored("Version of Posterity that sampled or ingested it.")
    written_at: datetime | None = stored("When an ingested trace was written (UTC).", default=None)
    turn_characters: tuple[int, ...] | None = stored("Characters of each turn.", default=None)
    turn_tokens: tuple[int, ...] | None = stored("The same in tokens; none of one.", default=None)


@dataclass(frozen=True, slots=True)
class Answer:
    """The part of a trace that a checker needs: its origin and its text."""

    id: str
    experiment: str
    generation: int
    purpose: str
    task: str
    text: str
    finish_reason: str
    prompt_format: str


@dataclass(frozen=True, slots=True)
class Feedback(Record):
    """Whether a trace's user accepted it."""

    table = "feedback"
    grain = "One row per trace that a user accepted or rejected."

    trace: str = stored("The trace.", key=True)
    accepted: bool = stored("Whether its user accepted it; no verdict on its plan.")
    score: float | None = stored("The user's score, on a scale of the client's.", default=None)
    comment: str | None = stored("What the user said of it.", default=None)
    user_hash: str | None = stored("Who said so, as a keyed hash.", default=None)
    given_at: datetime | None = stored("When, in UTC.", default=None)
    first_accepted: bool | None = stored("What was said first, if it changed.", default=None)
    first_given_at: datetime | None = stored("When that was said, in UTC.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Record):
    """How a trace came about that answers a user."""

    table = "requests"
    grain = "One row per trace that answered a user, or that a user wrote to correct one."

    trace: str = stored("The trace.", key=True)
    nonce: str = stored("Random; the trace's id is the hash of it with the prompt's.")
    endpoint: str = stored("What was asked: chat, completions, plans; or correction, shadow.")
    received_at: datetime = stored("When the request came in, in UTC.")
    latency_ms: float = stored("Milliseconds until its answer was drawn.")
    weights_hash: str = stored("Hash of the weights that answered.")
    prompt: str = stored("The prompt's text.")
    settings: str = stored("Sampling settings, as JSON.")
    user_hash: str | None = stored("The user, as a keyed hash.", default=None)
    session_hash: str | None = stored("The session, as a keyed hash.", default=None)
    metadata: str | None = stored("What the client sent along, as JSON.", default=None)
    corrects: str | None = stored(
        "The answer that a correction corrects, or that a shadow was written beside.", default=None
    )


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """A curator's decision on a trace of a pool, for as many generations as it stood unchanged."""

    table = "selections"
    grain = "One row per trace and decision on it, for all generations that it stood unchanged."

    experiment: str = stored("The experiment.", key=True)
    since: int = stored("First generation that was trained while it stood.", key=True)
    until: int | None = stored("The last one; none while it stands.")
    trace: str = stored("A trace of the pool.", key=True)
    kept: bool = stored("Whether the generation learns from it.")
    weight: float = stored("Its weight in training; 0 where dropped.")
    reason: str = stored("Why it was kept or dropped.")
    task: str = stored("The trace's task.")
    from_generation: int = stored("The generation that wrote it; -1 for ingested traces.")
    plan_length: int | None = stored("Actions of its plan, as judged then.")
    reasoning_tokens: int = stored("Tokens of its reasoning.")
    accepted: bool | None = stored("Whether its user had accepted it by then; none if unsaid.")

    @property
    def generations(self) -> str:
        """The generations that it stood for, in words."""
        end = "and later" if self.until is None else f"to {self.until}"
        several = f"generations {self.since} {end}"
        return f"generation {self.since}" if self.until == self.since else several


@dataclass(frozen=True, slots=True)
class Taught:
    """A trace that a generation learns from: its weight and its task."""

    trace: str
    weight: float
    text: str
    prompt_format: str
    purpose: str
    logprob: float | None
    token_ids: tuple[int, ...]
    task: Task
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion(Record):
    """A decision on whether a generation is deployed."""

    table = "promotions"
    grain = "One row per decision on whether a generation is deployed, and followed by others."

    experiment: str = stored("The experiment.", key=True)
    position: int = stored(
        "Place of the decision, from 0; the last one promoted is deployed.", key=True, default=0
    )
    generation: int = stored("The generation that was decided on.")
    promoted: bool = stored("Whether it may be deployed.")
    decided_by: str = stored(
        "always, if-better, if-audited, if-preferred, or person (posterity promote)."
    )
    reason: str = stored("What it was decided on.")


@dataclass(frozen=True, slots=True)
class Landed(Record):
    """A landed file that has been loaded."""

    table = "landed"
    grain = "One row per landed file that is loaded; written with the file's rows."

    file: str = stored("Name of the file: table and hash of the contents.", key=True)
    rows: int = stored("Rows in it.")


@dataclass(frozen=True, slots=True)
class Written(Record):
    """All that was written to a table."""

    table = "ledger"
    grain = "One row per table: what Posterity wrote there. Rows changed otherwise are noticed."

    name: str = stored("The table.", key=True)
    rows: int = stored("Number of its rows.")
    digest: int = stored("Sum of the hashes of its rows, modulo 2^61.")


@dataclass(frozen=True, slots=True)
class Mark(Record):
    """A finished part of a stage."""

    table = "marks"
    grain = "One row per finished part of a stage: what is here need not be done again."

    experiment: str = stored("The experiment.", key=True)
    generation: int = stored("The generation.", key=True)
    stage: str = stored("The stage that is complete.", key=True)
    part: int = stored(
        "Which part of the stage, from 0; written with its data in one transaction.",
        key=True,
        default=0,
    )
