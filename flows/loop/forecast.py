"""A forecast of the generation that is about to be trained, written down before it is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from curation.forecasts import COVERAGE, coverage_error, forecast
from curation.price import numeric
from flows.experiments.experiment import Experiment
from flows.generations.lineage import ancestors, parent_of
from warehouse.findings import Prediction
from warehouse.pool import TRAITS, pool_traits, traits_of, written_traits
from warehouse.records import Mark
from warehouse.store import Warehouse

FIXED = ("domain", "size", "source_generation")
"""Traits of the tasks or of the place where a trace comes from, which no training changes."""
FORECAST = {name: sql for name, sql in TRAITS.items() if name not in FIXED}


def foretell(warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
    """Forecast the traits and the coverage of a generation from what it is about to learn, unless
    that is done or nothing is learned. The view `forecasts` tells how it turned out.
    """
    if warehouse.done(experiment.id, generation, "forecast"):
        return
    line = [*ancestors(warehouse, experiment, generation), generation]
    parent = parent_of(warehouse, experiment, generation)
    past = [
        (one.generation, one.trait, one.before, one.kept, one.deviation, one.learned)
        for one in warehouse.every(Prediction, experiment=experiment.id)
        if one.generation in line
    ]
    now = _now(warehouse, experiment, generation, parent)
    columns = ["generation", "trait", "before", "kept", "deviation", "learned"]
    told = forecast(pd.DataFrame([*past, *now], columns=columns)) if now else pd.DataFrame()
    ends = {row["trait"]: row for row in told.to_dict("records")}
    made = [
        Prediction(
            experiment.id, generation, trait, parent, ends[trait]["predicted"],
            ends[trait]["low"], ends[trait]["high"], before, kept, deviation, learned,
        )
        for _, trait, before, kept, deviation, learned in now
    ]  # fmt: skip
    warehouse.write(made, Mark(experiment.id, generation, "forecast"))


Fact = tuple[int, str, float, float, float, int]
"""Generation, trait, means over the parent's own traces and over those that are learned, standard
deviation over the parent's own, and number of tasks that are learned from.
"""


def _now(warehouse: Warehouse, experiment: Experiment, generation: int, parent: int) -> list[Fact]:
    pool = pool_traits(warehouse, experiment.id, FORECAST, generation)
    own = written_traits(warehouse, experiment.id, FORECAST, parent)
    weight = pool["weight"].to_numpy(dtype=float).clip(min=0)
    if not weight.sum() or own.empty:
        return []
    both = numeric(pd.concat([traits_of(pool), traits_of(own)], ignore_index=True))
    learned = int(pool.loc[weight > 0, "task"].nunique())
    found: list[Fact] = []
    for name, column in both.items():
        values = column.to_numpy(dtype=float)
        kept, before = values[: len(pool)], values[len(pool) :]
        if np.isfinite(values).all() and before.std() > 0:
            mean = float(np.average(kept, weights=weight))
            found.append(
                (generation, str(name), float(before.mean()), mean, float(before.std()), learned)
            )
    valid = float(np.average(pool["valid"].to_numpy(dtype=float), weights=weight))
    progress = warehouse.query("progress_of", experiment=experiment.id).set_index("generation")
    if parent in progress.index and pd.notna(covered := progress.loc[parent, "coverage"]):
        asked = {"experiment": experiment.id, "generation": parent}
        tasks = int(warehouse.query("measured_tasks", **asked)["tasks"][0])
        error = coverage_error(float(covered), tasks)
        found.append((generation, COVERAGE, float(covered), valid, error, learned))
    return found
