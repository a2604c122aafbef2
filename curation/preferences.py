"""Find what a curation rewards besides validity, in two questions that must not be pooled.

*Within tasks*: given a task's valid traces, which of them are kept? A conditional logistic model,
stratified by task: it sees no task's difficulty and no task's number of traces. *Between tasks*:
which tasks weigh more among the kept traces than in the pool? Pooling the two is Simpson's paradox:
a curator that keeps each task's shortest plan also makes tasks with long plans weigh more.

Traits that are nearly equal within tasks are tested as one. Nothing is named unless the labels,
permuted within tasks, hardly ever look so unlike chance (a max-T test, exact where no trace of a
task is preferred). Nor is a trait blamed for what another does: it must still go with being kept
given all others in one model, and given each of them among traces that are equal in it. These are
associations, not causes: an unmeasured trait can hide behind another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from curation.strata import RIDGE, Strata, Tails, odds_given, p_among_equals, p_given, p_of_turn
from curation.tasks import (
    BETWEEN,
    FEWEST,
    MIDDLE,
    NOTABLE,
    PERMUTED,
    Column,
    between_tasks,
    false_discoveries,
    is_number,
    labelled,
)

ALIKE = 0.98
"""Correlation within tasks from which two traits are tested as one."""
GATE = 0.01
"""Share of permutations that may look as unlike chance, where anything is named."""
ENOUGH = 20
"""Permutations that look as unlike chance after which no more are drawn. With PERMUTED of them
GATE is out of reach by then.
"""
WORK, FEWEST_DRAWN = 4e7, 199
"""Rows drawn in all permutations together, at most; but at least so many permutations."""
MANY = 5
"""Values of a number from which it is asked whether its middle is preferred."""
LARGEST = 1e150
"""Numbers of this size have squares that overflow."""
SUSPECT, SUSPECTS = 0.05, 25
"""p up to which a trait may be told, and is compared with each other such one; the most of them."""
NEARLY = 0.8
"""Part of the largest score from which a trait is nearly as clear as the clearest."""
CREDIBLE = 0.5
"""Logarithm of how far a score's tail may be from a normal one (its Edgeworth terms)."""
COLUMNS = [
    "trait", "level", "traces", "odds_ratio", "low", "high", "p", "q", "method", "also", "skew",
    "kurtosis",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preferences:
    """The traits that go with being kept.

    `found`, within tasks: one row per trait, or per level of one, smallest q first (COLUMNS; odds
    ratios with 95% intervals, numeric traits per standard deviation within tasks, and their level
    MIDDLE for being near the mean, against a standard deviation of the pool off it; `traces`: those
    of tasks in which it differs; `also` names traits that are nearly equal). `between` tasks: the
    mean of a trait over the pool's traces and over the kept ones, if each trace had its task's mean
    (BETWEEN; `shift` in standard deviations).
    `unanswered`: why a trait is not in `found`. `chance`: the share of permutations of the labels
    that look as unlike chance as the labels do; it is at least `finest`, as so many were drawn.
    """

    found: pd.DataFrame
    unanswered: dict[str, str]
    between: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=BETWEEN))
    chance: float = 1.0
    finest: float = 1.0

    def clear(self, q: float = 0.01, look: int | None = None) -> pd.DataFrame:
        """The rows of `found` that are told, the clearest first.

        If a question is asked again and again, the `look`-th time spends 1 / (look (look + 1)) of
        `q`. These shares sum to 1, so that `q` holds for all looks together, however many. Where
        too few permutations were drawn for so small a share, its normal approximation must be good.
        """
        if look is None:
            return self.found[(self.found["q"] <= q) & (self.chance <= max(GATE, q))]
        spent = spent_at(q, look)
        told = self.found[self.found["q"] <= spent]
        if self.chance <= spent:
            return told
        from scipy.stats import norm

        z = norm.isf(spent / 2 / max(1, len(self.found)))
        off = told["skew"].abs() * z**3 / 6 + told["kurtosis"].abs() * z**4 / 24
        return told[(off <= CREDIBLE) & (self.chance <= self.finest)]

    def named(self, q: float = 0.01) -> list[str]:
        """Traits that go with being kept or dropped within a task, the clearest first."""
        return list(dict.fromkeys(self.clear(q)["trait"]))

    def heavier(self, q: float = 0.01) -> pd.DataFrame:
        """The rows of `between` that are told: traits by which tasks weigh otherwise."""
        return self.between[(self.between["q"] <= q) & (self.between["shift"].abs() >= NOTABLE)]


