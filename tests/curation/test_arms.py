"""Randomised arms: what is drawn by lot, and intervals that hold where there is no effect."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.price import by_lot, effect

POOLS = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from([0.0, 1.0, 0.5])), min_size=1
)


@given(POOLS, st.integers(0, 10))
def test_each_task_gives_as_many_lessons_and_as_many_valid_ones(
    pool: list[tuple[str, bool, float]], seed: int
) -> None:
    frame = pd.DataFrame(pool, columns=["task", "valid", "weight"])
    frame.index = frame.index + 7  # whatever the index
    drawn = by_lot(frame["weight"], frame["task"], frame["valid"], seed)
    assert drawn.index.equals(frame.index)
    for _, rows in frame.assign(drawn=drawn).groupby(["task", "valid"]):
        assert sorted(rows["drawn"]) == sorted(rows["weight"])
    assert drawn.equals(by_lot(frame["weight"], frame["task"], frame["valid"], seed))


def test_every_trace_of_a_task_is_as_likely() -> None:
    weight = pd.Series([1.0, 0.0, 0.0, 0.0])
    task, valid = pd.Series(["a"] * 4), pd.Series([True] * 4)
    drawn = sum(by_lot(weight, task, valid, seed).to_numpy() for seed in range(2000))
    assert np.abs(drawn / 2000 - 0.25).max() < 0.04


def test_intervals_hold_without_an_effect_and_find_one() -> None:
    rng = np.random.default_rng(0)
    worlds = rng.normal(7.0, 0.2, (2000, 9))
    found = [effect(chosen, list(arms)) for chosen, *arms in worlds]
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.015)
    far = [effect(chosen - 1.0, list(arms)) for chosen, *arms in worlds]
    assert np.mean([one.high < 0 for one in far]) > 0.95
    assert effect(1.0, [1.0, 1.0]).p == 1.0
    assert effect(2.0, [1.0, 1.0]).p == 0.0
    assert effect(2.0, [1.0, 1.0], least=1.0).p > 0.3, "a rare trait in one trace of the chosen arm"
