"""Randomised arms: what a choice among a task's traces causes, against the same choice by lot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

DRAWS = 999


def by_lot(weight: pd.Series, task: pd.Series, valid: pd.Series, seed: int) -> pd.Series:
    """The training weights of a selection, permuted among the equally valid traces of each task.

    So many traces are learned from each task as before, and as many of them are valid.
    """
    rng = np.random.default_rng(seed)
    lot = pd.Series(rng.random(len(weight)), weight.index)
    strata = [task, valid.astype(bool)]
    drawn = pd.DataFrame({"weight": weight.to_numpy()}).groupby(
        [one.to_numpy() for one in strata], sort=False
    )["weight"]
    shuffled = np.empty(len(weight))
    for rows in drawn.indices.values():
        shuffled[rows] = weight.to_numpy()[rows][np.argsort(lot.to_numpy()[rows])]
    return pd.Series(shuffled, weight.index)


class Effect(NamedTuple):
    """A trait's mean in two arms, and their difference with its 95% interval over tasks."""

    chosen: float
    lot: float
    difference: float
    low: float
    high: float


def effect(
    chosen: pd.Series, tasks: pd.Series, lot: pd.Series, lot_tasks: pd.Series, seed: int
) -> Effect:
    """The effect on the mean of a trait over traces; whole tasks are drawn again (bootstrap)."""
    keys = sorted({*tasks, *lot_tasks})
    place = {key: number for number, key in enumerate(keys)}
    sums = []
    for values, of in ((chosen, tasks), (lot, lot_tasks)):
        at = of.map(place).to_numpy()
        sums.append(np.bincount(at, values.to_numpy(dtype=float), len(keys)))
        sums.append(np.bincount(at, minlength=len(keys)).astype(float))
    table = np.stack(sums)
    rng = np.random.default_rng(seed)
    drawn = table @ rng.multinomial(len(keys), np.full(len(keys), 1 / len(keys)), DRAWS).T
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = drawn[0] / drawn[1] - drawn[2] / drawn[3]
    low, high = np.nanquantile(spread, [0.025, 0.975])
    means = float(chosen.mean()), float(lot.mean())
    return Effect(*means, means[0] - means[1], float(low), float(high))
