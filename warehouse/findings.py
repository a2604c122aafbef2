"""Records beside the loop: what audits found, what was forgotten, studies, and clients' keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from warehouse.records import Record, stored


@dataclass(frozen=True, slots=True)
class Figure(Record):
    """A number that an audit found, or the reason why there is none."""

    table = "audits"
    grain = "One row per figure of an audit; auditing again replaces them."

    experiment: str = stored("The experiment.", key=True)
    generation: int = stored("The generation that is asked about.", key=True)
    question: str = stored(
        "preferences, unlisted, between-tasks, disputed, users, acceptance, change, staleness, "
        "mismatch, equivalence, diversity, forecast, other-curator, randomised or "
        "bounds.",
        key=True,
    )
    name: str = stored("Whom it is about: a trait, a source generation, a curator.", key=True)
    measure: str = stored("What was measured.", key=True)
    value: float | None = stored("How much; none where the question has no answer.")
    note: str = stored("How it was found, or why there is no answer.")


@dataclass(frozen=True, slots=True)
class Reward(Record):
    """Log-probability of a kept trace under the weights that training started from."""

    table = "rewards"
    grain = (
        "One row per kept trace that was audited: how likely what learned it would have been to "
        "write it."
    )

    experiment: str = stored("The experiment.", key=True)
    generation: int = stored("The generation that learned the trace.", key=True)
    trace: str = stored("A kept trace.", key=True)
    logprob: float = stored(
        "Its log-probability under the weights that training started from, at the temperature that "
        "it was sampled at."
    )
    valid_ratio: float | None = stored(
        "Share of valid traces under those weights, over that under the ones that wrote it; none "
        "where the trace is invalid."
    )
    reward: float | None = stored(
        "The reward that the curator's choice of it stands for on-policy; none where it was "
        "audited before schema 7."
    )


@dataclass(frozen=True, slots=True)
class Alternative(Record):
    """A trace that another curator would have decided differently."""

    table = "alternatives"
    grain = "One row per trace that another curator would have decided on otherwise."

    experiment: str = stored("The experiment.", key=True)
    generation: int = stored("The generation that was trained.", key=True)
    curator: str = stored("Another curator.", key=True)
    trace: str = stored("A trace on which it differs.", key=True)
    kept: bool = stored(
        "Whether the generation learned it; the other curator decides the opposite."
    )


@dataclass(frozen=True, slots=True)
class Prediction(Record):
    """A forecast of a trait's mean, or of coverage, made before its generation was trained."""

    table = "predictions"
    grain = "One row per generation and trait: the forecast, made before it was trained."

    experiment: str = stored("The experiment.", key=True)
    generation: int = stored("The generation that is forecast.", key=True)
    trait: str = stored("The trait of its deployed traces with a plan, or coverage.", key=True)
    parent: int = stored("The generation deployed when it was made.")
    predicted: float = stored("The mean that is forecast; of coverage, the share.")
    low: float = stored("Lower end of the 90% interval.")
    high: float = stored("Upper end of it.")
    before: float = stored("The parent's mean, or its coverage.")
    kept: float = stored(
        "The mean over what is learned; of coverage, the share of valid traces in it."
    )
    deviation: float = stored(
        "Standard deviation over the parent's traces; of coverage, its standard error in log odds, "
        "0 where that is not told."
    )
    learned: int = stored("Tasks that are learned from.")


@dataclass(frozen=True, slots=True)
class Forgotten(Record):
    """A user's trace whose content was erased; its id and hash are what is left."""

    table = "forgotten"
    grain = "One row per trace whose content was erased because its user asked for it."

    trace: str = stored("The trace.", key=True)
    experiment: str = stored("The experiment.")
    generation: int = stored("The generation that answered.")
    task: str = stored("The task's key; its text is erased too, unless others have the same task.")
    text_hash: str = stored("Hash of the text that was erased.")
    forgotten_at: datetime = stored("When, in UTC.")


@dataclass(frozen=True, slots=True)
class Member(Record):
    """An experiment as a run of a study."""

    table = "studies"
    grain = "One row per study, arm and seed: the experiment that was run for it."

    study: str = stored("Name of the study.", key=True)
    arm: str = stored("The arm: a choice of settings.", key=True)
    seed: int = stored("The seed, which every arm has.", key=True)
    position: int = stored("Place of the arm in the study; the others are compared with arm 0.")
    experiment: str = stored("The experiment.")


@dataclass(frozen=True, slots=True)
class ApiKey(Record):
    """A key that a client of a gateway may use; the key itself is nowhere."""

    table = "api_keys"
    grain = "One row per key that was made for a client of a gateway."

    key_hash: str = stored("Hash of the key, in hexadecimal digits.", key=True)
    name: str = stored("Whose it is.")
    pages: bool = stored("Whether it opens the pages too, where every trace can be read.")
    made_at: datetime = stored("When it was made, in UTC.")
    revoked_at: datetime | None = stored(
        "Since when it opens nothing; none while it does.", default=None
    )
