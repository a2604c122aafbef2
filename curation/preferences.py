"""Find what a curation rewards besides validity: traits that go with a valid plan being kept.

One logistic model of kept or dropped has all traits, so that none is blamed for what another does.
A weak prior by pseudo-observations (Greenland 2007) keeps it finite. Standard errors are clustered
by task, because a task's traces compete. The false discovery rate is controlled (Benjamini and
Hochberg 1995). These are associations, not causes: an unmeasured trait can hide behind another.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

FEWEST = 20
"""Traces that a level needs to be examined on its own."""
FEWEST_EITHER = 5
"""Kept traces, and dropped ones, that a level needs to enter the model."""
PRIOR = 0.5
"""Weight of each of a column's two pseudo-observations."""
COLUMNS = ["trait", "level", "traces", "odds_ratio", "low", "high", "p", "q", "method"]


@dataclass(frozen=True, slots=True)
class Preferences:
    """The traits that go with being kept.

    `found`: one row per trait, or per level of one, smallest q first (COLUMNS; odds ratios with 95%
    intervals, numeric traits per standard deviation). `unanswered`: why a trait is not among them.
    """

    found: pd.DataFrame
    unanswered: dict[str, str]

    def named(self, q: float = 0.01) -> list[str]:
        """Traits that go with being kept or dropped, the clearest first."""
        return list(dict.fromkeys(self.found.loc[self.found["q"] <= q, "trait"]))


def preferences(kept: pd.Series, task: pd.Series, traits: pd.DataFrame) -> Preferences:
    """Explain which valid traces of a pool were kept, by their traits.

    `kept` and `task` have one value per trace. `traits` has one column per trait: numbers, or text
    for levels.
    """
    unanswered: dict[str, str] = {}
    if kept.nunique() < 2:
        every = "every valid trace was kept" if kept.any() else "no valid trace was kept"
        reason = every if len(kept) else "there is no valid trace"
        return Preferences(pd.DataFrame(columns=COLUMNS), dict.fromkeys(traits.columns, reason))
    chosen = kept.to_numpy(dtype=bool)
    columns, separated = _columns(chosen, traits, unanswered)
    found = [_exact(chosen, *column) for column in separated]
    if columns:
        found += _logistic(chosen, task.to_numpy(), columns)
    frame = pd.DataFrame(found, columns=COLUMNS)
    if len(frame):
        from statsmodels.stats.multitest import multipletests

        frame["q"] = multipletests(frame["p"], method="fdr_bh")[1]
        strength = -np.log(frame["odds_ratio"]).abs()
        frame = (
            frame.assign(strength=strength).sort_values(["q", "strength"]).drop(columns="strength")
        )
    return Preferences(frame.reset_index(drop=True), unanswered)


def acceptance(kept: pd.Series, groups: pd.Series) -> pd.DataFrame:
    """The share of each group that was kept: one row per level with at least FEWEST traces.

    Columns: `level`, `traces`, `share`, and `low` and `high`, its 95% interval (Wilson).
    """
    from statsmodels.stats.proportion import proportion_confint

    counts = kept.groupby(groups.astype(str)).agg(["size", "sum"])
    counts = counts[counts["size"] >= FEWEST]
    low, high = proportion_confint(counts["sum"], counts["size"], method="wilson")
    share = counts["sum"] / counts["size"]
    columns = {"traces": counts["size"], "share": share, "low": low, "high": high}
    return pd.DataFrame(columns).rename_axis("level").reset_index()


Column = tuple[str, str, np.ndarray]
"""A trait, its level ("" for a number), and one value per trace."""


def _columns(
    kept: np.ndarray, traits: pd.DataFrame, unanswered: dict[str, str]
) -> tuple[list[Column], list[Column]]:
    """Columns for the model, and levels where too few traces were kept, or dropped, for it."""
    told: list[Column] = []
    separated: list[Column] = []
    for name in traits.columns:
        values = traits[name]
        if values.nunique(dropna=False) < 2:
            unanswered[name] = "constant: all traces are alike"
        elif values.isna().any():
            unanswered[name] = f"unknown for {int(values.isna().sum())} traces"
        elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(dtype=float)
            told.append((name, "", (numbers - numbers.mean()) / numbers.std()))
        else:
            codes, levels = pd.factorize(values.astype(str), sort=True)
            counts = pd.Series(np.bincount(codes)).sort_values(ascending=False, kind="stable")
            # The most frequent level is the reference, so it has no column.
            large = [code for code in counts.index[1:] if counts[code] >= FEWEST]
            if not large:
                unanswered[name] = f"no level but {levels[counts.index[0]]!r} has {FEWEST} traces"
            for code in large:
                level, inside = levels[code], codes == code
                few = min(kept[inside].sum(), (~kept[inside]).sum()) < FEWEST_EITHER
                (separated if few else told).append((name, str(level), inside.astype(float)))
    return told, separated


def _logistic(
    kept: np.ndarray, task: np.ndarray, columns: list[Column]
) -> list[tuple[object, ...]]:
    """One result row per column, from one model of all columns."""
    import statsmodels.api as sm

    width = len(columns)
    x = np.column_stack([np.ones(len(kept)), *(values for _, _, values in columns)])
    # Two pseudo-observations per column, one kept and one dropped; each is its own cluster.
    prior = np.repeat(np.eye(width + 1)[1:], 2, axis=0)
    groups = pd.factorize(task)[0]
    model = sm.GLM(
        np.concatenate([kept.astype(float), np.tile([0.0, 1.0], width)]),
        np.vstack([x, prior]),
        family=sm.families.Binomial(),
        freq_weights=np.concatenate([np.ones(len(kept)), np.full(2 * width, PRIOR)]),
    )
    clusters = np.concatenate([groups, groups.max() + 1 + np.arange(2 * width)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on degrees of freedom: weights are not integers
        fitted = model.fit(method="newton", cov_type="cluster", cov_kwds={"groups": clusters})
    bounds = fitted.conf_int()
    return [
        (name, level, _count(level, values), *np.exp([fitted.params[i], *bounds[i]]),
         fitted.pvalues[i], np.nan, "logistic")
        for i, (name, level, values) in enumerate(columns, start=1)
    ]  # fmt: skip


def _exact(kept: np.ndarray, name: str, level: str, values: np.ndarray) -> tuple[object, ...]:
    """Result row of a level where hardly any, or nearly all, traces were kept: Fisher's test."""
    from scipy.stats import fisher_exact

    inside = values.astype(bool)
    table = np.array(
        [[(inside & kept).sum(), (inside & ~kept).sum()],
         [(~inside & kept).sum(), (~inside & ~kept).sum()]]
    )  # fmt: skip
    # Half a trace more in each cell keeps the odds ratio finite.
    (a, b), (c, d) = table + 0.5
    spread = 1.96 * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    ratio = a * d / (b * c)
    p = fisher_exact(table).pvalue
    low, high = ratio * np.exp([-spread, spread])
    return name, level, int(inside.sum()), ratio, low, high, p, np.nan, "exact"


def _count(level: str, values: np.ndarray) -> int:
    return int(values.sum()) if level else len(values)
