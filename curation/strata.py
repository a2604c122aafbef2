"""Tasks as strata: which traces of a task were kept, permutations of that, and a conditional model.

Given how many of a task's traces are kept, the model says which: it sees no task's difficulty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RIDGE = 0.05
"""Precision of the prior of each log odds ratio, which keeps it finite (a standard deviation of
4.5).
"""
STEPS, CLOSE = 25, 1e-8
TIED = 0.3
"""Share of traces with an equal among those of their task, from which equal ones are compared."""
EXPLAINED = 0.05
"""p from which a trait is explained by another."""
SMALL, EXACT = 12, 300_000
"""Traces of a task whose chances are computed exactly, and of all such tasks together, at most:
with more it would take minutes.
"""
ODD = 1.25
"""Times the usual largest score by chance, from which a score is not taken for a normal one."""


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

    def sums(self, x: np.ndarray) -> np.ndarray:
        """The sum over each task, (tasks, ...); `x` has the rows of the strata."""
        return np.add.reduceat(x, self.starts, axis=0)

    def within(self, values: np.ndarray) -> np.ndarray:
        """Values of the strata's rows, minus their mean in each task."""
        return values - (self.sums(values) / self.size)[self.task]

    def information(self, x: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """The information of the conditional likelihood on the odds of the columns of `x`."""
        centre = self.sums(x * variance[:, None]) / self.sums(variance)[:, None]
        around = x - centre[self.task]
        return (around * variance[:, None]).T @ around + RIDGE * np.eye(x.shape[1])

    @property
    def starts(self) -> np.ndarray:
        """The place of each task's first row."""
        return np.cumsum(self.size) - self.size

    @property
    def variance(self) -> np.ndarray:
        """For each row the variance of its label, if so many are drawn of its task, x n/(n-1)."""
        n, k = self.size.astype(float), self.kept
        return (k * (n - k) / (n * (n - 1)))[self.task]

    def permuted(self, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
        """The places of kept traces, if each task had kept as many at random; `count` times."""
        alone = self.kept == 1
        starts, sizes = self.starts[alone], self.size[alone]
        several = np.flatnonzero(~alone[self.task])
        tasks = self.task[several]  # which is sorted
        first = np.arange(len(tasks)) - np.searchsorted(tasks, tasks) < self.kept[tasks]
        for _ in range(count):
            one = starts + (rng.random(len(starts)) * sizes).astype(int)
            order = np.argsort(tasks + rng.random(len(tasks)))  # shuffled within each task
            yield np.concatenate([one, several[order[first]]])


class Tails:
    """How large each column of `scores` gets by chance, in permutations of the labels."""

    def __init__(
        self, strata: Strata, scores: np.ndarray, rng: np.random.Generator, count: int
    ) -> None:
        from scipy.stats import norm

        drawn = [scores[places].sum(axis=0) for places in strata.permuted(rng, count)]
        self._sorted = np.sort(np.abs(drawn), axis=0)
        # What 0.5, 1, 2, ... of so many normal scores exceed; the first is the usual largest one.
        self._normal = norm.isf(np.r_[0.5, np.arange(1, count + 1) / 2] / count)
        self._odd = np.flatnonzero(self._sorted[-1] > ODD * self._normal[0])

    def credible(self, z: np.ndarray) -> np.ndarray:
        """Scores (..., columns), where chance makes them larger than normal ones: as large as a
        normal one that it exceeds as often.

        A trait of one odd trace is at six standard errors as often as that one is kept.
        """
        found = z.astype(float)
        for i in self._odd:
            size, known = np.abs(found[..., i]), self._sorted[:, i]
            beyond = len(known) - np.searchsorted(known, size - 1e-6)
            # Beyond all that was drawn, it grows as it did up to there.
            last = size * self._normal[0] / known[-1]
            own = np.where(beyond > 0, self._normal[beyond], last)
            found[..., i] = np.sign(found[..., i]) * np.minimum(size, own)
        return found


def odds_of(strata: Strata, x: np.ndarray, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Log odds ratios and their standard errors, by Newton's method on the conditional likelihood.

    The chance of a trace to be among its task's kept ones is exact where one is kept or one is not,
    with `exact` in all tasks of at most SMALL traces (EXACT in all), and else Hajek's approximation
    (1964, equation 5.27).
    """
    beta = np.zeros(x.shape[1])
    information = np.eye(x.shape[1])
    for _ in range(STEPS):
        chance, variance = inclusion(strata, x @ beta, exact)
        information = strata.information(x, variance)
        step = np.linalg.solve(information, x.T @ (strata.label - chance) - RIDGE * beta)
        beta += np.clip(step, -1, 1)
        if np.abs(step).max(initial=0.0) < CLOSE:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def odds_with_ends(strata: Strata, x: np.ndarray) -> np.ndarray:
    """Log odds ratios, the ends of their intervals, and whether they are flat: (4, columns)."""
    beta, error = odds_of(strata, x, exact=True)
    # Where hardly any trace contradicts a preference, the likelihood is flat in its odds. The end
    # of the interval that is nearer to 1 is then that of the first step from chance.
    inverse = np.linalg.inv((x * strata.variance[:, None]).T @ x + RIDGE * np.eye(x.shape[1]))
    step, spread = inverse @ (x.T @ strata.label), np.sqrt(np.diag(inverse))
    flat = (np.abs(beta / error) < np.abs(step / spread) / 2) & (beta * step > 0)
    low, high = beta - 1.96 * error, beta + 1.96 * error
    near = step - np.sign(step) * 1.96 * spread
    low = np.where(flat & (step > 0), np.minimum(beta, np.maximum(low, near)), low)
    high = np.where(flat & (step < 0), np.maximum(beta, np.minimum(high, near)), high)
    return np.array([beta, low, high, flat])


def inclusion(
    strata: Strata, eta: np.ndarray, exact: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Each trace's chance to be kept, given how many of its task are, and its variance."""
    wanted, task = strata.kept.astype(float), strata.task
    kept = (strata.kept == 1)[task]
    alone = kept | (strata.kept == strata.size - 1)[task]
    sign = np.where(kept, 1.0, -1.0)  # of a task that drops one, that one is drawn
    drawn = sign * eta
    weight = np.exp(drawn - np.maximum.reduceat(drawn, strata.starts)[task])
    softmax = weight / strata.sums(weight)[task]
    one = np.where(kept, softmax, 1 - softmax)
    if alone.all():
        return one, softmax
    # Find each task's intercept for which the chances add up to the number of kept traces.
    shift = -np.maximum.reduceat(eta, strata.starts)
    intercept = shift + np.log(wanted / np.maximum(strata.size - wanted, 0.5))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(eta + intercept[task], -40, 40)))
        spread = np.maximum(strata.sums(p * (1 - p)), 1e-9)
        step = np.clip((wanted - strata.sums(p)) / spread, -2, 2)
        intercept += step
        if np.abs(step).max() < CLOSE:
            break
    v = p * (1 - p)
    centre = strata.sums(p * v) / spread
    several = np.clip(p * (1 - (centre[task] - p) * (1 - p) / spread[task]), 1e-9, 1)
    small = (strata.size <= SMALL) & (strata.kept > 1) & (strata.kept < strata.size - 1)
    if exact and strata.size[small].sum() <= EXACT:
        for size in set(strata.size[small]):
            tasks = small & (strata.size == size)
            rows = tasks[task]
            several[rows] = _exactly(eta[rows].reshape(-1, size), strata.kept[tasks]).ravel()
        v = several * (1 - several)
    n = strata.size.astype(float)
    scaled = v * (n / (n - 1))[task]
    return np.where(alone, one, several), np.where(alone, softmax, scaled)


def _exactly(eta: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The chance of each trace to be among the kept ones, (tasks, traces), of tasks of one size
    that keep so many each: by elementary symmetric polynomials of the odds (Howard 1972), of all
    traces and without each.
    """
    tasks, size = eta.shape
    odds = np.exp(np.clip(eta - eta.mean(axis=1, keepdims=True), -50, 50))
    others = np.array([[j for j in range(size) if j != i] for i in range(size)])
    without = np.zeros((tasks, size, kept.max() + 1))  # of those others, by how many are drawn
    without[..., 0] = 1
    for place in range(size - 1):
        without[..., 1:] += odds[:, others[:, place], None] * without[..., :-1]
    of = np.arange(tasks)
    with_it = odds * without[of, :, kept - 1]
    return with_it / (with_it + without[of, :, kept])


def p_given(strata: Strata, others: np.ndarray, x: np.ndarray) -> float:
    """The p of a trait at the odds that others have without it. `x` has its columns, one for each
    level, which are tested together.
    """
    beta, _ = odds_of(strata, others)
    chance, variance = inclusion(strata, others @ beta)
    information = strata.information(np.column_stack([x, others]), variance)
    inverse = np.linalg.inv(information)[: x.shape[1], : x.shape[1]]
    return _p(x.T @ (strata.label - chance), inverse, x.shape[1])


def p_of_turn(strata: Strata, other: np.ndarray, beside: np.ndarray) -> float:
    """The p of a number's effect being of opposite signs below and above some value, as where its
    middle is preferred: the larger one of both slopes (Simonsohn 2018, two lines, which need not
    meet: else the second falls where an effect only levels off). `beside` has the columns of other
    traits.
    """
    from scipy.stats import norm

    z = (other - other.mean()) / max(other.std(), 1e-12)
    curve = [strata.within(z), strata.within(z**2)]
    slope, bend = odds_of(strata, np.column_stack([*curve, beside]))[0][:2]
    if bend == 0:
        return 1.0
    turn = np.clip(-slope / (2 * bend), z.min(), z.max())
    lines = np.minimum(z - turn, 0), np.maximum(z - turn, 0), (z > turn).astype(float)
    sides = [strata.within(side) for side in lines]
    beta, error = odds_of(strata, np.column_stack([*sides, beside]))
    below, above = np.array([-1, 1]) * np.sign(bend) * beta[:2] / error[:2]
    return float(min(1.0, 2 * norm.sf(min(below, above))))


def _p(score: np.ndarray, inverse: np.ndarray, free: int) -> float:
    """The p of a score with so many degrees of freedom, given the inverse of its variance."""
    from scipy.stats import chi2

    return float(chi2.sf(score @ inverse @ score, free)) if free else 1.0


def p_among_equals(strata: Strata, other: np.ndarray, x: np.ndarray) -> float:
    """The p of a trait, `x` as above, among the traces of a task that are equal in another one,
    however that matters. If it has few equal values, the p given smooth curves of it.
    """
    order = np.lexsort((other, strata.task))
    begins = np.flatnonzero(
        np.r_[True, (np.diff(strata.task[order]) != 0) | (np.diff(other[order]) != 0)]
    )
    size = np.diff(np.r_[begins, len(order)])
    if size[size > 1].sum() < TIED * len(order):
        return _given_curves(strata, other, x, order)
    values, label = x[order], strata.label[order]
    part = np.repeat(np.arange(len(size)), size)
    around = values - (np.add.reduceat(values, begins) / size[:, None])[part]
    kept = np.add.reduceat(label, begins)
    rate = kept * (size - kept) / np.maximum(size * (size - 1.0), 1)
    spread = (around * rate[part][:, None]).T @ around
    free = int(np.linalg.matrix_rank(spread, tol=1e-9 * max(1.0, spread.max()), hermitian=True))
    return _p(around.T @ label, np.linalg.pinv(spread, rcond=1e-9, hermitian=True), free)


def _given_curves(strata: Strata, other: np.ndarray, x: np.ndarray, order: np.ndarray) -> float:
    """The p of a trait given a curve of another one in units of the pool; or, if that explains
    less of it, given also curves in those of each task, and of its rank there: any of these may be
    how it matters. `order` sorts the traces of each task by it.
    """
    around = strata.within(other)
    unit = np.clip(around / max(other.std(), 1e-12), -3, 3)
    pooled = p_given(strata, np.column_stack([unit, unit**2, unit**3]), x)
    if pooled > EXPLAINED:
        return pooled
    spread = np.sqrt(strata.sums(around**2) / strata.size)
    own = around / np.maximum(spread, 1e-12)[strata.task]
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order)) - strata.starts[strata.task[order]]
    last = (strata.size - 1)[strata.task]
    place = 2 * rank / last - 1
    ends = (rank == 0).astype(float), (rank == last).astype(float)
    powers = [values**power for values in (unit, own, place) for power in (1, 2, 3)]
    return max(pooled, p_given(strata, np.column_stack([*powers, *ends]), x))


def odds_given(
    strata: Strata, x: np.ndarray, told: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Odds ratios with their 95% intervals, each in a model with those that are told; and whether
    the likelihood is flat in them.
    """
    found = np.zeros((4, x.shape[1]))
    if len(told):
        found[:, told] = odds_with_ends(strata, x[:, told])
    for one in np.setdiff1d(np.arange(x.shape[1]), told):
        found[:, one] = odds_with_ends(strata, x[:, [one, *told]])[:, 0]
    odds, low, high = np.exp(np.clip(found[:3], -50, 50))
    return odds, low, high, found[3].astype(bool)
