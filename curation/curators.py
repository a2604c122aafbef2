"""Curators: from a pool of traces to the ones the next generation is trained on.

A pool is a frame with one row a trace: `trace` (id), `task` (key), `generation`, `outcome` (None
where not judged), `plan_length` (None where no plan was found), `reasoning_tokens`. A curator
returns the same traces with `kept`, `weight` and a `reason` each: nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from planners.errors import InvalidInput
from planners.records import Outcome, content_hash

POOL_COLUMNS = ("trace", "task", "generation", "outcome", "plan_length", "reasoning_tokens")
KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Selection:
    """A decision on every trace of a pool: columns `trace`, `kept`, `weight`, `reason`."""

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


Curator = Callable[[pd.DataFrame, int | None, int], Selection]
"""(pool, how many traces to keep or None for all that qualify, seed) to a selection."""


def shortest(pool: pd.DataFrame, count: int | None = None, seed: int = 0) -> Selection:
    """The paper's curator (§2): of each task's valid traces the one with the shortest plan.

    Ties go to the fewest reasoning tokens, then to the lowest trace id.
    """
    valid = pool[pool["outcome"] == Outcome.VALID.value]
    ranked = valid.sort_values(["plan_length", "reasoning_tokens", "trace"])
    best = ranked.drop_duplicates("task").set_index("task")["trace"]
    chosen = set(best.sort_values().head(len(best) if count is None else count))
    reason = np.where(
        pool["outcome"].isna(),
        "not judged",
        np.where(
            pool["outcome"] != Outcome.VALID.value,
            "invalid: " + pool["outcome"].fillna("").astype(str),
            "a better trace of its task was kept",
        ),
    )
    return _selection(pool, chosen, reason, "shortest valid plan of its task")


def uncurated(pool: pd.DataFrame, count: int | None = None, seed: int = 0) -> Selection:
    """The control: random traces that hold any plan at all, one a task, whatever their verdict."""
    with_plan = pool[pool["plan_length"].fillna(0) > 0]
    mixed = with_plan.sort_values("trace").sample(frac=1, random_state=seed % 2**32)
    drawn = mixed.drop_duplicates("task")["trace"]
    chosen = set(drawn.head(len(drawn) if count is None else count))
    reason = np.where(pool["plan_length"].fillna(0) > 0, "not drawn", "no plan in it")
    return _selection(pool, chosen, reason, "drawn at random")


def _selection(
    pool: pd.DataFrame, chosen: set[str], reason: np.ndarray, kept_reason: str
) -> Selection:
    kept = pool["trace"].isin(chosen).to_numpy(dtype=bool)
    return Selection(
        pd.DataFrame(
            {
                "trace": pool["trace"].to_numpy(),
                "kept": kept,
                "weight": kept.astype(float),
                "reason": np.where(kept, kept_reason, reason),
            }
        )
    )


CURATORS: dict[str, Curator] = {"shortest": shortest, "uncurated": uncurated}
DECLARED: dict[str, tuple[str, ...]] = {
    "shortest": ("plan_length", "reasoning_tokens"),
    "uncurated": (),
}
"""Traits that each curator is known to reward, besides validity."""


def curate(
    name: str, pool: pd.DataFrame, generation: int, replay: str | int, count: int | None, seed: int
) -> Selection:
    """Apply a curator to the part of the pool that `replay` admits, for training `generation`.

    `replay`: "all" generations before, the "last" one, or the last k. Raises InvalidInput where
    nothing is left to learn from.
    """
    window = {"all": generation, "last": 1}.get(str(replay), replay)
    recent = pool[pool["generation"] >= generation - int(window)]
    selection = CURATORS[name](recent, count, seed)
    if not selection.frame["kept"].any():
        raise InvalidInput(
            f"curator {name!r} kept none of {len(recent)} traces for generation {generation}, "
            "so there is "
            "nothing to train on; use easier tasks, more samples a task, or a higher temperature"
        )
    return selection
