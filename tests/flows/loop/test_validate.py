"""A generation that asks the plan checker while it plans, through the whole loop."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from flows.audit.verify import verify
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.loop import sample
from flows.progress import Watch
from planners.errors import ComponentFailure
from tests.conftest import small
from warehouse import schema
from warehouse.export import export
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
DRAWN = {"samples": 3, "max_new_tokens": 48, "max_tool_calls": 2}
EXPERIMENT = Experiment.model_validate(
    small(
        generations=1, deploy=DRAWN, evaluate=DRAWN,
        model={"threads": 1, "batch": 8},
        warmup={
            "sizes": [3, 5], "shares": [0.0, 0.0, 1.0], "steps": 40, "batch": 16, "calls": 1.0,
            "learning_rate": 2e-3,
        },
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "w.duckdb"
    with Warehouse(path) as store:
        iterate(store, EXPERIMENT, QUIET)
    return path


def test_turns_are_kept_counted_and_verified(asked: Path) -> None:
    with Warehouse(asked, read_only=True) as store:
        calls = store.frame("FROM tool_calls ORDER BY generation, purpose")
        assert calls["purpose"].tolist() == ["deploy", "evaluate", "evaluate"]
        assert (calls["calls"] >= calls["valid_calls"] + calls["refused"]).all()
        assert calls["calls"].min() > 0
        [told] = store.frame(
            "SELECT count(*) AS traces, count(*) FILTER (WHERE told = text) AS whole, "
            "count(*) FILTER (WHERE last = 'model') AS ended FROM ("
            "SELECT trace, string_agg(text, '' ORDER BY turn) AS told, "
            "arg_max(role, turn) AS last, sum(tokens) AS tokens FROM turns GROUP BY ALL"
            ") JOIN (SELECT trace, text FROM traces) USING (trace)"
        ).itertuples(index=False)
        assert told.traces == told.whole == told.ended == calls["traces"].sum()
        assert not [one for check in verify(store, QUIET, 4) for one in check.wrong]


def test_the_same_seed_gives_the_same_conversations_also_after_a_failure(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SECONDS", -1.0)  # a transaction for every batch
    write, alone = Warehouse.write, EXPERIMENT.model_copy(update={"generations": 0})

    def failing(store: Warehouse, what: Any, mark: Any = None) -> None:
        write(store, what, mark)
        if mark is None and what:
            raise ComponentFailure("the disk is full")

    with Warehouse(tmp_path / "again.duckdb") as store:
        with monkeypatch.context() as patch:
            patch.setattr(Warehouse, "write", failing)
            with pytest.raises(ComponentFailure):
                iterate(store, alone, QUIET)
        assert 0 < store.count(schema.traces) < 19 * 3
        iterate(store, alone, QUIET)
        own = store.frame("SELECT trace, text, logprob FROM traces ORDER BY trace")
    with Warehouse(asked, read_only=True) as store:
        first = store.frame(
            "SELECT trace, text, logprob FROM traces "
            "WHERE generation = 0 AND purpose = 'evaluate' ORDER BY trace"
        )
    assert own.equals(first)


def test_an_export_says_which_turns_are_not_to_be_learned(asked: Path, tmp_path: Path) -> None:
    with Warehouse(asked, read_only=True) as store:
        export(store, tmp_path / "out")
        taught = store.frame(
            "SELECT trace FROM stg_decisions WHERE kept AND trace IN (SELECT trace FROM turns)"
        )
    rows = pq.read_table(tmp_path / "out" / "training").to_pylist()
    several = [row for row in rows if row["turn_characters"]]
    assert {row["trace"] for row in several} == set(taught["trace"]) != set()
    assert all(sum(row["turn_characters"]) == len(row["completion"]) for row in several)
    assert pq.read_schema(tmp_path / "out" / "traces" / "data.parquet").names.count(
        "turn_characters"
    )


def test_an_answer_that_the_tool_would_not_give_is_found(asked: Path, tmp_path: Path) -> None:
    forged = tmp_path / "w.duckdb"
    forged.write_bytes(asked.read_bytes())
    with duckdb.connect(str(forged)) as connection:
        connection.execute("UPDATE traces SET text = replace(text, 'invalid', '  valid')")
    with Warehouse(forged) as store:
        wrong = [one for check in verify(store, QUIET, 0) for one in check.wrong]
    assert any("the tool validate would answer otherwise" in one for one in wrong)


def test_a_policy_without_weights_calls_no_tool() -> None:
    with pytest.raises(ValueError, match="calls no tool"):
        Experiment.model_validate(
            small(generations=0, deploy=DRAWN, model={"policy": "scripted", "base": "x.jsonl"})
        )
