"""Curators against the obvious loop; every trace gets a decision and a reason."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.curators import CURATORS, POOL_COLUMNS, curate
from planners.errors import InvalidInput

OUTCOMES = ["VALID", "VALID", "PRECONDITION_FAILED", "NO_PLAN", None]


@st.composite
def pools(draw: st.DrawFn) -> pd.DataFrame:
    rows = []
    for i in range(draw(st.integers(0, 25))):
        outcome = draw(st.sampled_from(OUTCOMES))
        rows.append(
            (
                f"t{i:03d}",
                f"task{draw(st.integers(0, 4))}",
                draw(st.integers(0, 3)),
                outcome,
                None if outcome in (None, "NO_PLAN") else draw(st.integers(0, 4)),
                draw(st.integers(0, 2)),
            )
        )
    order = draw(st.permutations(rows))
    return pd.DataFrame(order, columns=list(POOL_COLUMNS))


def shortest_of_each_task(pool: pd.DataFrame) -> set[str]:
    best: dict[str, tuple] = {}
    for row in pool.itertuples():
        if row.outcome == "VALID":
            rank = (row.plan_length, row.reasoning_tokens, row.trace)
            best[row.task] = min(best.get(row.task, rank), rank)
    return {rank[2] for rank in best.values()}


@given(pools())
def test_shortest_is_the_papers_rule(pool: pd.DataFrame) -> None:
    assert set(CURATORS["shortest"](pool, None, 0).kept) == shortest_of_each_task(pool)


@pytest.mark.parametrize("name", CURATORS)
@given(pool=pools(), count=st.one_of(st.none(), st.integers(1, 5)), seed=st.integers(0, 9))
def test_every_curator_decides_on_every_trace(
    name: str, pool: pd.DataFrame, count: int | None, seed: int
) -> None:
    selection = CURATORS[name](pool, count, seed)
    frame = selection.frame
    assert list(frame["trace"]) == list(pool["trace"])
    assert all(isinstance(reason, str) and reason for reason in frame["reason"])
    assert (frame["weight"] == frame["kept"].astype(float)).all()
    kept = pool[pool["trace"].isin(selection.kept)]
    assert kept["task"].is_unique
    assert count is None or len(kept) <= count
    assert (
        selection.hash() == CURATORS[name](pool.sample(frac=1, random_state=1), count, seed).hash()
    )


@given(pools(), st.integers(0, 5))
def test_uncurated_keeps_a_plan_for_every_task_that_has_one(pool: pd.DataFrame, seed: int) -> None:
    kept = pool[pool["trace"].isin(CURATORS["uncurated"](pool, None, seed).kept)]
    assert set(kept["task"]) == set(pool.loc[pool["plan_length"].fillna(0) > 0, "task"])


def test_replay_windows() -> None:
    pool = pd.DataFrame(
        [(f"t{g}", f"task{g}", g, "VALID", 2, 0) for g in range(4)], columns=list(POOL_COLUMNS)
    )
    assert curate("shortest", pool, 4, "all", None, 0).kept == ["t0", "t1", "t2", "t3"]
    assert curate("shortest", pool, 4, "last", None, 0).kept == ["t3"]
    assert curate("shortest", pool, 4, 2, None, 0).kept == ["t2", "t3"]


def test_nothing_to_learn_is_said() -> None:
    pool = pd.DataFrame([("t", "task", 0, "NO_PLAN", None, 0)], columns=list(POOL_COLUMNS))
    with pytest.raises(InvalidInput, match="kept none of 1 traces for generation 1"):
        curate("shortest", pool, 1, "all", None, 0)
