"""Forecasts: exact where the world keeps its ways, honest intervals where it does not."""

import numpy as np
import pandas as pd
import pytest

from curation.forecasts import COVERAGE, coverage_error, forecast

COLUMNS = ["generation", "trait", "before", "kept", "deviation", "learned"]


def told(*rows: tuple[object, ...]) -> dict[str, dict[str, float]]:
    found = forecast(pd.DataFrame(list(rows), columns=COLUMNS))
    return {row["trait"]: row for row in found.to_dict("records")}


def test_what_training_added_last_is_added_again() -> None:
    first = (1, "plan_length", 4.0, 6.0, 2.0, 100_000)
    assert told(first)["plan_length"]["predicted"] == pytest.approx(6.0, abs=0.01)
    second = (2, "plan_length", 7.5, 7.0, 2.0, 100_000)  # training added 1.5
    found = told(first, second)["plan_length"]
    assert found["predicted"] == pytest.approx(8.5, abs=0.01)
    assert found["low"] < 8.5 < found["high"]


def test_a_change_within_the_noise_of_few_lessons_is_not_forecast() -> None:
    assert told((1, "fenced", 0.30, 0.33, 0.46, 50))["fenced"]["predicted"] == pytest.approx(0.30)
    many = told((1, "fenced", 0.30, 0.33, 0.46, 1_000_000))["fenced"]
    assert many["predicted"] == pytest.approx(0.33, abs=0.001)


def test_shares_stay_shares() -> None:
    for share in (0.001, 0.999):
        deviation = (share * (1 - share)) ** 0.5
        found = told((1, "fenced", share, share, deviation, 20))["fenced"]
        assert 0 <= found["low"] <= found["predicted"] <= found["high"] <= 1
    found = told((1, COVERAGE, 0.999, 1.0, coverage_error(0.999, 1000), 20))[COVERAGE]
    assert 0 < found["low"] < found["predicted"] < found["high"] == 1, "all may be solved"
    found = told((1, COVERAGE, 0.0, 0.0, coverage_error(0.0, 1000), 20))[COVERAGE]
    assert 0 == found["low"] < found["predicted"] < found["high"] < 1


def test_coverage_moves_by_what_is_valid_among_the_learned() -> None:
    curated = told((1, COVERAGE, 0.08, 1.0, 0.0, 200))[COVERAGE]
    control = told((1, COVERAGE, 0.08, 0.08, 0.0, 200))[COVERAGE]
    assert curated["predicted"] > 1.9 * 0.08
    assert control["predicted"] == pytest.approx(0.08)
    later = told((1, COVERAGE, 0.08, 1.0, 0.0, 200), (2, COVERAGE, 0.17, 1.0, 0.0, 400))[COVERAGE]
    assert 0.17 < later["predicted"] < 0.28


def test_a_gap_makes_older_generations_no_evidence() -> None:
    """A trait that was constant at generation 2 has no outcome for 1."""
    rows = [(1, "upper_case", 0.2, 0.2, 0.4, 500), (3, "upper_case", 0.6, 0.7, 0.5, 10_000)]
    alone = told((3, "upper_case", 0.6, 0.7, 0.5, 10_000))["upper_case"]
    with_others = told(*rows, (2, "fenced", 0.5, 0.5, 0.5, 500), (3, "fenced", 0.5, 0.5, 0.5, 500))
    assert with_others["upper_case"] == alone


def test_intervals_cover_where_transmission_wanders() -> None:
    rng, inside, errors = np.random.default_rng(0), [], []
    for _ in range(60):
        mean, added, rows = 5.0, rng.normal(1.0, 0.5), []
        for generation in range(1, 7):
            learned = 200 * generation
            kept = mean + rng.normal(0.5, 0.3) + rng.normal(0, 2 / learned**0.5)
            rows.append((generation, "plan_length", mean, kept, 2.0, learned))
            found = told(*rows)["plan_length"]
            outcome = kept + added
            inside.append(found["low"] <= outcome <= found["high"])
            errors.append((abs(found["predicted"] - outcome), abs(mean - outcome)))
            mean, added = outcome, added + rng.normal(0, 0.2)
    own, persistence = np.mean(errors, axis=0)
    assert np.mean(inside) > 0.85
    assert own < 0.5 * persistence


@pytest.mark.parametrize("odds", [0.0, 2.0, 3.0])
def test_intervals_cover_the_coverage_of_few_tasks(odds: float) -> None:
    """Of 20 tasks near 0.9 all may be solved by chance, and such a share tells little."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(60):
        now, step, rows = odds + rng.normal(0, 0.3), None, []
        for generation in range(1, 5):
            covered = rng.binomial(20, 1 / (1 + np.exp(-now))) / 20
            if rows:
                found = told(*rows)[COVERAGE]
                inside.append(found["low"] - 1e-9 <= covered <= found["high"] + 1e-9)
            error = coverage_error(covered, 20)
            rows.append((generation, COVERAGE, covered, 1.0, error, 20))
            first = 0.9 * (1 - 1 / (1 + np.exp(-now)))
            step = (first if step is None else 0.65 * step) + rng.normal(0, 0.28)
            now += step
    assert np.mean(inside) > 0.87
