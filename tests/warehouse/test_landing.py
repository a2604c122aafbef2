"""Landing: many producers, one loader; every row once, whatever is killed when."""

import os
import time
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest

from planners.errors import InvalidInput
from planners.pddl.printing import print_problem
from tests.conftest import blocks_task
from tests.forked import FORKS
from tests.warehouse.test_store import TASK
from warehouse import schema
from warehouse.findings import ApiKey
from warehouse.integrity import written_otherwise
from warehouse.landing import land, load_landed
from warehouse.load import amend
from warehouse.records import Decision, Domain, Landed, Promotion, Task
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement


def tasks(first: int, count: int) -> list[Task]:
    return [replace(TASK, key=f"k{i:05d}") for i in range(first, first + count)]


def test_what_lands_is_loaded_once(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = tmp_path / "landing"
    first, again = (land(folder, Task, tasks(0, 3)) for _ in range(2))
    other = land(folder, Task, tasks(2, 3))
    (folder / ".half.partial").write_bytes(b"PAR1")
    assert first == again
    assert load_landed(warehouse, folder) == {first.name: 3, other.name: 3}
    assert load_landed(warehouse, folder) == {}
    assert warehouse.count(schema.tasks) == 5


def test_what_is_not_what_it_says_is_named(warehouse: Warehouse, tmp_path: Path) -> None:
    path = land(tmp_path, Task, tasks(0, 3))
    elsewhere = path.rename(tmp_path / path.name.replace("tasks", "chess"))
    with pytest.raises(InvalidInput, match="'chess' is not a table"):
        load_landed(warehouse, tmp_path)
    traces = elsewhere.rename(tmp_path / path.name.replace("tasks", "traces"))
    with pytest.raises(InvalidInput, match="its columns are not those of traces here"):
        load_landed(warehouse, tmp_path)
    traces.rename(path).write_bytes(b"other")
    with pytest.raises(InvalidInput, match="do not have the hash"):
        load_landed(warehouse, tmp_path)
    digest = blake2b(b"other", digest_size=16).hexdigest()
    path.rename(tmp_path / f"tasks.{digest}.parquet")
    with pytest.raises(InvalidInput, match="is no Parquet file"):
        load_landed(warehouse, tmp_path)
    assert warehouse.count(schema.tasks) == warehouse.count(schema.landed) == 0


def test_no_worker_makes_a_key_or_a_decision(warehouse: Warehouse, tmp_path: Path) -> None:
    key = ApiKey("0" * 64, "mallory", True, datetime(2026, 1, 1))
    decision = Promotion(
        experiment="e-1", generation=1, promoted=True, decided_by="person", reason=""
    )
    chosen = Decision("e-1", 1, None, "t", True, 1.0, "", "k", 0, None, 0, None)
    for one in (key, decision, chosen, Landed("x.parquet", 1)):
        path = land(tmp_path, type(one), [one])
        with pytest.raises(InvalidInput, match="is not a table of the warehouse to land in"):
            load_landed(warehouse, tmp_path)
        path.unlink()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("together", [True, False])
def test_the_newest_version_stands_in_whatever_order_verdicts_come(
    warehouse: Warehouse, tmp_path: Path, order: list[int], together: bool
) -> None:
    trace = Judgement(
        trace="t", checker="posterity", checker_version="", extraction_version="6",
        outcome="VALID", step=None, detail="", plan_length=2, cost=2.0, superseded=None,
        experiment="e", generation=0, purpose="deploy", task="k", redundant=0, plan="(a)",
    )  # fmt: skip
    versions = [[replace(trace, checker_version=version)] for version in ("9+6", "10+6")]
    found = [versions[index] for index in order]
    for number, batch in enumerate([[*found[0], *found[1]]] if together else found):
        land(tmp_path / str(number), Judgement, batch)
        load_landed(warehouse, tmp_path / str(number))
    stands = warehouse.frame("SELECT checker_version FROM judgements WHERE superseded IS NOT TRUE")
    assert stands["checker_version"].tolist() == ["10+6"]
    assert warehouse.count(schema.judgements) == 2
    assert written_otherwise(warehouse)[1] == []


def load(path: Path, folder: Path, opened: Connection) -> None:
    with Warehouse(path) as store:
        opened.send("open")
        load_landed(store, folder)


@pytest.mark.slow  # `make chaos` kills loaders too
def test_killed_loaders_lose_and_double_nothing(tmp_path: Path) -> None:
    """POSTERITY_KILLS says how many."""
    folder, rng = tmp_path / "landing", Random(os.environ.get("KILL_SEED", "0"))
    for first in range(0, 4000, 100):
        land(folder, Task, tasks(first, 150))
    killed = runs = 0
    while killed < int(os.environ.get("POSTERITY_KILLS", "4")):
        runs, loaded = runs + 1, set[str]()
        path = tmp_path / f"w{runs}.duckdb"
        while len(loaded) < 40:
            ours, its = FORKS.Pipe(duplex=False)
            loader = FORKS.Process(target=load, args=(path, folder, its))
            loader.start()
            its.close()
            assert ours.recv() == "open"
            time.sleep(rng.uniform(0, 0.3))
            loader.kill()
            loader.join()
            ours.close()
            killed += 1
            with Warehouse(path) as store:
                now = set(store.frame("SELECT file FROM landed")["file"])
            assert loaded <= now
            loaded = now
        with Warehouse(path) as store:
            assert store.count(schema.tasks) == 4050
            assert store.count(schema.landed) == 40


def test_a_task_that_was_erased_comes_back_with_another_users_trace(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    task = blocks_task(3, 1, 0)
    domain = Domain.of(task.domain.name, task.domain.text)
    text = print_problem(task.problem) + "; what a \0 user wrote: 'x' \"y\" :key %s\n"
    own = Task.of(domain, task.key, 3, 1, text)
    warehouse.write([domain, own])
    with warehouse.writing() as connection:
        for table in (schema.domains, schema.tasks):
            amend(connection, table, table.c.pddl != "", pddl="")
    for kind, one in ((Domain, domain), (Task, own)):
        land(tmp_path, kind, [one])
    load_landed(warehouse, tmp_path)
    assert warehouse.task(task.key) == own
    assert not written_otherwise(warehouse)[1]
