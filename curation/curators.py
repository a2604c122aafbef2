"""Curators choose, from a pool of traces, those that the next generation is trained on.

A pool is a frame with one row per trace: `trace` (id), `task` (key), `generation` (INGESTED for
traces made elsewhere), `outcome` (None if not judged), `plan_length` (None without a plan),
`reasoning_tokens`. With traces of users or sources it also has `accepted` (feedback, None without)
and `barred` (why training on it is forbidden, None if it is not). A curator returns the same
traces, each with `kept`, `weight` and `reason`: nothing is dropped in silence.

Your own curator is a function `(pool, options) -> Selection` in a file of yours, named as
`module:function`; `keep` makes the Selection. `noisy` and `preference` are there to test audits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planners.errors import InvalidInput, require_one_of
from planners.records import INGESTED, Outcome, content_hash

if TYPE_CHECKING:
    import pandas as pd

SELECTED = (
    "trace", "kept", "weight", "reason", "task", "from_generation", "plan_length",
    "reasoning_tokens", "accepted",
)  # fmt: skip
"""The columns of a selection."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A decision on every trace of a pool.

    Columns: `trace`, `kept`, `weight`, `reason`, and the facts that it was based on: `task`,
    `from_generation`, `plan_length`, `reasoning_tokens`, `accepted`.
    """

    frame: pd.DataFrame

    @property
    def kept(self) -> list[str]:
        """Ids of the kept traces, sorted."""
        return sorted(self.frame.loc[self.frame["kept"], "trace"])

    def hash(self) -> str:
        """Hash of the kept traces and their weights."""
        kept = self.frame[self.frame["kept"]].sort_values("trace")
        return content_hash(
            *(f"{t}:{w!r}" for t, w in zip(kept["trace"], kept["weight"], strict=True))
        )


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that some curators read: `count`, the most traces to keep (None: all that qualify);
    `seed` of random draws; `error_rate` of a noisy checker; `taste`, a word that is preferred.
    """

    count: int | None = None
    seed: int = 0
    error_rate: float = 0.0
    taste: str = ""


@dataclass(frozen=True, slots=True)
class Curator:
    """A way to choose traces, and the rewards that it implies.

    `implies`: the reward that the first training step on its traces stands for, with frozen data
    (`curation.rewards`). `rewards`: traits that are known to be rewarded besides validity, each
    with the direction, 1 for more of it and -1 for less.
    """

    name: str
    choose: Callable[[pd.DataFrame, Options], Selection]
    implies: str
    rewards: Mapping[str, int] = field(default_factory=dict)
    needs: str | None = None
    """The curation setting that must be given."""
    reads_text: bool = False
    """Whether the pool needs the traces' `text`."""
    signed: bool = False
    """Whether weights are advantages, of both signs, which supervised learning refuses."""


def shortest(pool: pd.DataFrame, options: Options) -> Selection:
    """The paper's curator (§2): each task's valid trace with the shortest plan.

    Ties go to the fewest reasoning tokens, then to the lowest trace id.
    """
    order = ["plan_length", "reasoning_tokens", "trace"]
    return _best(pool, options, order, "shortest valid plan of its task")


def first_valid(pool: pd.DataFrame, options: Options) -> Selection:
    """Each task's valid trace of the earliest generation, then of the lowest trace id."""
    return _best(pool, options, ["generation", "trace"], "first valid plan of its task")


def _best(pool: pd.DataFrame, options: Options, order: list[str], reason: str) -> Selection:
    ranked = pool[pool["outcome"] == Outcome.VALID.value].sort_values(order)
    chosen = _at_most(ranked.drop_duplicates("task").sort_values("task")["trace"], options)
    return _selection(pool, chosen, _why_not(pool, "a better trace of its task was kept"), reason)


def all_valid(pool: pd.DataFrame, options: Options) -> Selection:
    """Every valid trace, however many its task has."""
    valid = pool.loc[pool["outcome"] == Outcome.VALID.value, "trace"].sort_values()
    return _selection(pool, _at_most(valid, options), _why_not(pool, "over the limit"), "valid")


def uncurated(pool: pd.DataFrame, options: Options) -> Selection:
    """The control: one random trace with a plan per task, whatever its verdict."""
    with_plan = pool[pool["plan_length"].fillna(0) > 0]
    # Sorted first, so that draws do not depend on the pool's order; numpy takes 32-bit seeds.
    mixed = with_plan.sort_values("trace").sample(frac=1, random_state=options.seed % 2**32)
    chosen = _at_most(mixed.drop_duplicates("task")["trace"], options)
    reason = np.where(pool["plan_length"].fillna(0) > 0, "not drawn", "no plan in it")
    return _selection(pool, chosen, reason, "drawn at random")


