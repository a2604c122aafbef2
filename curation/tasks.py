"""The effect of a curation between tasks: which tasks weigh more, and the share kept of each group.

Traces of a task are kept or dropped together, so that every test and interval counts tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

TELLING = 8
"""Tasks with any of what is counted, and with any of the rest, from which their spread tells."""
FEWEST = 20
"""Traces that a level needs to be examined on its own."""
FEW_TASKS = 50
"""Tasks below which the test between tasks is a wild cluster bootstrap."""
PERMUTED = 999
"""Draws of a permutation test or bootstrap."""
BETWEEN = ["trait", "level", "mean_pool", "mean_kept", "shift", "p", "q"]
Column = tuple[str, str, np.ndarray]
"""A trait, its level ("" for a number), and one value per trace."""
MIDDLE = "(middle)"
"""The level that stands for a number being near its middle."""
NOTABLE = 0.1
"""Shift of a mean between tasks, in standard deviations, from which it is told."""
SURELY = 1.645
"""Standard errors from which copies of a text are kept together, so that a text is one case."""


def is_number(values: pd.Series) -> bool:
    """Whether a trait is a number; yes and no are levels."""
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def contested(kept: pd.Series, task: pd.Series) -> np.ndarray:
    """Whether each trace is of a task that kept some of its traces and dropped some."""
    mixed: np.ndarray = kept.groupby(task.to_numpy()).transform("nunique").eq(2).to_numpy()
    return mixed


def cases(kept: pd.Series, task: pd.Series, text: pd.Series, seed: int = 0) -> np.ndarray:
    """The places of the traces that were decided on one by one, in order.

    Where equal texts of a task are kept together more often than chance has it, as if a judge of
    texts had decided, who may err, copies say little new, and permuting them would make any trait
    seem to matter: then one of each, drawn by lot, as the order of a pool may tell what was kept.
    """
    of, label = pd.factorize(task.to_numpy())[0], kept.to_numpy(dtype=float)
    alike = pd.factorize(pd.MultiIndex.from_arrays([of, text.to_numpy()]))[0]
    lot = np.random.default_rng(seed).permutation(len(kept))
    one = lot[np.unique(alike[lot], return_index=True)[1]]
    # Pairs of copies that were both kept, and how many there would be if a task's traces were kept
    # at random. Pairs that were both dropped tell no judge: whoever wants the shortest plan drops
    # all copies of a longer one.
    size, chosen = np.bincount(alike), np.bincount(alike, weights=label)
    many, some = np.bincount(of).astype(float), np.bincount(of, weights=label)
    together = some * (some - 1) / np.maximum(many * (many - 1), 1)
    more = chosen * (chosen - 1) / 2 - size * (size - 1) / 2 * together[of[one]]
    by_task = np.bincount(of[one], weights=more)
    shared = by_task.sum() > SURELY * np.sqrt((by_task**2).sum())
    return np.sort(one) if shared else np.arange(len(kept))


def false_discoveries(p: np.ndarray | pd.Series) -> np.ndarray:
    """q by p (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p))


def wilson(part: Any, whole: Any) -> tuple[Any, Any]:
    """Wilson's 95% interval (1927) of the share of a part in a whole: numbers, arrays or series."""
    z = 1.959963984540054
    centre = (part + z**2 / 2) / (whole + z**2)
    wide = z * np.sqrt(part * (whole - part) / whole + z**2 / 4) / (whole + z**2)
    return centre - wide, centre + wide


def labelled(trait: str, level: str) -> str:
    """The name of a trait, with its level if it has levels: `first_action=stack`."""
    return f"{trait}={level}" if level else trait


def per_unit(level: str) -> str:
    """The unit of the odds of a trait or level, in words."""
    if level == MIDDLE:
        return " over those a standard deviation off it"
    return "" if level else " a standard deviation"