def spent_at(q: float, look: int) -> float:
    """The share of `q` that is spent when a question is asked for the `look`-th time."""
    return q / (look * (look + 1))


def preferences(
    kept: pd.Series, task: pd.Series, traits: pd.DataFrame, seed: int = 0, least: float = GATE,
    one: np.ndarray | None = None,
) -> Preferences:  # fmt: skip
    """Explain which valid traces of a pool were kept, by their traits.

    `kept` and `task` have one value per trace. `traits` has one column per trait: numbers, or text
    for levels. `seed` is for the permutations, which are enough for a chance of `least` where the
    pool is small enough. `one`: the places of the traces that were decided on one by one
    (`curation.tasks.cases`), by default all; the others only weigh, which is between tasks.
    """
    unanswered: dict[str, str] = {}
    if kept.nunique() < 2:
        every = "every valid trace was kept" if kept.any() else "no valid trace was kept"
        reason = every if len(kept) else "there is no valid trace"
        return Preferences(pd.DataFrame(columns=COLUMNS), dict.fromkeys(traits.columns, reason))
    chosen, tasks = kept.to_numpy(dtype=bool), pd.factorize(task.to_numpy())[0]
    places = np.arange(len(kept)) if one is None else one
    columns = list(_columns(traits.iloc[places], unanswered))
    rng = np.random.default_rng(seed)
    within, chance, finest = _within(chosen[places], tasks[places], columns, unanswered, rng, least)
    weighed = columns if one is None else _columns(traits, {})
    directions = [column for column in weighed if column[1] != MIDDLE]
    between = between_tasks(chosen, tasks, directions, rng)
    return Preferences(within, unanswered, between, chance, finest)


def _columns(traits: pd.DataFrame, unanswered: dict[str, str]) -> Iterator[Column]:
    """The columns that stand for the traits: a number, or one 0/1 column per frequent level."""
    for name in traits.columns:
        values = traits[name]
        if values.nunique(dropna=False) < 2:
            unanswered[name] = "constant: all traces are alike"
        elif values.isna().any():
            unanswered[name] = f"unknown for {int(values.isna().sum())} traces"
        elif is_number(values):
            numbers = values.to_numpy(dtype=float)
            if np.abs(numbers).max() < LARGEST:
                yield name, "", numbers
                if len(np.unique(numbers)) >= MANY:
                    yield name, MIDDLE, -(((numbers - numbers.mean()) / numbers.std()) ** 2)
            else:
                unanswered[name] = "infinite, or too large to reckon with, for some traces"
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