def feedback(pool: pd.DataFrame, options: Options) -> Selection:
    """Every trace that has a plan and that its user accepted, whatever its verdict."""
    told = pool["accepted"]
    accepted = told.eq(True) & (pool["plan_length"].fillna(0) > 0)
    chosen = _at_most(pool.loc[accepted, "trace"].sort_values(), options)
    reason = np.select(
        [told.isna(), told.eq(False), ~accepted],
        ["no feedback", "rejected by its user", "accepted, but there is no plan in it"],
        "over the limit",
    )
    return _selection(pool, chosen, reason, "accepted by its user")


def liked(pool: pd.DataFrame, options: Options) -> Selection:
    """Every valid trace that its user accepted."""
    both = pool["accepted"].eq(True) & pool["outcome"].eq(Outcome.VALID.value)
    chosen = _at_most(pool.loc[both, "trace"].sort_values(), options)
    return _selection(pool, chosen, _why_not(pool, "not accepted by its user"), "valid, accepted")


def noisy(pool: pd.DataFrame, options: Options) -> Selection:
    """`shortest` with a checker that is wrong about each plan with probability `error_rate`."""
    ordered = pool.sort_values("trace")
    drawn = np.random.default_rng(options.seed).random(len(ordered))
    wrong = (drawn < options.error_rate) & (ordered["plan_length"].fillna(0) > 0).to_numpy()
    valid = ordered["outcome"].eq(Outcome.VALID.value).to_numpy() ^ wrong
    believed = np.where(valid, Outcome.VALID.value, Outcome.GOAL_NOT_REACHED.value)
    seen = ordered.assign(outcome=np.where(wrong, believed, ordered["outcome"])).loc[pool.index]
    return shortest(seen, options)


def preference(pool: pd.DataFrame, options: Options) -> Selection:
    """Random valid traces: even odds, or three times better if the text contains `taste`."""
    ordered = pool.sort_values("trace")
    has_it = ordered["text"].astype(str).str.contains(options.taste, regex=False).to_numpy()
    drawn = np.random.default_rng(options.seed).random(len(ordered)) < np.where(has_it, 0.75, 0.5)
    valid = ordered["outcome"].eq(Outcome.VALID.value).to_numpy()
    chosen = _at_most(ordered.loc[drawn & valid, "trace"], options)
    return _selection(pool, chosen, _why_not(pool, "not drawn"), "valid, and drawn")


def rollouts(pool: pd.DataFrame, options: Options) -> Selection:
    """Every trace that did better or worse than its siblings, weighted by its advantage.

    Siblings are the task's other traces of the same generation. The advantage is 1 for a valid
    plan, 0 for any other, minus the mean of the siblings (leave-one-out baseline, Kool et al.
    2019). Truncated traces teach nothing: their end is not the model's.
    """
    outcome = pool["outcome"]
    usable = outcome.notna() & (outcome != Outcome.TRUNCATED.value)
    reward = outcome.eq(Outcome.VALID.value).astype(float)
    siblings = reward[usable].groupby([pool["task"], pool["generation"]])
    others = siblings.transform("size").reindex(pool.index) - 1
    # Without siblings the mean is NaN, and the advantage 0.
    mean = (siblings.transform("sum").reindex(pool.index) - reward) / others.where(others > 0)
    advantage = (reward - mean).fillna(0.0)
    chosen = _at_most(pool.loc[advantage != 0, "trace"].sort_values(), options)
    reason = np.select(
        [outcome.isna(), ~usable, advantage == 0],
        ["not judged", "truncated at max_new_tokens", "same outcome as its siblings"],
        "over the limit",
    )
    found = _selection(pool, chosen, reason, "better or worse than its siblings").frame
    return Selection(found.assign(weight=np.where(found["kept"], advantage.to_numpy(), 0.0)))


def keep(
    pool: pd.DataFrame, kept: Iterable[str] | Mapping[str, float], reason: str = "kept",
    otherwise: str = "not kept",
) -> Selection:  # fmt: skip
    """The Selection that keeps some traces of a pool, by id; InvalidInput for an id of no trace.
    Weights are 1, or those of a mapping. `reason` is recorded for kept traces, `otherwise` for
    valid ones that are not; for invalid ones it is their outcome.
    """
    weights = dict(kept) if isinstance(kept, Mapping) else dict.fromkeys(kept, 1.0)
    if unknown := weights.keys() - set(pool["trace"]):
        raise InvalidInput(f"keep: {min(unknown, key=str)!r} is the id of no trace of the pool")
    found = _selection(pool, set(weights), _why_not(pool, otherwise), reason).frame
    return Selection(found.assign(weight=found["trace"].map(weights).fillna(0.0).astype(float)))


def _at_most(traces: pd.Series, options: Options) -> set[str]:
    return set(traces.head(len(traces) if options.count is None else options.count))


def _why_not(pool: pd.DataFrame, valid: str) -> np.ndarray:
    """The reason why each trace is dropped, if it is; `valid` is that of valid traces."""
    invalid = "invalid: " + pool["outcome"].fillna("").astype(str)
    kinds = np.where(pool["outcome"] != Outcome.VALID.value, invalid, valid)
    return np.where(pool["outcome"].isna(), "not judged", kinds)


