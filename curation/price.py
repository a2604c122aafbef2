"""Separate what checker, curator and training changed in each trait, by the Price equation.

Price (1970): the change of a trait's mean between generations is the covariance of trait and
weight, over the mean weight (selection: which traces were learned), plus the remainder
(transmission: what training made of them). Selection has three parts: what the checker selects
(valid traces against all), and what the curator selects *between* tasks (which tasks weigh more)
and *within* them (which traces of a task). It is an identity and says nothing about causes.
"""

from __future__ import annotations

from dataclasses import dataclass

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
