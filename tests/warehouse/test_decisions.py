"""Decisions are kept as intervals of generations: whatever is written is read back, row by row."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.curators import SELECTED
from warehouse.integrity import written_otherwise
from warehouse.records import Mark
from warehouse.store import Warehouse

SCHEMA_9 = (Path(__file__).parent / "schemas" / "9.sql").read_text("utf-8")
READ = "SELECT * FROM stg_decisions ORDER BY experiment, generation, trace"
one_decision = st.tuples(
    st.booleans(), st.sampled_from([1.0, 2.0]), st.sampled_from(["r", "other"]),
    st.sampled_from([None, 3]), st.sampled_from([None, True, False]),
)  # fmt: skip
pools = st.dictionaries(st.sampled_from("abcd"), one_decision, max_size=4)
histories = st.dictionaries(st.integers(1, 9), pools, max_size=5)
"""What was decided of the traces of each generation's pool; some generations may be missing."""


def rows_of(history: dict[int, dict[str, tuple[Any, ...]]]) -> list[dict[str, Any]]:
    """Decisions as `stg_decisions` shows them."""
    return [
        {
            "experiment": "e", "generation": generation, "trace": trace, "kept": kept,
            "weight": weight, "reason": reason, "task": "k", "from_generation": 0,
            "plan_length": length, "reasoning_tokens": 0, "accepted": accepted,
        }
        for generation, pool in sorted(history.items())
        for trace, (kept, weight, reason, length, accepted) in sorted(pool.items())
    ]  # fmt: skip


def read(store: Warehouse) -> list[dict[str, Any]]:
    frame = store.frame(READ)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


@settings(max_examples=60, deadline=None)
@given(histories)
def test_decisions_are_read_as_they_were_written(history: dict[int, Any]) -> None:
    with TemporaryDirectory() as folder, Warehouse(Path(folder) / "w.duckdb") as store:
        for generation in sorted(history):
            decided = pd.DataFrame(rows_of({generation: history[generation]}), columns=SELECTED)
            store.decide(decided, Mark("e", generation, "curate"))
        assert read(store) == rows_of(history)
        assert written_otherwise(store)[1] == []
        told = store.frame("FROM selections")
    changes, before = 0, dict[str, Any]()
    for _, pool in sorted(history.items()):
        changes += sum(before.get(trace) != decision for trace, decision in pool.items())
        before = pool
    assert len(told) == changes, "a decision that stands is written once"


@settings(max_examples=30, deadline=None)
@given(histories)
def test_a_migration_keeps_every_decision(history: dict[int, Any]) -> None:
    rows = rows_of(history)
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
            for generation in history:
                connection.execute("INSERT INTO marks VALUES ('e', ?, 'curate', 0)", [generation])
        with Warehouse(path) as store:
            assert read(store) == rows
            # The last generation's decisions stand, so that the next are told apart from them.
            again = pd.DataFrame(rows_of({9: history[max(history)]}) if history else [],
                                 columns=SELECTED)  # fmt: skip
            before = len(store.frame("FROM selections"))
            store.decide(again, Mark("e", 10, "curate"))
            assert len(store.frame("FROM selections")) == before
            assert any("selections" in line for line in written_otherwise(store)[1]) == bool(rows)
