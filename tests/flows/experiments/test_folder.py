"""Tasks of a user's folder: through the loop, and what is refused."""

import shutil
from pathlib import Path

import pytest

from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.iterate import iterate
from flows.progress import Watch
from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.domains.folder import canonical_text, read_folder
from planners.domains.task_sets import write_tasks
from planners.errors import InvalidInput, NotJudged, PddlError
from planners.pddl import read_task
from planners.records import Plan
from tests.conftest import small
from warehouse.store import Warehouse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tasks(tmp_path / "mine", "blocksworld", (3, 4), (1, 2), 15, seed=1)
    return tmp_path / "mine"


def experiment(folder: Path) -> Experiment:
    return load_experiment("tiny", [f"tasks.folder={folder}"])


def test_a_folder_runs_through_the_loop(folder: Path, tmp_path: Path) -> None:
    tasks = experiment(folder).tasks.model_dump(include={"folder", "domain", "contents"})
    mine = Experiment.model_validate(small(tasks=tasks, generations=1))
    with Warehouse(tmp_path / "w.duckdb") as store:
        iterate(store, mine, Watch(quiet=True))
        counts = store.frame(
            "SELECT split, sum(tasks) AS n, sum(solved) AS solved FROM coverage "
            "WHERE generation = 0 GROUP BY split ORDER BY split"
        )
        assert counts["split"].tolist() == ["heldout", "train"]
        assert counts["n"].tolist() == [3, 12]
        assert counts["solved"].sum() > 5


def test_splits_copies_and_leaks(folder: Path) -> None:
    plain = read_folder(folder)
    assert [len(plain.splits[s]) for s in ("train", "heldout", "larger")] == [12, 3, 0]
    assert plain.splits["heldout"][0].file == "p05.pddl"
    shutil.copy(folder / "p01.pddl", folder / "p99.pddl")
    assert read_folder(folder).copies == [("p99.pddl", "p01.pddl")]
    assert experiment(folder).hash == load_experiment("tiny", [f"tasks.folder={folder}"]).hash
    (folder / "train").mkdir()
    (folder / "heldout").mkdir()
    (folder / "p01.pddl").rename(folder / "train" / "a.pddl")
    (folder / "p02.pddl").rename(folder / "heldout" / "b.pddl")
    with pytest.raises(InvalidInput, match=r"in train/ and beside its domain.pddl, such as p03"):
        read_folder(folder)
    (folder / "p99.pddl").unlink()
    for path in folder.glob("p*.pddl"):
        path.rename(folder / "heldout" / path.name)
    split = read_folder(folder)
    assert [len(split.splits[s]) for s in ("train", "heldout", "larger")] == [1, 14, 0]
    renamed = (folder / "train" / "a.pddl").read_text().replace("b1", "x1")
    (folder / "heldout" / "c.pddl").write_text(renamed)
    with pytest.raises(InvalidInput, match=r"heldout task heldout/c.pddl is train task train/a.pd"):
        read_folder(folder)


def test_what_a_user_holds_out_stays_held_out(folder: Path) -> None:
    for split, name in (("heldout", "p02"), ("larger", "p03")):
        (folder / split).mkdir()
        (folder / f"{name}.pddl").rename(folder / split / f"{name}.pddl")
    found = read_folder(folder).splits
    assert [len(found[s]) for s in ("train", "heldout", "larger")] == [13, 1, 1]
    shutil.copy(folder / "p04.pddl", folder / "larger" / "p04.pddl")
    with pytest.raises(InvalidInput, match=r"larger task larger/p04.pddl is train task p04.pddl"):
        read_folder(folder)


def test_what_else_stands_beside_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"unknown setting 'tasks.bogus'"):
        load_experiment("tiny", [f"tasks.folder={folder}", "tasks.bogus=1"])


def test_quantified_goals_stay_readable(folder: Path) -> None:
    for path in folder.glob("p*.pddl"):
        path.unlink()
    domain = DOMAINS["blocksworld"].text.replace(":strips", ":strips :adl", 1)
    (folder / "domain.pddl").write_text(domain)
    goal = "(:goal (forall (?b - object) (or (on-table ?b) (exists (?c) (on ?b ?c)))))"
    (folder / "p.pddl").write_text(
        f"(define (problem p) (:domain blocksworld) (:objects b1 b2)\n"
        f"(:init (on-table b1) (on b2 b1) (clear b2) (arm-empty)) {goal})"
    )
    [found] = read_folder(folder).splits["train"]
    again = read_task(domain, canonical_text(found))
    assert again.key == found.task.key
    assert Checker(again).check(Plan(())).valid


def test_another_problem_makes_another_experiment(folder: Path) -> None:
    before = experiment(folder).hash
    text = (folder / "p03.pddl").read_text()
    (folder / "p03.pddl").write_text("; a comment changes nothing\n" + text.upper())
    assert experiment(folder).hash == before
    (folder / "p03.pddl").unlink()
    assert experiment(folder).hash != before


@pytest.mark.parametrize(
    ("file", "text", "error", "says"),
    [
        ("p01.pddl", "(define (problem x)\n(:domain blocksworld)\n", PddlError, "p01.pddl: line"),
        (
            "p01.pddl",
            "(define (problem x) (:domain ferry))",
            PddlError,
            "p01.pddl: line 1: the problem is",
        ),
        ("domain.pddl", "(define (domain d) (:types a - b) (:types c))", PddlError, "domain.pddl"),
        (
            "domain.pddl",
            "(define (domain d)\n(:requirements :durative-actions))",
            NotJudged,
            "domain.pddl: line 2: requires :durative-actions; supported",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_file(
    folder: Path, file: str, text: str, error: type[Exception], says: str
) -> None:
    (folder / file).write_text(text)
    with pytest.raises(error, match=says):
        experiment(folder)


def test_no_folder_no_problems_and_a_huge_problem(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no folder"):
        experiment(tmp_path / "none")
    with (folder / "p01.pddl").open("wb") as file:
        file.truncate(50 * 2**20)
    with pytest.raises(InvalidInput, match=r"p01.pddl has 50 MiB; PDDL files of up to 32 MiB"):
        experiment(folder)
    for path in folder.glob("p*.pddl"):
        path.unlink()
    with pytest.raises(InvalidInput, match="no problems to train on"):
        experiment(folder)
