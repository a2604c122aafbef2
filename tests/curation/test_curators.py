"""Curators against the obvious loop; every trace gets a decision and a reason."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.curators import CURATORS, Options, Selection, curate
from planners.errors import InvalidInput
from planners.records import INGESTED

POOL_COLUMNS = ("trace", "task", "generation", "outcome", "plan_length", "reasoning_tokens")

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
    texts = draw(st.lists(st.sampled_from(["(stack a b)", "(pickup a)"]), min_size=len(rows)))
    said = draw(st.lists(st.sampled_from([True, False, None]), min_size=len(rows)))
    return pd.DataFrame(order, columns=list(POOL_COLUMNS)).assign(
        text=texts[: len(rows)], accepted=pd.Series(said[: len(rows)], dtype=object)
    )


SEVERAL = {"all-valid", "preference", "feedback", "accepted-and-valid", "rollouts"}
"""Curators that keep several traces of a task."""
UNJUDGED = {"uncurated", "noisy", "feedback", "rollouts"}
"""Curators that keep traces that are not valid."""


def chosen(name: str, pool: pd.DataFrame, count: int | None = None, seed: int = 0) -> Selection:
    options = Options(count=count, seed=seed, error_rate=0.3, taste="pickup")
    return CURATORS[name].choose(pool, options)


def shortest_of_each_task(pool: pd.DataFrame) -> set[str]:
    best: dict[str, tuple] = {}
    for row in pool.itertuples():
        if row.outcome == "VALID":
            rank = (row.plan_length, row.reasoning_tokens, row.trace)
            best[row.task] = min(best.get(row.task, rank), rank)
    return {rank[2] for rank in best.values()}


@given(pools())
def test_shortest_is_the_papers_rule(pool: pd.DataFrame) -> None:
    assert set(chosen("shortest", pool).kept) == shortest_of_each_task(pool)


@pytest.mark.parametrize("name", CURATORS)
@given(pool=pools(), count=st.one_of(st.none(), st.integers(1, 5)), seed=st.integers(0, 9))
def test_every_curator_decides_on_every_trace(
    name: str, pool: pd.DataFrame, count: int | None, seed: int
) -> None:
    selection = chosen(name, pool, count, seed)
    frame = selection.frame
    assert list(frame["trace"]) == list(pool["trace"])
    assert all(isinstance(reason, str) and reason for reason in frame["reason"])
    if CURATORS[name].signed:
        assert ((frame["weight"] != 0) == frame["kept"]).all()
    else:
        assert (frame["weight"] == frame["kept"].astype(float)).all()
    kept = pool[pool["trace"].isin(selection.kept)]
    assert name in SEVERAL or kept["task"].is_unique
    assert name in UNJUDGED or set(kept["outcome"]) <= {"VALID"}
    assert count is None or len(kept) <= count
    assert selection.hash() == chosen(name, pool.sample(frac=1, random_state=1), count, seed).hash()


@given(pools(), st.integers(0, 5))
def test_uncurated_keeps_a_plan_for_every_task_that_has_one(pool: pd.DataFrame, seed: int) -> None:
    kept = pool[pool["trace"].isin(chosen("uncurated", pool, None, seed).kept)]
    assert set(kept["task"]) == set(pool.loc[pool["plan_length"].fillna(0) > 0, "task"])


def test_replay_windows() -> None:
    pool = pd.DataFrame(
        [(f"t{g}", f"task{g}", g, "VALID", 2, 0) for g in range(4)], columns=list(POOL_COLUMNS)
    )
    assert curate("shortest", pool, 4, "all", Options()).kept == ["t0", "t1", "t2", "t3"]
    with pytest.raises(InvalidInput, match="unknown curator 'shortst'; did you mean 'shortest'"):
        curate("shortst", pool, 4, "all", Options())
    assert curate("shortest", pool, 4, "last", Options()).kept == ["t3"]
    assert curate("shortest", pool, 4, 2, Options()).kept == ["t2", "t3"]


@given(pools())
def test_feedback_keeps_what_users_accepted_whatever_the_verdict(pool: pd.DataFrame) -> None:
    frame = chosen("feedback", pool).frame.set_index("trace")
    for row in pool.itertuples():
        accepted = row.accepted is True and (row.plan_length or 0) > 0
        assert frame["kept"][row.trace] == accepted
        expected = {None: "no feedback", False: "rejected by its user"}.get(
            row.accepted, "accepted"
        )
        assert frame["reason"][row.trace].startswith(expected)


@given(pools())
def test_accepted_and_valid_keeps_both_and_nothing_else(pool: pd.DataFrame) -> None:
    kept = set(chosen("accepted-and-valid", pool).kept)
    both = (one for one in pool.itertuples() if one.accepted is True and one.outcome == "VALID")
    assert kept == {one.trace for one in both}


@given(pools(), st.sets(st.integers(0, 4)), st.sampled_from(["shortest", "all-valid"]))
def test_what_is_barred_is_as_if_it_were_not_there(
    pool: pd.DataFrame, tasks: set[int], name: str
) -> None:
    why = pool["task"].map({f"task{i}": "measured on" for i in tasks}).astype(object)
    rest = pool[why.isna()]
    if not chosen(name, rest).kept:
        return
    selection = curate(name, pool.assign(barred=why), 4, "all", Options())
    assert selection.kept == chosen(name, rest).kept
    frame = selection.frame.set_index("trace")
    assert sorted(frame.index) == sorted(pool["trace"])
    assert set(frame.loc[pool.loc[why.notna(), "trace"], "reason"]) <= {"measured on"}


def test_what_was_ingested_is_in_every_window() -> None:
    rows = [(f"t{g}", f"task{g}", g, "VALID", 2, 0) for g in (INGESTED, 0, 1)]
    pool = pd.DataFrame(rows, columns=list(POOL_COLUMNS))
    assert curate("shortest", pool, 2, "last", Options()).kept == ["t-1", "t1"]


def test_nothing_to_learn_is_said() -> None:
    pool = pd.DataFrame([("t", "task", 0, "NO_PLAN", None, 0)], columns=list(POOL_COLUMNS))
    with pytest.raises(InvalidInput, match="kept none of 1 traces for generation 1"):
        curate("shortest", pool, 1, "all", Options())


@given(pools())
def test_all_and_first_valid(pool: pd.DataFrame) -> None:
    valid = pool[pool["outcome"] == "VALID"]
    assert set(chosen("all-valid", pool).kept) == set(valid["trace"])
    first = {min((r.generation, r.trace) for r in of.itertuples())[1]
             for _, of in valid.groupby("task")}  # fmt: skip
    assert set(chosen("first-valid", pool).kept) == first


@given(pools())
def test_rollouts_weigh_by_what_siblings_do_not_explain(pool: pd.DataFrame) -> None:
    frame = chosen("rollouts", pool).frame.set_index("trace")
    told = pool[pool["outcome"].notna() & (pool["outcome"] != "TRUNCATED")]
    usable = list(told.itertuples())
    for row in pool.itertuples():
        others = [
            r.outcome == "VALID"
            for r in usable
            if (r.task, r.generation) == (row.task, row.generation) and r.trace != row.trace
        ]
        expected = 0.0
        if row.trace in set(told["trace"]) and others:
            expected = float(row.outcome == "VALID") - sum(others) / len(others)
        assert frame["weight"][row.trace] == pytest.approx(expected)


def big_pool(tasks: int) -> pd.DataFrame:
    rows = [
        (f"t{i:05d}", f"task{i}", 0, "VALID" if i % 2 else "GOAL_NOT_REACHED", 2, 0)
        for i in range(tasks)
    ]
    frame = pd.DataFrame(rows, columns=list(POOL_COLUMNS))
    return frame.assign(text=["(pickup a)" if i % 4 < 2 else "(stack a b)" for i in range(tasks)])


def test_a_noisy_checker_errs_at_its_rate() -> None:
    pool = big_pool(4000)
    kept = set(chosen("noisy", pool).kept)
    believed = pool["trace"].isin(kept)
    wrong = believed != (pool["outcome"] == "VALID")
    assert 0.27 < wrong.mean() < 0.33


def test_a_preference_has_three_times_the_odds() -> None:
    pool = big_pool(8000)
    valid = pool[pool["outcome"] == "VALID"]
    kept = valid["trace"].isin(chosen("preference", pool).kept)
    liked = valid["text"].str.contains("pickup")
    odds = [share / (1 - share) for share in (kept[liked].mean(), kept[~liked].mean())]
    assert 2.4 < odds[0] / odds[1] < 3.7
