"""Decisions are kept as intervals of generations: whatever is written is read back, row by row."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.curators import CURATORS, SELECTED, Options, curate
from planners.errors import InvalidInput
from warehouse import schema
from warehouse.choice.decide import standing
from warehouse.choice.rules import RULES
from warehouse.integrity import written_otherwise
from warehouse.pool import pooled
from warehouse.records import Experiment, Mark
from warehouse.store import Warehouse

SCHEMA_9 = (Path(__file__).parent / "schemas" / "9.sql").read_text("utf-8")
READ = "SELECT * FROM stg_decisions WHERE experiment = :of ORDER BY generation, trace"
NUMBERS = count()
one_decision = st.tuples(
    st.booleans(), st.sampled_from([1.0, 2.0]), st.sampled_from(["r", "other"]),
    st.sampled_from([None, 3]), st.sampled_from([None, True, False]),
)  # fmt: skip
pools = st.dictionaries(st.sampled_from("abcd"), one_decision, max_size=4)
histories = st.dictionaries(st.integers(1, 9), pools, max_size=5)
"""What was decided of the traces of each generation's pool; some generations may be missing."""


def rows_of(history: dict[int, dict[str, tuple[Any, ...]]], of: str = "e") -> list[dict[str, Any]]:
    """An experiment's decisions as `stg_decisions` shows them."""
    return [
        {
            "experiment": of, "generation": generation, "trace": trace, "kept": kept,
            "weight": weight, "reason": reason, "task": "k", "from_generation": 0,
            "plan_length": length, "reasoning_tokens": 0, "accepted": accepted,
        }
        for generation, pool in sorted(history.items())
        for trace, (kept, weight, reason, length, accepted) in sorted(pool.items())
    ]  # fmt: skip


