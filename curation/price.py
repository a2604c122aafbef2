"""Separate what selection and training changed in each trait, by the Price equation.

Price (1970): the change of a trait's mean between generations is the covariance of trait and
weight, over the mean weight (selection: which traces were learned), plus the remainder
(transmission: what training made of them). It is an identity and says nothing about causes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one trait between a pool and the next generation.

    The means are over the traces of each. `selection` and `transmission` are the terms of the
    equation. `transmission` and `mean_after` are None if the next generation was not deployed.
    """

    mean_before: float
    selection: float
    transmission: float | None
    mean_after: float | None

    @property
    def mean_kept(self) -> float:
        """The weighted mean over the traces that were learned."""
        return self.mean_before + self.selection


def change(trait: np.ndarray, weight: np.ndarray, after: np.ndarray) -> Change:
    """The change from a pool to the traces `after` it.

    `trait` and `weight` (in training) have one value per trace of the pool.
    """
    before = float(trait.mean())
    covariance = float(((weight - weight.mean()) * (trait - before)).mean())
    differential = covariance / float(weight.mean())
    if not len(after):
        return Change(before, differential, None, None)
    mean_after = float(after.mean())
    return Change(before, differential, mean_after - before - differential, mean_after)


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
