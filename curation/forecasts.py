"""Forecasts of the next generation, made before it is trained.

A trait's mean follows the breeder's equation in Price's form: the mean of what was learned, plus
what training has added so far (transmission). Coverage moves in log odds, as selection by a factor
does: the first step in proportion to how much more valid the learned traces are than the
generation's own, every later one a share of the step before.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

COVERAGE = "coverage"
STEP = 0.9
"""Log odds of coverage that a selection of valid traces alone gains in the first generation."""
LATER = 0.65
"""The next step of the log odds, as a share of the last one."""
Z = 1.645
"""Standard errors on both sides of a 90% interval."""
NOISE = 4.0
"""Variances of the mean of what was learned that a change must exceed to be forecast."""
RELATIVE = {1: 1.0, 2: 0.7}
"""Expected error as a share of the change, without and with a transmission to go by."""
PRIOR_COVERAGE = 0.35
"""The expected error of coverage, in log odds."""
SHARE = 1e-6
"""A trait whose variance is p (1 - p), up to this, is a share."""
BELIEVED = 4
"""Past errors that the expectation counts as."""


def forecast(history: pd.DataFrame) -> pd.DataFrame:
    """Forecast the newest generation of a history.

    `history` has one row per generation and trait: `generation`, `trait`, `before` (the mean over
    the parent's own traces, and thus the outcome of the row before), `kept` (the mean over what is
    learned) and `deviation` (over the parent's own traces). Of COVERAGE, `before` is the parent's,
    and `kept` the share of valid traces among the learned ones. Returns one row per trait of the
    newest generation: `trait`, `predicted`, `low`, `high` (90%). Of COVERAGE, `deviation` is its
    error, as `coverage_error` tells it.
    """
    generations = sorted(set(history["generation"]))
    now = generations[-1]
    made = [_made(rows, generations) for _, rows in history.groupby("trait", sort=True)]
    told = pd.concat([one for one in made if one is not None], ignore_index=True)
    past = told[told["generation"] < now]
    rows = []
    for one in told[told["generation"] == now].to_dict("records"):
        coverage = one["trait"] == COVERAGE
        alike = past[((past["trait"] == COVERAGE) == coverage) & (past["nth"] > 1)]
        rows.append({"trait": one["trait"], **_interval(one, alike["error"], coverage)})
    return pd.DataFrame(rows, columns=["trait", "predicted", "low", "high"])


def coverage_error(coverage: float, tasks: float) -> float:
    """The standard error of a coverage that so many tasks were measured for, in log odds."""
    share = (coverage * tasks + 0.5) / (tasks + 1)
    return float(1 / np.sqrt(max(1, tasks) * share * (1 - share)))


def _made(rows: pd.DataFrame, generations: list[int]) -> pd.DataFrame | None:
    """The `centre` of each generation's forecast from those before it, the `expected` error (in
    standard deviations, or log odds of coverage), and the `error` as a multiple of that.
    """
    rows = rows.sort_values("generation")
    # Only the last generations without a gap: the outcome of each is where the next one begins.
    have = set(rows["generation"])
    first = next((i for i in range(len(generations), 0, -1) if generations[i - 1] not in have), 0)
    rows = rows[rows["generation"].isin(generations[first:])]
    if rows.empty:
        return None
    before, kept = rows["before"].to_numpy(dtype=float), rows["kept"].to_numpy(dtype=float)
    coverage = rows["trait"].iloc[0] == COVERAGE
    if coverage:
        odds = _log_odds(before, rows["deviation"].to_numpy(dtype=float))
        steps = [STEP * (kept[0] - before[0]), *(LATER * np.diff(odds))]
        centre = odds + np.array(steps)
        error = np.append(odds[1:] - centre[:-1], np.nan)
        # What was measured before and after has errors, and so has the step that it goes by.
        parts = [2.0, *([(1 + LATER) ** 2 + LATER**2 + 1] * (len(rows) - 1))]
        measured = rows["deviation"].to_numpy(dtype=float) ** 2 * np.array(parts)
        expected = np.sqrt(PRIOR_COVERAGE**2 + measured)
    else:
        scale = np.maximum(rows["deviation"].to_numpy(dtype=float), 1e-9)
        added = np.array([0.0, *(before[1:] - kept[:-1])])
        moved = (kept + added - before) / scale
        # Of a few hundred lessons the mean is noisy, and so is what seems to have been added.
        noise = NOISE / rows["learned"].to_numpy(dtype=float)
        centre = before + scale * moved * np.maximum(0.0, 1 - noise / np.maximum(moved**2, 1e-12))
        error = np.append((before[1:] - centre[:-1]) / scale[:-1], np.nan)
        relative = np.array([RELATIVE[min(nth, 2)] for nth in range(1, len(rows) + 1)])
        expected = np.sqrt((relative * moved) ** 2 + noise / 2)
    return rows.assign(
        centre=centre, error=error / expected, expected=expected, nth=range(1, len(rows) + 1)
    )


def _interval(one: dict[str, float], errors: pd.Series, coverage: bool) -> dict[str, float]:
    """The forecast and its 90% interval. `errors`: past ones, as multiples of the expected one."""
    seen = errors.dropna().to_numpy()
    inflated = (BELIEVED + float((seen**2).sum())) / (BELIEVED + len(seen))
    wide = Z * one["expected"] * float(np.sqrt(inflated))
    wide *= 1.0 if coverage else one["deviation"]
    ends = one["centre"] + np.array([0.0, -wide, wide])
    if coverage:
        # Coverage comes in steps of a task: one that is nearer than half of one is inside.
        half = 0.5 / _tasks(one["before"], one["deviation"])
        ends = (1 / (1 + np.exp(-ends)) + np.array([0.0, -half, half])).clip(0.0, 1.0)
        ends[2] = 1.0 if ends[2] > 1 - half else ends[2]
        ends[1] = 0.0 if ends[1] < half else ends[1]
    elif abs(one["deviation"] ** 2 - one["before"] * (1 - one["before"])) < SHARE:
        ends = ends.clip(0.0, 1.0)
    return dict(zip(("predicted", "low", "high"), map(float, ends), strict=True))


def _log_odds(share: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The log odds of coverages with these errors, as if half a task more were solved, and half a
    task more were not.
    """
    tasks = np.array([_tasks(one, wide) for one, wide in zip(share, error, strict=True)])
    bounded = (share * tasks + 0.5) / (tasks + 1)
    return np.log(bounded / (1 - bounded))


def _tasks(coverage: float, error: float) -> float:
    """The number of tasks of which a coverage has this error (`coverage_error`)."""
    low, high = 0.0, 9.0  # its logarithm to base 10; the error falls with it
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if coverage_error(coverage, 10**middle) > error else (low, middle)
        )
    return float(10**high)
