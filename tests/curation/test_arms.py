"""Randomised arms: what is drawn by lot, and intervals that hold where there is no effect."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from curation.arms import by_lot, effect

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
    """Tasks differ much more than traces of one task, and both arms answer the same ones."""
    rng, outside, found = np.random.default_rng(0), 0, 0
    for seed in range(100):
        tasks = pd.Series(np.repeat(np.arange(60), 4))
        mean = np.repeat(rng.normal(7, 3, 60), 4)
        one, other = (pd.Series(mean + rng.normal(0, 1, 240)) for _ in range(2))
        low, high = effect(one, tasks, other, tasks, seed)[3:]
        outside += not low <= 0 <= high
        found += effect(one - 0.5, tasks, other, tasks, seed).high < 0
    assert outside <= 12
    assert found >= 95