def _within(
    chosen: np.ndarray, tasks: np.ndarray, columns: list[Column], unanswered: dict[str, str],
    rng: np.random.Generator, least: float,
) -> tuple[pd.DataFrame, float, float]:  # fmt: skip
    """The table of preferences within tasks, the share of permutations that look like it, and the
    smallest share that there can be.
    """
    strata = Strata.of(chosen, tasks)
    told: list[tuple[Column, np.ndarray, list[str]]] = []
    for column in columns:
        name, level, values = column
        x = strata.within(values[strata.rows]) if len(strata.rows) else np.zeros(0)
        spread = np.sqrt((x**2).mean()) if len(x) else 0.0
        if level == MIDDLE and name in unanswered:
            continue
        if spread < max(1e-9 * values.std(), 1e-13 * np.abs(values).max()):
            why = "the same for all traces of a task that were not all kept or all dropped"
            unanswered.setdefault(name, why)
            continue
        unit = x if level else x / spread
        for (other, other_level, _), known, also in told:
            other_kind = (level == MIDDLE) != (other_level == MIDDLE)
            if other_kind and name != other:
                continue  # nobody listed a number's middle: it stands for no other trait
            if abs(unit @ known / np.sqrt((unit @ unit) * (known @ known))) > ALIKE:
                label = labelled(name, level)
                if not other_kind and (name, level) != (other, other_level) and label not in also:
                    also.append(label)
                break
        else:
            told.append((column, unit, []))
    for (name, _, _), _, _ in told:
        unanswered.pop(name, None)
    if not told:
        return pd.DataFrame(columns=COLUMNS), 1.0, 1.0
    x = np.column_stack([values for _, values, _ in told])
    # 1. The test is of scores at chance, which are linear in the labels: of each trait alone, and
    # given the others.
    information = (x * strata.variance[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
    alone = x / np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information)
    jointly = x @ (inverse / np.sqrt(np.diag(inverse)))
    scores = np.hstack([alone, jointly])
    count = int(np.clip(_affordable(strata), FEWEST_DRAWN, PERMUTED))
    tails = Tails(strata, scores, rng, count)
    z = tails.credible(scores.T @ strata.label)
    chance, finest = _chance(strata, scores, tails, float(np.abs(z).max()), rng, least)
    # 2. Which of the traits that look unlike chance are not explained by others?
    numbers = {name: values for name, level, values in columns if not level}
    raw = [numbers.get(name, values)[strata.rows] for (name, _, values), _, _ in told]
    by_itself, given_others = np.split(z, 2)
    labels = [(name, level) for (name, level, _), _, _ in told]
    p, explained = _unexplained(strata, x, raw, labels, by_itself, given_others)
    for one, others in explained.items():
        told[one][2].extend(labelled(*told[other][0][:2]) for other in others)
    # 3. The odds of each, with those that are told in the model.
    q = false_discoveries(p)
    odds, low, high, flat = odds_given(strata, x, np.flatnonzero(q <= GATE))
    spread = strata.variance[:, None] * alone**2
    lean = (1 - 2 * strata.kept / strata.size)[strata.task][:, None]
    skew, kurtosis = (spread * alone * lean).sum(axis=0), (spread * alone**2).sum(axis=0)
    differ = strata.size @ (np.abs(strata.sums(x**2)) > 1e-9)
    frame = pd.DataFrame(
        [
            (
                name, level, int(differ[i]), *ratio, p[i], q[i],
                "conditional, nearly separated" if flat[i] else "conditional", ", ".join(also),
                float(skew[i]), float(kurtosis[i]),
            )
            for i, (((name, level, _), _, also), ratio) in enumerate(
                zip(told, zip(odds, low, high, strict=True), strict=True)
            )
        ],
        columns=COLUMNS,
    )  # fmt: skip
    # A middle that is not preferred is no answer of its own.
    answers = ~(frame["trait"].isin(numbers) & (frame["level"] == MIDDLE)) | (frame["q"] <= GATE)
    order = np.lexsort((-np.abs(by_itself), frame["q"].to_numpy()))
    found = frame.iloc[order][answers.iloc[order]]
    return found.reset_index(drop=True), chance, finest


def _unexplained(
    strata: Strata, x: np.ndarray, raw: list[np.ndarray], labels: list[tuple[str, str]],
    alone: np.ndarray, jointly: np.ndarray,
) -> tuple[np.ndarray, dict[int, list[int]]]:  # fmt: skip
    """The p of each column, given the others; and columns that cannot be told from one that is
    told. `labels`: the trait and level of each column; the levels of one are tested together where
    another trait may explain them, and each given the others where it is which level that matters.
    `raw`: the values of its trait, in whatever way they matter.

    `alone`, `jointly`: the scores at chance. It is the largest of: at chance, given all other
    suspects in one model, and given each of them without any model of how it matters. If each
    one is explained by another, as by a copy of it in other units, the clearest is told for all, or
    one that is nearly as clear and less explained.
    """
    from scipy.stats import norm

    strength = np.maximum(np.abs(alone), np.abs(jointly))
    p, by_itself = 2 * norm.sf(strength), 2 * norm.sf(np.abs(alone))
    suspects = [i for i in np.argsort(-strength, kind="stable") if p[i] <= SUSPECT][:SUSPECTS]
    # Those beyond SUSPECTS are compared with nothing, and so are not told.
    given = np.where(p <= SUSPECT, 1.0, np.maximum(by_itself, 2 * norm.sf(np.abs(jointly))))
    nothing = np.zeros((len(x), 0))
    number = [level in ("", MIDDLE) for _, level in labels]
    levels = {
        one: (one,) if number[one] else tuple(i for i, (of, _) in enumerate(labels) if of == name)
        for one, (name, _) in enumerate(labels)
    }
    size = np.abs(alone)
    for own in map(list, dict.fromkeys(levels[one] for one in suspects)):
        name, level = labels[own[0]]
        others = [other for other in suspects if labels[other][0] != name]
        # A number's direction and its middle are equal where it is.
        alike = {labels[i][0] if number[i] else i: i for i in others}.values()
        together = x[:, own]
        explained = [p_given(strata, x[:, others], together)] if others else []
        explained += [p_among_equals(strata, raw[other], together) for other in alike]
        if level == MIDDLE:
            turns = p_of_turn(strata, raw[own[0]], x[:, others])
            explained.append(turns)
            by_itself[own] = np.maximum(by_itself[own], turns)
        for one in set(own) & set(suspects):
            siblings = [other for other in own if other != one]
            beside = x[:, [*siblings, *others]]
            among = p_given(strata, beside, x[:, [one]]) if siblings else 0.0
            given[one] = max(p[one], among, *explained)
        if len(own) > 1:  # as clear as all of its levels are together
            by_itself[own] = np.minimum(by_itself[own], p_given(strata, nothing, together))
            size[own] = norm.isf(np.maximum(by_itself[own], 1e-300) / 2)
    # Where the middle of a number is preferred, it may have no direction besides.
    for one, label in enumerate(labels):
        middle = labels.index((label[0], MIDDLE)) if (label[0], MIDDLE) in labels else one
        if not label[1] and given[middle] <= GATE >= given[one]:
            given[one] = max(given[one], p_given(strata, x[:, [middle]], x[:, [one]]))
    # None would be told, and one would be if it were alone: which one cannot be said.
    if suspects and false_discoveries(given).min() > GATE >= false_discoveries(by_itself).min():
        near = [i for i in suspects if size[i] >= NEARLY * size.max()]
        first = min(near, key=lambda i: (given[i] > SUSPECT, by_itself[i], -abs(alone[i])))
        also = [i for i in suspects if i != first and by_itself[i] <= GATE]
        given[[first, *also]] = [by_itself[first], *(1.0 for _ in also)]
        return given, {first: also}
    return given, {}


def _affordable(strata: Strata) -> float:
    """How many permutations may be drawn in the time that there is."""
    drawn = strata.kept.sum() if (strata.kept == 1).all() else len(strata.rows)
    return WORK / max(1, int(drawn))


def _chance(
    strata: Strata, scores: np.ndarray, tails: Tails, largest: float, rng: np.random.Generator,
    least: float,
) -> tuple[float, float]:  # fmt: skip
    """The share of permutations whose largest statistic is at least as large (max-T), and the
    smallest share that so many permutations can have: `least`, if they do not take too long.

    If it is large there is no need of all of them, and their share among those until then is as
    valid (Besag and Clifford 1991, sequential Monte Carlo p-values).
    """
    wanted = max(PERMUTED, int(np.ceil(1 / least)))
    count, beyond = int(np.clip(_affordable(strata), FEWEST_DRAWN, wanted)), 0
    for number, places in enumerate(strata.permuted(rng, count), 1):
        beyond += np.abs(tails.credible(scores[places].sum(axis=0))).max() >= largest - 1e-12
        if beyond == ENOUGH:
            return beyond / number, 1 / (1 + count)
    return (1 + beyond) / (1 + count), 1 / (1 + count)
