"""Separate what checker, curator and training changed in each trait, by the Price equation.

Price (1970): the change of a trait's mean between generations is the covariance of trait and
weight, over the mean weight (selection: which traces were learned), plus the remainder
(transmission: what training made of them). Selection has three parts: what the checker selects
(valid traces against all), and what the curator selects *between* tasks (which tasks weigh more)
and *within* them (which traces of a task). It is an identity and says nothing about causes: those
are told by arms that learn from the same pool, with the traces of each task drawn by lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one trait between a pool and the next generation.

    The means are over the traces of each. `selection` (the sum of `checker`, `between` and
    `within`) and `transmission` are the terms of the equation. `transmission` and `mean_after` are
    None if the next generation was not deployed.
    """

    mean_before: float
    checker: float
    between: float
    within: float
    transmission: float | None
    mean_after: float | None

    @property
    def selection(self) -> float:
        """The change by selection in all."""
        return self.checker + self.between + self.within

    @property
    def mean_kept(self) -> float:
        """The weighted mean over the traces that were learned."""
        return self.mean_before + self.selection


def change(
    trait: np.ndarray, weight: np.ndarray, after: np.ndarray, valid: np.ndarray, task: np.ndarray
) -> Change:
    """The change from a pool to the traces `after` it.

    `trait`, `weight` (in training), `valid` and `task` have one value per trace of the pool. If an
    invalid trace is learned, the checker has selected nothing.
    """
    before = float(trait.mean())
    right = valid.astype(bool)
    passed = np.ones_like(right) if weight[~right].any() else right
    kept, place = weight[passed], pd.factorize(task[passed])[0]
    values, count = trait[passed], np.bincount(place)
    mean = np.bincount(place, weights=values) / count
    share = np.bincount(place, weights=kept) / kept.sum()
    selected = float(values.mean())
    learned = float((kept * values).sum() / kept.sum())
    heavier = float(share @ mean)
    parts = selected - before, heavier - selected, learned - heavier
    if not len(after):
        return Change(before, *parts, None, None)
    mean_after = float(after.mean())
    return Change(before, *parts, mean_after - learned, mean_after)


def numeric(traits: pd.DataFrame) -> pd.DataFrame:
    """Traits as numbers: text becomes one 0/1 column per level (`first_action=stack`).

    Levels of fewer than one trace in a hundred are left out.
    """
    columns = {}
    for name in traits.columns:
        values = traits[name]
        if pd.api.types.is_numeric_dtype(values):
            columns[name] = values.astype(float)
            continue
        codes, levels = pd.factorize(values.astype(str), sort=True)
        shares = np.bincount(codes[codes >= 0], minlength=len(levels)) / max(1, len(codes))
        for code in np.flatnonzero(shares >= 0.01):
            columns[f"{name}={levels[code]}"] = (codes == code).astype(float)
    return pd.DataFrame(columns, index=traits.index)


# ---------------------------------------------------------------- arms by lot


def by_lot(weight: pd.Series, task: pd.Series, valid: pd.Series, seed: int) -> pd.Series:
    """The training weights of a selection, permuted among the equally valid traces of each task.

    So many traces are learned from each task as before, and as many of them are valid.
    """
    lot = np.random.default_rng(seed).random(len(weight))
    before, shuffled = weight.to_numpy(), np.empty(len(weight))
    strata = pd.DataFrame({"task": task.to_numpy(), "valid": valid.to_numpy(dtype=bool)})
    for rows in strata.groupby(["task", "valid"]).indices.values():
        shuffled[rows] = before[rows][np.argsort(lot[rows])]
    return pd.Series(shuffled, weight.index)


class Effect(NamedTuple):
    """A trait's mean, its mean over the arms, and their difference: with its 95% interval, and the
    chance of one as large if the choice had been made by lot, too.
    """

    chosen: float
    lot: float
    difference: float
    low: float
    high: float
    p: float


def effect(chosen: float, arms: Sequence[float], least: float = 0.0) -> Effect:
    """The effect on a trait's mean, given that in at least two arms, and the `least` standard error
    that it can have: arms that are all alike in a rare trait say little.

    Arms differ by their lot, by the noise of training and by what is sampled, and so would the
    chosen one if its traces had been drawn by lot. So this is the t interval for one more arm.
    """
    from scipy import stats

    count, mean = len(arms), float(np.mean(arms))
    error = max(least, float(np.std(arms, ddof=1)) * (1 + 1 / count) ** 0.5)
    difference, wide = chosen - mean, float(stats.t.ppf(0.975, count - 1)) * error
    p = (
        2 * float(stats.t.sf(abs(difference) / error, count - 1))
        if error
        else float(not difference)
    )
    return Effect(chosen, mean, difference, difference - wide, difference + wide, p)
