"""Find what a curation rewards besides validity, in two questions that must not be pooled.

*Within tasks*: given a task's valid traces, which of them are kept? A conditional logistic model,
stratified by task: it sees no task's difficulty and no task's number of traces. *Between tasks*:
which tasks weigh more among the kept traces than in the pool? Pooling the two is Simpson's paradox:
a curator that keeps each task's shortest plan also makes tasks with long plans weigh more.

All traits are in one model, so that none is blamed for what another does; traits that are nearly
equal within tasks are tested as one. Nothing is named unless the labels, permuted within tasks,
hardly ever look so unlike chance (a max-T test, exact where no trace of a task is preferred). These
are associations, not causes: an unmeasured trait can hide behind another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pandas as pd

from curation.tasks import BETWEEN, FEWEST, NOTABLE, PERMUTED, Column, between_tasks, labelled

ALIKE = 0.98
"""Correlation within tasks from which two traits are tested as one."""
RIDGE = 0.05
"""Precision of the prior of each log odds ratio, which keeps it finite (a standard deviation of
4.5).
"""
GATE = 0.01
"""Share of permutations that may look as unlike chance, where anything is named."""
ENOUGH = 20
"""Permutations that look as unlike chance after which no more are drawn. With PERMUTED of them
GATE is out of reach by then.
"""
WORK = 4e7
"""Rows drawn in all permutations together, at most."""
STEPS, CLOSE = 25, 1e-8
COLUMNS = ["trait", "level", "traces", "odds_ratio", "low", "high", "p", "q", "method", "also"]


@dataclass(frozen=True, slots=True)
class Preferences:
    """The traits that go with being kept.

    `found`, within tasks: one row per trait, or per level of one, smallest q first (COLUMNS; odds
    ratios with 95% intervals, numeric traits per standard deviation within tasks; `also` names
    traits that are nearly equal). `between` tasks: the mean of a trait over the pool's traces and
    over the kept ones, if each trace had its task's mean (BETWEEN; `shift` in standard deviations).
    `unanswered`: why a trait is not in `found`. `chance`: the share of permutations of the labels
    that look as unlike chance as the labels do.
    """

    found: pd.DataFrame
    unanswered: dict[str, str]
    between: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=BETWEEN))
    chance: float = 1.0

    def clear(self, q: float = 0.01, look: int | None = None) -> pd.DataFrame:
        """The rows of `found` that are told, the clearest first.

        If a question is asked again and again, the `look`-th time spends 1 / (look (look + 1)) of
        `q`. These shares sum to 1, so that `q` holds for all looks together, however many.
        """
        spent = q if look is None else q / (look * (look + 1))
        return self.found[(self.found["q"] <= spent) & (self.chance <= max(GATE, spent))]

    def named(self, q: float = 0.01) -> list[str]:
        """Traits that go with being kept or dropped within a task, the clearest first."""
        return list(dict.fromkeys(self.clear(q)["trait"]))

    def heavier(self, q: float = 0.01) -> pd.DataFrame:
        """The rows of `between` that are told: traits by which tasks weigh otherwise."""
        return self.between[(self.between["q"] <= q) & (self.between["shift"].abs() >= NOTABLE)]


def preferences(
    kept: pd.Series, task: pd.Series, traits: pd.DataFrame, seed: int = 0
) -> Preferences:
    """Explain which valid traces of a pool were kept, by their traits.

    `kept` and `task` have one value per trace. `traits` has one column per trait: numbers, or text
    for levels. `seed` is for the permutations.
    """
    unanswered: dict[str, str] = {}
    if kept.nunique() < 2:
        every = "every valid trace was kept" if kept.any() else "no valid trace was kept"
        reason = every if len(kept) else "there is no valid trace"
        return Preferences(pd.DataFrame(columns=COLUMNS), dict.fromkeys(traits.columns, reason))
    chosen, tasks = kept.to_numpy(dtype=bool), pd.factorize(task.to_numpy())[0]
    columns = list(_columns(traits, unanswered))
    rng = np.random.default_rng(seed)
    within, chance = _within(chosen, tasks, columns, unanswered, rng)
    return Preferences(within, unanswered, between_tasks(chosen, tasks, columns, rng), chance)


def _columns(traits: pd.DataFrame, unanswered: dict[str, str]) -> Iterator[Column]:
    """The columns that stand for the traits: a number, or one 0/1 column per frequent level."""
    for name in traits.columns:
        values = traits[name]
        if values.nunique(dropna=False) < 2:
            unanswered[name] = "constant: all traces are alike"
        elif values.isna().any():
            unanswered[name] = f"unknown for {int(values.isna().sum())} traces"
        elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(dtype=float)
            if np.isfinite(numbers).all():
                yield name, "", numbers
            else:
                unanswered[name] = "infinite for some traces"
        else:
            codes, levels = pd.factorize(values.astype(str), sort=True)
            counts = pd.Series(np.bincount(codes)).sort_values(ascending=False, kind="stable")
            # The most frequent level is the reference, so it has no column.
            large = [code for code in counts.index[1:] if counts[code] >= FEWEST]
            if not large:
                unanswered[name] = f"no level but {levels[counts.index[0]]!r} has {FEWEST} traces"
            for code in large:
                yield name, str(levels[code]), (codes == code).astype(float)


# ---------------------------------------------------------------- within tasks


@dataclass(frozen=True, slots=True)
class Strata:
    """The traces of tasks of which some are kept and some are not; no others say anything.

    `rows` are their places in the pool, sorted by task; `task` numbers their tasks from 0; `size`
    and `kept` count each task's traces and the kept ones; `label` is 1.0 for a kept trace.
    """

    rows: np.ndarray
    task: np.ndarray
    size: np.ndarray
    kept: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, chosen: np.ndarray, tasks: np.ndarray) -> Strata:
        size, kept = np.bincount(tasks), np.bincount(tasks, weights=chosen)
        mixed = (kept > 0) & (kept < size)
        rows = np.flatnonzero(mixed[tasks])
        rows = rows[np.argsort(tasks[rows], kind="stable")]
        number = np.cumsum(mixed) - 1
        return cls(
            rows, number[tasks[rows]], size[mixed], kept[mixed].astype(int),
            chosen[rows].astype(float),
        )  # fmt: skip

    def centred(self, values: np.ndarray) -> np.ndarray:
        """Values (rows, columns) of the pool, minus their mean in each task."""
        return values[self.rows] - self.means(values[self.rows])[self.task]

    def means(self, x: np.ndarray) -> np.ndarray:
        """The mean over each task, (tasks, columns); `x` has the rows of the strata."""
        return self.sums(x) / self.size[:, None]

    def sums(self, x: np.ndarray) -> np.ndarray:
        """The sum over each task."""
        return np.add.reduceat(x, self.starts, axis=0)

    @property
    def starts(self) -> np.ndarray:
        """The place of each task's first row."""
        return np.cumsum(self.size) - self.size

    @property
    def variance(self) -> np.ndarray:
        """For each row the variance of its label, if so many are drawn of its task, x n/(n-1)."""
        n, k = self.size.astype(float), self.kept
        return (k * (n - k) / (n * (n - 1)))[self.task]

    def permutations(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """The places of kept traces, if each task had kept as many at random; without end."""
        alone = self.kept == 1
        starts, sizes = self.starts[alone], self.size[alone]
        several = np.flatnonzero(~alone[self.task])
        tasks = self.task[several]  # which is sorted
        first = np.arange(len(tasks)) - np.searchsorted(tasks, tasks) < self.kept[tasks]
        while True:
            one = starts + (rng.random(len(starts)) * sizes).astype(int)
            order = np.argsort(tasks + rng.random(len(tasks)))  # shuffled within each task
            yield np.concatenate([one, several[order[first]]])


def _within(
    chosen: np.ndarray, tasks: np.ndarray, columns: list[Column], unanswered: dict[str, str],
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, float]:  # fmt: skip
    """The table of preferences within tasks, and the share of permutations that look like it."""
    from scipy.stats import norm
    from statsmodels.stats.multitest import multipletests

    strata = Strata.of(chosen, tasks)
    told: list[tuple[Column, np.ndarray, list[str]]] = []
    for column in columns:
        name, level, values = column
        x = strata.centred(values[:, None])[:, 0] if len(strata.rows) else np.zeros(0)
        spread = np.sqrt((x**2).mean()) if len(x) else 0.0
        if spread < 1e-9 * max(1.0, np.abs(values).max()):
            why = "the same for all traces of a task that were not all kept or all dropped"
            unanswered.setdefault(name, why)
            continue
        unit = x if level else x / spread
        for (other, other_level, _), known, also in told:
            if abs(_correlation(unit, known)) > ALIKE:
                label = labelled(name, level)
                if (name, level) != (other, other_level) and label not in also:
                    also.append(label)
                break
        else:
            told.append((column, unit, []))
    for (name, _, _), _, _ in told:
        unanswered.pop(name, None)
    if not told:
        return pd.DataFrame(columns=COLUMNS), 1.0
    x = np.column_stack([values for _, values, _ in told])
    # The test is of the score at chance, where it is linear in the labels.
    information = (x * strata.variance[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
    inverse = np.linalg.inv(information)
    lever = inverse / np.sqrt(np.diag(inverse))[:, None]
    z = lever @ (x.T @ strata.label)
    p = 2 * norm.sf(np.abs(z))
    chance = _chance(strata, x @ lever.T, float(np.abs(z).max()), rng)
    beta, error = _odds(strata, x)
    # Where hardly any trace contradicts a preference, the likelihood is flat in its odds. The end
    # of the interval that is nearer to 1 is then that of the test's own first step.
    step, spread = inverse @ (x.T @ strata.label), np.sqrt(np.diag(inverse))
    flat = np.abs(beta / error) < np.abs(z) / 2
    ends = np.array([beta - 1.96 * error, beta + 1.96 * error])
    near = step - np.sign(step) * 1.96 * spread
    ends[0] = np.where(flat & (step > 0), np.maximum(ends[0], near), ends[0])
    ends[1] = np.where(flat & (step < 0), np.minimum(ends[1], near), ends[1])
    odds, low, high = (np.exp(np.clip(one, -50, 50)) for one in (beta, *ends))
    frame = pd.DataFrame(
        [
            (
                name, level, int(values.sum()) if level else len(values), *ratio, p[i], np.nan,
                "conditional, nearly separated" if flat[i] else "conditional", ", ".join(also),
            )
            for i, (((name, level, values), _, also), ratio) in enumerate(
                zip(told, zip(odds, low, high, strict=True), strict=True)
            )
        ],
        columns=COLUMNS,
    )  # fmt: skip
    frame["q"] = multipletests(frame["p"], method="fdr_bh")[1]
    strength = -np.abs(z)
    order = np.lexsort((strength, frame["q"].to_numpy()))
    return frame.iloc[order].reset_index(drop=True), chance


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def _chance(strata: Strata, scores: np.ndarray, largest: float, rng: np.random.Generator) -> float:
    """The share of permutations whose largest statistic is at least as large (max-T).

    If it is large there is no need of all of them, and their share among those until then is as
    valid (Besag and Clifford 1991, sequential Monte Carlo p-values).
    """
    drawn = max(1, int(strata.kept.sum() if (strata.kept == 1).all() else len(strata.rows)))
    count, beyond = int(np.clip(WORK / drawn, 199, PERMUTED)), 0
    for number, places in enumerate(islice(strata.permutations(rng), count), 1):
        beyond += np.abs(scores[places].sum(axis=0)).max() >= largest - 1e-12
        if beyond == ENOUGH:
            return beyond / number
    return (1 + beyond) / (1 + count)


def _odds(strata: Strata, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log odds ratios and their standard errors, by Newton's method on the conditional likelihood.

    The chance of a trace to be among its task's kept ones is exact where one is kept, and Hajek's
    approximation (1964, equation 5.27) where several are.
    """
    beta = np.zeros(x.shape[1])
    information = np.eye(x.shape[1])
    for _ in range(STEPS):
        chance, variance = _inclusion(strata, x @ beta)
        centre = strata.sums(x * variance[:, None]) / strata.sums(variance[:, None])
        around = x - centre[strata.task]
        information = (around * variance[:, None]).T @ around + RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(information, x.T @ (strata.label - chance) - RIDGE * beta)
        beta += np.clip(step, -1, 1)
        if np.abs(step).max() < CLOSE:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def _inclusion(strata: Strata, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each trace's chance to be kept, given how many of its task are, and its variance."""
    wanted, task = strata.kept.astype(float), strata.task
    shift = -np.maximum.reduceat(eta, strata.starts)
    alone = (strata.kept == 1)[task]
    weight = np.exp(eta + shift[task])
    softmax = weight / strata.sums(weight[:, None])[task, 0]
    if alone.all():
        return softmax, softmax
    # Find each task's intercept for which the chances add up to the number of kept traces.
    intercept = shift + np.log(wanted / np.maximum(strata.size - wanted, 0.5))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(eta + intercept[task], -40, 40)))
        spread = np.maximum(strata.sums((p * (1 - p))[:, None])[:, 0], 1e-9)
        intercept += np.clip((wanted - strata.sums(p[:, None])[:, 0]) / spread, -2, 2)
    v = p * (1 - p)
    centre = strata.sums((p * v)[:, None])[:, 0] / spread
    several = np.clip(p * (1 - (centre[task] - p) * (1 - p) / spread[task]), 1e-9, 1)
    n = strata.size.astype(float)
    scaled = v * (n / (n - 1))[task]
    return np.where(alone, softmax, several), np.where(alone, softmax, scaled)