def share_interval(part: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """A 95% interval of a share, given what has it and what there is in each task.

    A task's traces are alike, so that it counts tasks: a ratio of sums over tasks, on the scale of
    log odds, with Student's t.
    """
    from scipy.stats import t as student

    tasks, total = len(size), size.sum()
    share = part.sum() / total
    # Half a trace more on each side keeps log odds finite; a lone task says nothing.
    smooth = (part.sum() + 0.5) / (total + 1)
    spread = np.sqrt(((part - smooth * size) ** 2).sum() * tasks / max(tasks - 1, 1))
    error = max(spread, np.sqrt(total * smooth * (1 - smooth))) / total / (smooth * (1 - smooth))
    # A task of many traces may vary as much as all others together, and vary unseen.
    reach = student.ppf(0.975, _freedom(size)) * error
    centre = np.log(smooth / (1 - smooth))
    low, high = (1 / (1 + np.exp(-np.clip(centre + s * reach, -30, 30))) for s in (-1, 1))
    if min((part > 0).sum(), (part < size).sum()) < TELLING:
        # Too few tasks have any to see how alike a task's traces are: as if each were one trace.
        counted = total**2 / (size**2).sum()
        lowest, highest = wilson(share * counted, counted)
        low, high = min(low, lowest), max(high, highest)
    return min(float(low), share), max(float(high), share)


def acceptance(kept: pd.Series, groups: pd.Series, task: pd.Series) -> pd.DataFrame:
    """The share of each group that was kept: one row per level with at least FEWEST traces.

    Columns: `level`, `traces`, `share`, and `low` and `high`, its 95% interval. Traces of a task
    are kept or dropped together, so that the interval counts tasks.
    """
    levels = groups.astype(str)
    rows = []
    for level, inside in kept.astype(float).groupby(levels):
        if len(inside) < FEWEST:
            continue
        by = inside.groupby(task[inside.index]).agg(["sum", "size"])
        part, size = by["sum"].to_numpy(dtype=float), by["size"].to_numpy(dtype=float)
        rows.append((level, len(inside), part.sum() / size.sum(), *share_interval(part, size)))
    return pd.DataFrame(rows, columns=["level", "traces", "share", "low", "high"])


def _without_each(weight: np.ndarray, mean: np.ndarray, whole: float) -> np.ndarray:
    """How a weighted mean changes without each task; a task that has all the weight, by itself."""
    rest = weight.sum() - weight
    change = weight * (whole - mean) / np.where(rest > 0, rest, 1.0)
    return np.where(rest > 0, change, np.abs(mean).max())


def _freedom(part: np.ndarray) -> float:
    """Degrees of freedom of a sum over tasks: fewer than tasks where a few make most of it
    (Satterthwaite 1946).
    """
    square = part.astype(float) ** 2
    return max(1.0, float(square.sum() ** 2 / max((square**2).sum(), 1e-300)) - 1)


def between_tasks(
    chosen: np.ndarray, tasks: np.ndarray, columns: list[Column], rng: np.random.Generator
) -> pd.DataFrame:
    """Which tasks weigh more among the kept traces than in the pool: one row per column.

    Each trace counts as its task's mean of the trait. Standard errors are clustered by task, with
    Student's t, as of fewer tasks where a few of them have most of the effect; with few tasks the
    test must also pass a wild cluster bootstrap.
    """
    from scipy.stats import t as student

    size = np.bincount(tasks).astype(float)
    kept = np.bincount(tasks, weights=chosen)
    count, rows = len(size), []
    for name, level, values in columns:
        mean = np.bincount(tasks, weights=values) / size
        pool, learned = (mean @ size) / size.sum(), (mean @ kept) / kept.sum()
        spread = values.std()
        # How much the difference of the two means changes without each task (a jackknife, since a
        # task of many traces is close to the pool's mean because it makes it).
        part = _without_each(kept, mean, learned) - _without_each(size, mean, pool)
        error = np.sqrt((part**2).sum() * (count - 1) / count)
        if np.ptp(mean) < max(1e-9 * values.std(), 1e-13 * np.abs(values).max()) or error == 0:
            continue
        t = (learned - pool) / error
        p = 2 * student.sf(abs(t), _freedom(part))
        if count < FEW_TASKS:
            signs = rng.choice([-1.0, 1.0], (PERMUTED, count))
            shift = kept / kept.sum() - size / size.sum()
            moved = signs @ (shift * (mean - pool))
            scale = np.sqrt(((shift * (mean - pool)) ** 2).sum())
            beyond = (np.abs(moved) >= abs(learned - pool) - 1e-12 * scale).sum()
            p = max(p, (1 + beyond) / (1 + PERMUTED))
        rows.append((name, level, pool, learned, (learned - pool) / spread, p, np.nan))
    frame = pd.DataFrame(rows, columns=BETWEEN)
    if len(frame):
        frame["q"] = false_discoveries(frame["p"])
        frame = frame.sort_values(["q", "p"], kind="stable").reset_index(drop=True)
    return frame
