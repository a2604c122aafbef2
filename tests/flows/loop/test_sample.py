"""A stage that is stopped within a part keeps the batches that were finished."""

from pathlib import Path
from typing import Any

import pytest

from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.loop import sample
from flows.loop.prepare import prepare
from flows.progress import Watch
from planners.errors import ComponentFailure
from planners.policies.local import LocalPolicy
from planners.records import Completion, Sampling
from tests.conftest import contents, small
from warehouse.landing import land, landing
from warehouse.records import Trace
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
EXPERIMENT = Experiment.model_validate(small(generations=1, model={"threads": 1, "batch": 8}))


class Decoded:
    """Counts the rows that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows, decode = 0, LocalPolicy._decode

        def counting(policy: LocalPolicy, rows: Any, *rest: Any) -> list[Completion]:
            self.rows += len(rows)
            return decode(policy, rows, *rest)

        monkeypatch.setattr(LocalPolicy, "_decode", counting)


def test_finished_batches_are_kept_and_the_contents_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SECONDS", -1.0)  # a transaction for every batch
    decoded, write, written = Decoded(monkeypatch), Warehouse.write, 0
    with Warehouse(tmp_path / "whole.duckdb") as store:
        iterate(store, EXPERIMENT, QUIET)
    every, decoded.rows = decoded.rows, 0

    def failing(store: Warehouse, what: Any, mark: Any = None) -> None:
        nonlocal written
        write(store, what, mark)
        written += mark is None
        if written == 3:
            raise ComponentFailure("power failure")

    with Warehouse(tmp_path / "w.duckdb") as store:
        with monkeypatch.context() as broken:
            broken.setattr(Warehouse, "write", failing)
            with pytest.raises(ComponentFailure, match="power failure"):
                iterate(store, EXPERIMENT, QUIET)
        kept = len(store.frame("FROM traces"))
        assert 3 * 7 <= kept <= 3 * 8  # three batches of at most eight rows
        assert store.frame("FROM coverage").empty
        lost = decoded.rows - kept
        assert lost <= 2 * 8  # the batch in progress, and the one in the queue
        iterate(store, EXPERIMENT, QUIET)
    assert decoded.rows == every + lost
    assert contents(tmp_path / "w.duckdb") == contents(tmp_path / "whole.duckdb")


def test_what_workers_had_landed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    with Warehouse(tmp_path / "whole.duckdb") as store:
        iterate(store, EXPERIMENT, QUIET)
        stage = store.frame("FROM traces WHERE generation = 0 AND purpose = 'evaluate'")
        traces = [one for one in store.traces(EXPERIMENT.id) if one.id in set(stage["trace"])]
    every, decoded.rows = decoded.rows, 0
    with Warehouse(tmp_path / "w.duckdb") as store:
        prepare(store, EXPERIMENT, QUIET)
        with landing(store, f"{EXPERIMENT.id}-0-evaluate") as folder:
            landed = [land(folder, Trace, traces[:16]), land(folder, Trace, traces[16:])]
            kept = [file.read_bytes() for file in landed]
        folder.mkdir(parents=True)  # as a killed process leaves it
        landed[0].write_bytes(kept[0])
        landed[1].write_bytes(kept[1][:-100])  # damaged: its rows are made again
        iterate(store, EXPERIMENT, QUIET)
        assert not folder.exists()
    assert every - 16 <= decoded.rows <= every
    assert contents(tmp_path / "w.duckdb") == contents(tmp_path / "whole.duckdb")


@pytest.mark.parametrize(("parameters", "rows"), [(1_000_000, 256), (135_000_000, 37), (10**11, 1)])
def test_a_batch_takes_a_slow_model_less_than_a_minute(
    parameters: int, rows: int, tiny_checkpoint: Path
) -> None:
    from planners.models.checkpoint import load

    policy = LocalPolicy(*load(tiny_checkpoint))
    policy.parameters = parameters
    assert policy._at_once([[1] * 100, [1] * 72], Sampling(max_new_tokens=100)) == rows
