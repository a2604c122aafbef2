"""What selection changed and what training changed: the Price equation, a trait at a time.

Price (1970): the change of a trait's mean from one generation to the next is the covariance of
trait and weight, over the mean weight (selection: who was learned from), plus what the learners
made of it (transmission). It is an identity, and says nothing about why.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Change:
    """Of one trait: the mean over the pool, the differential of selection, that of transmission,
    and the mean over the next generation's traces (both None where it was not deployed).
    """

    mean_before: float
    selection: float
    transmission: float | None
    mean_after: float | None

    @property
    def mean_kept(self) -> float:
        """The mean over what was learned from, by its weight."""
        return self.mean_before + self.selection


def change(trait: np.ndarray, weight: np.ndarray, after: np.ndarray) -> Change:
    """The change from a pool (`trait` and training `weight` a trace) to the traces `after` it."""
    before = float(trait.mean())
    covariance = float(((weight - weight.mean()) * (trait - before)).mean())
    differential = covariance / float(weight.mean())
    if not len(after):
        return Change(before, differential, None, None)
    mean_after = float(after.mean())
    return Change(before, differential, mean_after - before - differential, mean_after)


def numeric(traits: pd.DataFrame) -> pd.DataFrame:
    """Traits as numbers: those that are, and one column of 0 and 1 for each level of the others
    (`first_action=stack`); levels of fewer than one trace in a hundred are left out.
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
