"""Fresh tasks: each generation is put to work on tasks that no other has, and says which."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flows.audit.verify import verify
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.loop.prepare import prepare
from flows.progress import Watch
from planners.domains.task_sets import fresh_tasks
from planners.errors import InvalidInput
from planners.pddl.isomorphism import shape
from tests.conftest import contents, small
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)


def renewed(generations: int = 3, **tasks: Any) -> Experiment:
    settings = small(generations=generations)
    settings["tasks"] |= {"fresh": True, **tasks}
    return Experiment.model_validate(settings)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "w.duckdb"
    with Warehouse(path) as store:
        iterate(store, renewed(curriculum=True), QUIET)
    return path


def test_each_generation_works_on_tasks_of_its_own(worked: Path) -> None:
    experiment = renewed(curriculum=True)
    with Warehouse(worked, read_only=True) as store:
        shapes = [shape(task.parsed) for task in store.tasks(experiment.id)]
        assert len(set(shapes)) == len(shapes) == 12 + 4 + 3 + 2 * 12
        asked = store.frame(
            "SELECT DISTINCT t.generation, e.split, e.generation AS for_generation "
            "FROM traces AS t JOIN experiment_tasks AS e USING (experiment, task) "
            "WHERE t.purpose = 'deploy' ORDER BY ALL"
        )
        told = [tuple(row) for row in asked.astype(object).where(asked.notna(), None).to_numpy()]
        assert told == [(0, "train", None), (1, "fresh", 1), (2, "fresh", 2)]
        measured = store.frame(
            "SELECT generation, string_agg(DISTINCT split, ' ' ORDER BY split) AS splits "
            "FROM stg_task_results GROUP BY ALL ORDER BY ALL"
        )
        assert measured["splits"].tolist() == ["heldout larger train"] * 4
        learned = store.frame("SELECT DISTINCT from_generation FROM curated WHERE generation = 3")
        assert set(learned["from_generation"]) == {0, 1, 2}
        assert not [wrong for check in verify(store, QUIET) for wrong in check.wrong]


def test_a_run_that_stops_and_goes_on_draws_the_same_tasks(worked: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    for last in (0, 1, 3):
        with Warehouse(path) as store:
            iterate(store, renewed(curriculum=True), QUIET, last=last)
    assert contents(path) == contents(worked)


def test_fresh_tasks_depend_on_no_other_experiment(worked: Path, tmp_path: Path) -> None:
    """A task may be in the warehouse already, with another horizon."""
    experiment = renewed(curriculum=True)
    with Warehouse(worked, read_only=True) as store:
        alone = store.tasks(experiment.id)
    with Warehouse(tmp_path / "w.duckdb") as store:
        store.write([*(replace(task, horizon=9) for task in alone)])
        iterate(store, experiment, QUIET)
        assert store.tasks(experiment.id) == alone
        found = store.frame("SELECT DISTINCT horizon FROM coverage_by_horizon")
        assert 9 not in set(found["horizon"])


def test_verify_misses_what_was_not_asked(worked: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(worked.read_bytes())
    with Warehouse(path) as store, store.writing() as connection:
        connection.exec_driver_sql(
            "DELETE FROM traces WHERE purpose = 'deploy' AND generation = 2 AND sample = 0"
        )
    with Warehouse(path, read_only=True) as store:
        wrong = [one for check in verify(store, QUIET) for one in check.wrong]
    assert "deploy part 0 of generation 2: 24 traces, not 36" in wrong


def test_shares_decide_how_often_a_horizon_is_drawn() -> None:
    stream = fresh_tasks("blocksworld", (5, 7), (2, 4), Random(0), shares=[0.0, 1.0, 3.0])
    drawn = Counter(next(stream).horizon for _ in range(200))
    assert set(drawn) == {3, 4}
    assert 120 < drawn[4] < 180


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ({"fresh": False, "curriculum": True}, "curriculum chooses among fresh tasks"),
        ({"folder": "somewhere", "domain": None}, "a folder has none"),
    ],
)
def test_settings_that_do_not_go_together(tasks: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        renewed(**tasks)


def test_too_few_tasks_are_told_before_anything_is_sampled(tmp_path: Path) -> None:
    """Three blocks and one move give a handful of different tasks."""
    grades = {"sizes": [3, 3], "horizons": [1, 1]}
    few = renewed(8, train={"count": 3, **grades}, heldout={"count": 1, **grades}, larger=None)
    with Warehouse(tmp_path / "w.duckdb") as store:
        with pytest.raises(InvalidInput, match="no new blocksworld task"):
            prepare(store, few, QUIET)
        assert not store.tasks(few.id)
