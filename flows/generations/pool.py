"""The pool that a generation may learn from, and a curator's selection from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from curation.curators import Options, Selection, admitted_by, curate
from curation.own import curator_named
from curation.rewards import DRAWS, advantage, best_of, erring, one_a_task, simulated
from flows.experiments.experiment import Experiment
from flows.generations.eligibility import as_curated, barred
from flows.generations.lineage import ancestors
from flows.generations.matched_control import matched_count
from planners.records import Outcome, derive_seed
from warehouse.pool import pooled
from warehouse.store import Warehouse


def select(
    warehouse: Warehouse, experiment: Experiment, generation: int, other: str | None = None,
    pool: pd.DataFrame | None = None,
) -> Selection:  # fmt: skip
    """The selection by the experiment's curator, or by the one named `other`, from the pool that
    `generation` is trained from. The `pool` is read if not given; nothing is written.
    """
    curation = experiment.curation
    curator = curator_named(other) if other else curator_named(curation.curator, curation.code)
    if pool is None:
        pool = pool_for(warehouse, experiment, generation, text=curator.reads_text)
    options = options_of(warehouse, experiment, generation)
    return curate(curator, pool, generation, curation.replay, options)


def options_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> Options:
    """The settings that curators read, for the training of a generation."""
    return Options(
        count=matched_count(warehouse, experiment, generation),
        seed=derive_seed(experiment.seed, generation, "curate"),
        error_rate=experiment.curation.error_rate or 0.0,
        taste=experiment.curation.taste or "",
    )


DRAWN, FEWEST_DRAWS = 2_000_000, 20
"""Traces in all bootstrap draws of a pool together, about, and the fewest draws."""
SHORT = ["plan_length", "reasoning_tokens"]
CLOSED: dict[str, Callable[[pd.DataFrame, Options], np.ndarray]] = {
    "all-valid": lambda pool, _: pool["valid"].to_numpy(dtype=float),
    "shortest": lambda pool, _: best_of(pool, SHORT),
    "first-valid": lambda pool, _: best_of(pool, ["generation"]),
    "uncurated": lambda pool, _: one_a_task(pool.assign(valid=pool["plan_length"].fillna(0) > 0)),
    "noisy": lambda pool, options: erring(pool, SHORT, options.error_rate),
    "preference": lambda pool, options: (
        pool["valid"].to_numpy(dtype=float)
        * np.where(pool["text"].str.contains(options.taste, regex=False), 0.75, 0.5)
    ),
    "rollouts": lambda pool, _: advantage(pool),
    "feedback": lambda pool, _: (
        pool["accepted"].eq(True) & (pool["plan_length"].fillna(0) > 0)
    ).to_numpy(dtype=float),
    "accepted-and-valid": lambda pool, _: (pool["accepted"].eq(True) & pool["valid"]).to_numpy(
        dtype=float
    ),
}
"""Curators whose reward has a closed form."""


def reward_of(
    warehouse: Warehouse, experiment: Experiment, generation: int, curator: str, pool: pd.DataFrame
) -> pd.Series:
    """The reward that a curator's choice from a pool stands for, by trace (`curation.rewards`)."""
    admitted, _ = admitted_by(pool, experiment.curation.replay)
    told = admitted.assign(valid=admitted["outcome"] == Outcome.VALID.value)
    options = options_of(warehouse, experiment, generation)
    if (closed := CLOSED.get(curator)) is not None:
        return pd.Series(closed(told, options), told["trace"])
    known = curator_named(curator, experiment.curation.code if ":" in curator else None)

    def choose(again: pd.DataFrame) -> pd.Series:
        return known.choose(again, options).frame.set_index("trace")["weight"]

    draws = max(FEWEST_DRAWS, min(DRAWS, DRAWN // max(1, len(told))))
    return pd.Series(simulated(choose, told, options.seed % 2**32, draws), told["trace"])


def pool_for(
    warehouse: Warehouse, experiment: Experiment, generation: int, text: bool = False
) -> pd.DataFrame:
    """The traces that a generation may be trained on: those of its ancestors, of the sources, and
    of the runs that it is crossed with, as they were when it was curated.
    """
    sources = experiment.curation.sources or ()
    lineage = ancestors(warehouse, experiment, generation)
    users = experiment.deployment is not None
    curated = bool(warehouse.done(experiment.id, generation, "curate"))
    crossed = _crossed(warehouse, experiment, generation, curated)
    pool = pooled(warehouse, experiment.id, lineage, sources, text, users, crossed)
    if not sources and not users and not crossed:
        return pool
    # Traces and feedback that came later must not change a selection already made.
    if curated:
        pool = as_curated(warehouse, experiment, generation, pool)
    return pool.assign(barred=barred(warehouse, experiment, pool))


def choosable(pool: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """The traces of a pool that a curator might have kept, whatever it chose. `whole` is the pool
    that it was given.
    """
    if "barred" not in whole:
        return pool
    return pool[~pool["trace"].isin(whole.loc[whole["barred"].notna(), "trace"])]


def _crossed(
    warehouse: Warehouse, experiment: Experiment, generation: int, curated: bool
) -> list[tuple[str, int]]:
    """The generations of other runs that a generation learns from. Once it is curated they are
    those of then: the other runs may have been rolled back since.
    """
    if experiment.curation.crossing is None:
        return []
    if not curated:
        return [
            (other.id, index)
            for other in experiment.crossed()
            for index in ancestors(warehouse, other, generation)
        ]
    then = warehouse.query("crossed_decisions", experiment=experiment.id, generation=generation)
    return list(then.itertuples(index=False, name=None))