def read(store: Warehouse, of: str = "e") -> list[dict[str, Any]]:
    return plain(store.frame(READ, of=of))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A warehouse for all examples, each an experiment of its own: making one takes a while."""
    with Warehouse(tmp_path_factory.mktemp("choice") / "w.duckdb") as store:
        yield store


@settings(max_examples=60, deadline=None)
@given(history=histories)
def test_decisions_are_read_as_they_were_written(
    shared: Warehouse, history: dict[int, Any]
) -> None:
    of = f"e{next(NUMBERS)}"
    for generation in sorted(history):
        decided = pd.DataFrame(rows_of({generation: history[generation]}, of), columns=SELECTED)
        shared.decide(decided, Mark(of, generation, "curate"))
    assert read(shared, of) == rows_of(history, of)
    assert written_otherwise(shared)[1] == []
    told = shared.frame("FROM selections WHERE experiment = :of", of=of)
    changes, before = 0, dict[str, Any]()
    for _, pool in sorted(history.items()):
        changes += sum(before.get(trace) != decision for trace, decision in pool.items())
        before = pool
    assert len(told) == changes, "a decision that stands is written once"


@settings(max_examples=6, deadline=None)
@given(st.lists(histories, min_size=1, max_size=8))
def test_a_migration_keeps_every_decision(several: list[dict[int, Any]]) -> None:
    """Of several experiments in one file: migrating it takes most of the time."""
    named = {f"e{number}": history for number, history in enumerate(several)}
    rows = [row for name, history in named.items() for row in rows_of(history, name)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.duckdb"
        with duckdb.connect(path) as connection:
            connection.execute(SCHEMA_9)
            connection.execute("DELETE FROM selections")
            for row in rows:
                connection.execute(
                    "INSERT INTO selections VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [*row.values()],
                )
            for name, history in named.items():
                for generation in history:
                    connection.execute(
                        "INSERT INTO marks VALUES (?, ?, 'curate', 0)", [name, generation]
                    )
        with Warehouse(path) as store:
            before = len(store.frame("FROM selections"))
            for name, history in named.items():
                assert read(store, name) == rows_of(history, name)
                # The last generation's decisions stand, so that the next are told apart from them.
                last = rows_of({9: history[max(history)]}, name) if history else []
                store.decide(pd.DataFrame(last, columns=SELECTED), Mark(name, 10, "curate"))
            assert len(store.frame("FROM selections")) == before
            assert any("selections" in line for line in written_otherwise(store)[1]) == bool(rows)


def test_experiments_that_differ_by_name_alone_are_counted_once(shared: Warehouse) -> None:
    history = {1: {trace: (trace != "c", 1.0, "r", 3, None) for trace in "abc"}}
    names = [f"twin{next(NUMBERS)}" for _ in range(2)]
    for name in names:
        shared.write([Experiment(name, "one hash", name, 0, "{}", "v")])
        decided = pd.DataFrame(rows_of(history, name), columns=SELECTED)
        shared.decide(decided, Mark(name, 1, "curate"))
    assert shared.query("kept_count", hash="one hash", generation=1)["traces"].tolist() == [2]
    assert shared.query("kept_count", hash="no hash", generation=1)["traces"].tolist() == [0]


judged = st.sampled_from(["VALID", "VALID", "PRECONDITION_FAILED", "TRUNCATED", "NO_PLAN", None])
written = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), judged, st.integers(1, 4), st.integers(0, 2)),
    min_size=1, max_size=24,
)  # fmt: skip
"""Traces: generation, task, outcome, plan length, reasoning tokens."""


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=15, deadline=None)
@given(made=written, judged_again=st.sets(st.integers(0, 23)), window=st.sampled_from([1, 2, 9]))
def test_the_warehouse_chooses_as_the_curator_does(
    shared: Warehouse, name: str, made: list[Any], judged_again: set[int], window: int
) -> None:
    store, experiment = shared, f"e{next(NUMBERS)}"
    every = [trace_and_verdict(experiment, i, *one) for i, one in enumerate(made)]
    store.record({schema.traces: [trace for trace, _ in every]})
    store.record({schema.judgements: [verdict for _, verdict in every if verdict]})
    for trained in (1, 2, 3):
        generations = list(range(trained))[-window:]
        pool = pooled(store, experiment, generations)
        mark = Mark(experiment, trained, "curate")
        kept = CURATORS[name].choose(pool, Options()).kept
        if not kept:
            before = len(store.frame("FROM selections"))
            with pytest.raises(InvalidInput, match=f"kept none of {len(pool)} traces"):
                store.decide_by(name, generations, mark)
            assert len(store.frame("FROM selections")) == before
            continue
        store.decide_by(name, generations, mark)
        expected = curate(name, pool, trained, "all", Options()).frame
        found = store.frame(
            "FROM stg_decisions WHERE experiment = :of AND generation = :trained ORDER BY trace",
            of=experiment, trained=trained,
        )  # fmt: skip
        assert plain(found[list(SELECTED)]) == plain(expected.sort_values("trace")[list(SELECTED)])
        if trained == 1:  # another version of the checker says otherwise
            changed = [
                {**verdict, "checker_version": "2", "outcome": "VALID", "plan_length": 1}
                for i, (_, verdict) in enumerate(every)
                if verdict and i in judged_again
            ]
            store.record({schema.judgements: changed})
    assert written_otherwise(store)[1] == [], "the ledger knows what the warehouse chose"


def test_what_cannot_have_changed_is_not_decided_again(tmp_path: Path) -> None:
    made = [(g, task, "VALID", 3 + g, 0) for g in (0, 1, 2) for task in (0, 1)]
    every = [trace_and_verdict("e", i, *one) for i, one in enumerate(made)]
    unjudged, _ = trace_and_verdict("e", 9, 0, 0, None, 1, 0)

    def known(generations: list[int]) -> set[int]:
        with store.writing() as connection:
            return standing(connection, "e", RULES["shortest"], generations)

    with Warehouse(tmp_path / "w.duckdb") as store:
        store.record({schema.traces: [trace for trace, _ in every]})
        store.record({schema.judgements: [verdict for _, verdict in every if verdict]})
        assert known([0, 1]) == set(), "nothing was decided yet"
        store.decide_by("shortest", [0, 1], Mark("e", 2, "curate"))
        assert known([0, 1, 2]) == {0, 1}
        assert known([1, 2]) == set(), "a generation left the pool"
        store.record({schema.traces: [unjudged]})
        assert known([0, 1, 2]) == set(), "a trace came late"
        store.decide_by("shortest", [0, 1, 2], Mark("e", 3, "curate"))
        assert known([0, 1, 2, 3]) == {0, 1, 2}
        again = [{**verdict, "checker_version": "2", "plan_length": 9} for _, verdict in every[:1]
                 if verdict]  # fmt: skip
        store.record({schema.judgements: again})
        assert known([0, 1, 2, 3]) == set(), "a verdict is another"


def test_curators_with_chance_or_users_are_left_to_pandas() -> None:
    assert {name for name in CURATORS if name not in RULES} == {
        "uncurated", "feedback", "accepted-and-valid", "noisy", "preference",
    }  # fmt: skip


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def trace_and_verdict(
    experiment: str, number: int, generation: int, task: int, outcome: str | None, length: int,
    reasoning: int,
) -> tuple[dict[str, Any], dict[str, Any] | None]:  # fmt: skip
    """Rows of a deployed trace and of the verdict on it, if there is one."""
    place = {
        "trace": f"{experiment}-{number:02d}", "experiment": experiment, "generation": generation,
        "purpose": "deploy", "task": f"k{task}",
    }  # fmt: skip
    trace = {
        **place, "sample": number, "seed": number, "prompt_format": "compact", "prompt_hash": "h",
        "text": "(pickup b1)", "token_ids": [1], "reasoning_tokens": reasoning, "plan_tokens": 1,
        "finish_reason": "stop", "logprob": -1.0, "sampling_logprob": -1.0, "policy": "p",
        "code_version": "1", "written_at": None,
    }  # fmt: skip
    planned = length if outcome not in (None, "NO_PLAN") else None
    verdict = {
        **place, "checker": "posterity", "checker_version": "1", "extraction_version": "1",
        "outcome": outcome, "step": None, "detail": "", "plan_length": planned, "cost": None,
        "superseded": False, "redundant": None, "plan": None,
    }  # fmt: skip
    return trace, verdict if outcome else None