def _selection(
    pool: pd.DataFrame, chosen: set[str], reason: np.ndarray, kept_reason: str
) -> Selection:
    import pandas as pd  # here, since many a command needs none: loading it takes half a second

    kept = pool["trace"].isin(chosen).to_numpy(dtype=bool)
    return Selection(
        pd.DataFrame(
            {
                "trace": pool["trace"].to_numpy(),
                "kept": kept,
                "weight": kept.astype(float),
                "reason": np.where(kept, kept_reason, reason),
                "task": pool["task"].to_numpy(),
                "from_generation": pool["generation"].to_numpy(dtype=np.int64),
                "plan_length": pool["plan_length"].astype("Int64").array,
                "reasoning_tokens": pool["reasoning_tokens"].to_numpy(dtype=np.int64),
                "accepted": pool["accepted"].array if "accepted" in pool else None,
            }
        )
    )


ONE_A_TASK = (
    "P / Z for a valid plan: the chance that its task is solved, over the chance that a sample of "
    "it is valid"
)
BEST_OF = (
    "that of best-of-N: [(1 - q<)^N - (1 - q< - q=)^N] / q= for a valid plan, with the chances q< "
    "of a shorter one and q= of one as long in a sample"
)
SHORTER = {"plan_length": -1, "reasoning_tokens": -1}
CURATORS = {
    curator.name: curator
    for curator in (
        Curator("shortest", shortest, BEST_OF, SHORTER),
        Curator(
            "all-valid", all_valid,
            "1 for a valid plan: on-policy this is a REINFORCE step, N / N+ times as long",
        ),
        Curator("first-valid", first_valid, ONE_A_TASK, {"source_generation": 0}),
        Curator("uncurated", uncurated, "1 for any plan, valid or not: nothing for validity"),
        Curator("feedback", feedback, "1 for what users accept, valid or not", needs="sources"),
        Curator("accepted-and-valid", liked, "1 for valid plans users accept", needs="sources"),
        Curator(
            "noisy", noisy, "that of shortest, for plans that an erring checker believes valid",
            SHORTER, "error_rate",
        ),
        Curator(
            "preference", preference,
            "3/4 for a valid plan that has the word, 1/2 for one that has not",
            needs="taste", reads_text=True,
        ),
        Curator(
            "rollouts", rollouts,
            "1 for a valid plan, less the share of valid ones among its siblings: REINFORCE "
            "itself, if replay is last",
            signed=True,
        ),
    )
}  # fmt: skip


def curate(
    curator: Curator | str, pool: pd.DataFrame, generation: int, replay: str | int, options: Options
) -> Selection:
    """Apply a curator to the traces that `replay` admits, for training `generation`.

    `curator` may be a name in CURATORS. `replay` admits "all" generations of the pool, the "last"
    one, or the last k, and always ingested traces. Raises InvalidInput if there is no such curator
    and NothingKept, an InvalidInput, if it keeps no trace.
    """
    if isinstance(curator, str):
        require_one_of("curator", curator, CURATORS)
        curator = CURATORS[curator]
    # Curators never see barred traces; these are recorded as dropped below.
    admitted, barred = admitted_by(pool, replay)
    selection = curator.choose(admitted, options)
    if not selection.frame["kept"].any():
        raise nothing_kept(curator, len(admitted) + len(barred), generation)
    if barred.empty:
        return selection
    import pandas as pd

    dropped = _selection(barred, set(), barred["barred"].to_numpy(), "")
    return Selection(pd.concat([selection.frame, dropped.frame], ignore_index=True))


class NothingKept(InvalidInput):
    """A curator kept no trace of its pool."""


def nothing_kept(curator: Curator, traces: int, generation: int) -> NothingKept:
    """The error for a curator that kept none of so many traces for a generation."""
    remedy = "use easier tasks, more samples per task, or plans to begin with (curation.sources)"
    if curator.signed:
        remedy = "a task's traces are all valid or all invalid; use tasks solved now and then"
    return NothingKept(
        f"curator {curator.name!r} kept none of {traces} traces for generation {generation}, so "
        f"there is nothing to train on: {remedy}"
    )


def window(generations: Iterable[int], replay: str | int) -> list[int]:
    """The generations that `replay` admits: "all", the "last" one, or the last k."""
    own = sorted(set(generations))
    return own[-int({"all": len(own), "last": 1}.get(str(replay), replay)) :]


def admitted_by(pool: pd.DataFrame, replay: str | int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The traces of a pool that `replay` admits, and those of them on which training is barred."""
    own = window(set(pool["generation"]) - {INGESTED}, replay)
    recent = pool[pool["generation"].isin([INGESTED, *own])]
    barred = recent[recent["barred"].notna()] if "barred" in recent else recent.head(0)
    return recent.drop(barred.index), barred
