"""Export: what others read back is what the warehouse holds."""

from pathlib import Path

import datasets
import pandas as pd
import pytest
from huggingface_hub import DatasetCard

from planners.errors import InvalidInput
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS
from tests.flows.commands.test_cli import posterity
from warehouse.export import export
from warehouse.records import Experiment
from warehouse.store import Warehouse


def test_others_read_what_was_exported(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "out"
    done = posterity("export", str(folder), "--warehouse", str(finished), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    parts = {
        name: datasets.load_dataset(str(folder), name, cache_dir=str(tmp_path / "cache"))["train"]
        for name in ("training", "traces", "tasks")
    }
    with Warehouse(finished, read_only=True) as store:
        kept = store.frame("SELECT trace FROM stg_decisions WHERE kept ORDER BY trace")["trace"]
        texts = store.frame("SELECT trace, text FROM traces").set_index("trace")["text"]
        outcomes = store.frame("SELECT outcome FROM judgements")["outcome"]
    assert sorted(parts["training"]["trace"]) == kept.tolist() != []
    assert dict(zip(parts["traces"]["trace"], parts["traces"]["text"], strict=True)) == dict(texts)
    assert sorted(parts["traces"]["outcome"]) == sorted(outcomes)
    problems = {row["task"]: row for row in parts["tasks"]}
    for row in parts["training"]:
        task = problems[row["task"]]
        assert row["prompt"] == PROMPTS["compact"].write(
            read_task(task["domain_pddl"], task["pddl"])
        )
        assert row["completion"] == texts[row["trace"]]
    assert len(pd.read_parquet(folder / "traces")) == len(texts)


def test_nothing_is_written_over(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with (
        Warehouse(finished, read_only=True) as store,
        pytest.raises(InvalidInput, match="not empty"),
    ):
        export(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_an_empty_warehouse_exports_empty_parts(warehouse: Warehouse, tmp_path: Path) -> None:
    assert export(warehouse, tmp_path / "out") == {"training": 0, "traces": 0, "tasks": 0}
    assert list(pd.read_parquet(tmp_path / "out" / "training")["prompt"]) == []


def test_the_card_says_what_a_hub_and_a_reader_need(finished: Path, tmp_path: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        export(store, tmp_path / "out", license="cc-by-4.0")
        [experiment] = store.every(Experiment)
        valid = store.frame("SELECT count(*) AS n FROM stg_verdicts WHERE outcome = 'VALID'")["n"]
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.size_categories) == ("cc-by-4.0", ["n<1K"])
    assert card.data.tags == ["planning", "pddl", "posterity"]
    rows = [line for line in card.text.splitlines() if line.startswith(f"| `{experiment.id}`")]
    assert sum(int(row.split("|")[4]) for row in rows) == int(valid[0])
    assert "Domains: blocksworld." in card.text
    assert "answers to users" not in card.text
