"""The command line as a user meets it: separate processes, exit codes, one clear message."""

import json
import os
import shlex
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from flows.experiments.reading import PRESETS
from planners.domains import DOMAINS
from tests.forked import ran
from tests.processes import posterity as command
from warehouse.store import Warehouse

PROBLEM = """(define (problem p) (:domain blocksworld) (:objects a b)
(:init (arm-empty) (clear a) (clear b) (on-table a) (on-table b)) (:goal (on a b)))"""
SMALL = [
    "--set",
    "generations=1",
    "--set",
    "tasks.train.count=10",
    "--set",
    "tasks.heldout.count=6",
    "--set",
    "tasks.larger.count=4",
    "--set",
    "training.steps=2",
    "--set",
    "model.threads=1",
]


def posterity(
    *arguments: str, folder: Path, stdin: str = "", largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; files can be refused to grow beyond so many bytes, as on a full disk."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"}
    return ran(
        *arguments, environment=environment, folder=folder, stdin=stdin, largest_file=largest_file
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "domain.pddl").write_text(DOMAINS["blocksworld"].text)
    (tmp_path / "problem.pddl").write_text(PROBLEM)
    (tmp_path / "good.plan").write_text("(pickup a)\n(STACK a b) ; done\n")
    (tmp_path / "bad.plan").write_text("(pickup a)\n(stack b a)\n")
    return tmp_path


def test_check_valid_invalid_and_standard_input(files: Path) -> None:
    done = posterity("check", "domain.pddl", "problem.pddl", "good.plan", folder=files)
    assert (done.returncode, done.stdout) == (0, "good.plan: VALID (cost 2)\n")
    done = posterity(
        "check",
        "domain.pddl",
        "problem.pddl",
        "good.plan",
        "bad.plan",
        "-",
        "--json",
        folder=files,
        stdin="no plan at all",
    )
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["file"], r["outcome"], r["step"]) for r in rows] == [
        ("good.plan", "VALID", None),
        ("bad.plan", "PRECONDITION_FAILED", 1),
        ("-", "NO_PLAN", None),
    ]
    assert rows[0]["cost"] == 2.0
    assert rows[1]["detail"] == "(clear a) (holding b)"


def test_check_beside_a_reference_plan(files: Path) -> None:
    (files / "detour.plan").write_text("(pickup a) (putdown a) (pickup a) (stack a b)")
    names = ["good.plan", "detour.plan", "bad.plan"]
    done = posterity(
        "check", "domain.pddl", "problem.pddl", *names, "--json", "--reference", "20", folder=files
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["redundant"], r["reference_cost"]) for r in rows] == [(0, 2), (2, 2), (None, 2)]
    (files / "none.pddl").write_text(PROBLEM.replace("(on a b)", "(on a a)"))
    done = posterity(
        "check", "domain.pddl", "none.pddl", "good.plan", "--reference", "20", folder=files
    )
    assert (done.returncode, done.stdout) == (1, "good.plan: GOAL_NOT_REACHED: (on a a)\n")


def test_check_odd_plans_spoil_nothing_but_themselves(files: Path) -> None:
    (files / "bytes.plan").write_bytes(b"\xff\xfe(pickup a)")
    (files / "latin.plan").write_bytes(b"; caf\xe9\n(pickup a)\r\n(stack a b)\r\n")
    (files / "alike.plan").write_text("(p\u0456ckup a)", "utf-8")
    (files / "empty.plan").write_text("")
    for name in ("domain.pddl", "problem.pddl", "good.plan"):  # as some editors save them
        (files / name).write_bytes(b"\xef\xbb\xbf" + (files / name).read_bytes())
    assert (
        posterity("check", "domain.pddl", "problem.pddl", "good.plan", folder=files).returncode == 0
    )
    (files / "wide.plan").write_text((files / "good.plan").read_text("utf-8-sig"), "utf-16")
    wide = posterity("check", "domain.pddl", "problem.pddl", "wide.plan", folder=files)
    assert wide.returncode == 0, "as PowerShell writes it"
    names = ["bytes.plan", "latin.plan", "alike.plan", "empty.plan"]
    done = posterity("check", "domain.pddl", "problem.pddl", *names, "--json", folder=files)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["outcome"] for row in rows] == [
        "NO_PLAN",
        "VALID",
        "UNKNOWN_ACTION",
        "GOAL_NOT_REACHED",
    ]
    assert "outside ASCII" in rows[2]["detail"]
    (files / "done.pddl").write_text(PROBLEM.replace("(:goal (on a b))", "(:goal (clear a))"))
    assert (
        posterity("check", "domain.pddl", "done.pddl", "empty.plan", folder=files).returncode == 0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "domain.pddl", "none.pddl", "good.plan"], "none.pddl cannot be read"),
        (
            ["check", "domain.pddl", "domain.pddl", "good.plan"],
            "expected a problem, found a domain",
        ),
        (["check", "domain.pddl", "problem.pddl", "none.plan"], "none.plan cannot be read"),
        (["check", "domain.pddl", "problem.pddl", "-", "-"], "can be read once"),
        (["tasks", "ferry", "--out", "good.plan/tasks"], "no folder can be made"),
        (["tasks", "ferry", "--size", "1000000"], "tasks up to 1000 are drawn"),
        (["tasks", "ferry", "--count", "9" * 20], "'--count'"),
        (["run", "tiny", "--set", f"generations={10**20}"], "generations"),
        (["run", "none.toml"], "none.toml cannot be read: No such file or directory; name another"),
        (["run", "quikstart"], "did you mean 'quickstart'?"),
        (["run", "--set", "training.stepz=1"], "did you mean 'training.steps'?"),
        (["run", "--warehouse", "good.plan/w.duckdb"], "there is no folder good.plan"),
        (["run", "--warehouse", "gone/w.duckdb"], "there is no folder gone"),
        (["run", "--warehouse", "good.plan"], "is not a DuckDB file"),
        (["run", "tiny", "--plain", "--set", "model.base=nowhere"], "nowhere is not a checkpoint"),
        (["status"], "there is no warehouse at posterity.duckdb"),
        (["query", "SELECT 1"], "there is no warehouse at posterity.duckdb"),
        (["pretrain", "--out", "."], "is not empty"),
        (["pretrain", "--domains", "ferry,tetris"], "unknown domain 'tetris'"),
        (
            ["run", "tiny", "--plain", "--set", "tasks.train={count=9,sizes=[2,2],horizons=[9,9]}"],
            "no new blocksworld task",
        ),
    ],
)
def test_bad_input_is_one_message_and_exit_2(
    files: Path, arguments: list[str], message: str
) -> None:
    before = sorted(files.iterdir())
    done = posterity(*arguments, folder=files)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert sorted(files.iterdir()) == before


INVARIANT = """
(define (domain d) (:requirements :strips :typing :constraints) (:types t)
  (:predicates (p ?x - t))
  (:action a :parameters (?x - t) :precondition (not (p ?x)) :effect (p ?x)))
"""
INVARIANT_PROBLEM = """
(define (problem e) (:domain d) (:objects o1 o2 - t) (:init) (:goal (p o1))
  (:constraints (and (always (not (p o2))))))
"""


def test_check_falls_back_to_unified_planning_under_its_name_or_judges_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "d.pddl").write_text(INVARIANT)
    (tmp_path / "p.pddl").write_text(INVARIANT_PROBLEM)
    plans = {"good": "(a o1)\n", "breaks": "(a o2)\n(a o1)\n", "short": ";\n"}
    for name, text in plans.items():
        (tmp_path / name).write_text(text)
    done = posterity("check", "d.pddl", "p.pddl", *plans, "--json", folder=tmp_path)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["outcome"] for r in results] == ["VALID", "PRECONDITION_FAILED", "GOAL_NOT_REACHED"]
    assert all(r["checker"].startswith("unified-planning") for r in results)
    (tmp_path / "other.pddl").write_text(INVARIANT_PROBLEM.replace("(:domain d)", "(:domain x)"))
    done = posterity("check", "d.pddl", "other.pddl", "good", folder=tmp_path)
    assert done.returncode == 2
    assert "the problem is for domain 'x'" in done.stderr.replace("\n", " ")
    # what it would ignore, it refuses: no verdict at all
    (tmp_path / "p.pddl").write_text(INVARIANT_PROBLEM.replace("always", "sometime"))
    done = posterity("check", "d.pddl", "p.pddl", "good", folder=tmp_path)
    assert done.returncode == 2
    assert "not judged" in done.stderr
    assert "requires :constraints" in done.stderr


def test_run_with_prefect_then_status_and_query(tmp_path: Path) -> None:
    done = subprocess.run(
        command("run", "tiny", *SMALL, "--prefect"),
        cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "generation 0: coverage " in done.stdout
    assert "generation 1: coverage " in done.stdout
    assert "look further: posterity query" in done.stdout
    again = posterity("run", "tiny", *SMALL, "--plain", folder=tmp_path)
    table = "┏"
    assert again.stdout[again.stdout.index(table) :] == done.stdout[done.stdout.index(table) :]
    status = posterity("status", folder=tmp_path)
    assert status.returncode == 0
    assert "generation 1 is the last, and deployed; `posterity run tiny --set " in status.stdout
    # The command that is printed goes on with this experiment, and with no other.
    assert "goes on to generation 2" in status.stdout.replace("\n", " ")
    printed = shlex.split(status.stdout.replace("\n", " ").split("`")[1])
    same = posterity(*printed[1:], "--set", "generations=1", "--plain", folder=tmp_path)
    assert same.returncode == 0
    begun = status.stdout[: status.stdout.index("\n")].strip()
    other = posterity("run", "tiny", "--set", "generations=0", *SMALL[2:], "--set", "seed=1",
                      "--plain", folder=tmp_path)  # fmt: skip
    assert f"a new experiment, beside {begun}: seed: 0, now 1" in other.stdout.replace("\n", " ")
    onward = posterity("run", "tiny", "--continue-as", begun, "--set", "generations=1", "--plain",
                       folder=tmp_path)  # fmt: skip
    assert f"{begun} in posterity.duckdb" in onward.stdout
    both = posterity("status", folder=tmp_path).stdout
    assert (both.count("is the last"), both.count(begun)) == (2, 1)
    rows = json.loads(
        posterity(
            "query",
            "SELECT DISTINCT generation FROM coverage ORDER BY 1",
            "--format",
            "json",
            folder=tmp_path,
        ).stdout
    )
    assert rows == [{"generation": 0}, {"generation": 1}]
    csv = posterity("query", "SELECT 1 AS a, 'x' AS b", "--format", "csv", folder=tmp_path)
    assert csv.stdout == "a,b\n1,x\n"
    refused = posterity("query", "DELETE FROM traces", folder=tmp_path)
    assert refused.returncode == 2
    assert "a query is one SELECT" in refused.stderr


@pytest.mark.parametrize("room", [300_000, 3_100_000])
def test_a_full_disk_is_one_message_and_loses_nothing(files: Path, room: int) -> None:
    command = ["run", "tiny", "--plain", *SMALL]
    full = posterity(*command, folder=files, largest_file=room)
    assert (full.returncode, full.stderr.count("error:")) == (3, 1)
    assert "Traceback" not in full.stderr
    assert "run the same command again" in " ".join(full.stderr.split())
    assert not list(files.rglob("*.partial"))
    assert posterity(*command, folder=files).returncode == 0
    assert posterity("verify", folder=files).returncode == 0


def test_without_a_command_it_helps_and_with_version_it_says_its_own(tmp_path: Path) -> None:
    alone, told = posterity(folder=tmp_path), posterity("--version", folder=tmp_path)
    assert (alone.returncode, told.returncode) == (0, 0)
    assert "Run the loop to its last generation" in alone.stdout
    assert told.stdout == f"posterity {metadata.version('posterity')}\n"


def test_check_judges_the_rest_where_one_plan_cannot_be_read(files: Path) -> None:
    (files / "bad.plan").write_text("(pickup b9)\n")
    command = ["check", "domain.pddl", "problem.pddl", "good.plan", "none.plan", "bad.plan"]
    done = posterity(*command, folder=files)
    assert (done.returncode, done.stderr.count("error:")) == (2, 1)
    assert "none.plan cannot be read" in done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["good.plan", "bad.plan"]
    told = posterity(*command, "--json", folder=files)
    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert [one["outcome"] for one in found] == ["VALID", None, "UNKNOWN_OBJECT"]
    assert (told.returncode, found[1]["file"]) == (2, "none.plan")


def test_check_finds_a_plan_in_an_answer_only_where_asked(files: Path) -> None:
    answer = f"Here is my plan:\n\n{(files / 'good.plan').read_text()}\nThat is all."
    (files / "answer.txt").write_text(answer)
    plain = posterity("check", "domain.pddl", "problem.pddl", "answer.txt", folder=files)
    found = posterity(
        "check", "domain.pddl", "problem.pddl", "answer.txt", "--extract", folder=files
    )
    assert (plain.returncode, found.returncode) == (1, 0)
    assert plain.stdout.startswith("answer.txt: NO_PLAN")
    other = (files / "problem.pddl").read_text().replace("(:domain blocksworld)", "(:domain other)")
    (files / "other.pddl").write_text(other)
    command = ["check", "domain.pddl", "other.pddl", "good.plan"]
    assert posterity(*command, folder=files).returncode == 2
    taken = posterity(*command, "--any-domain-name", folder=files)
    assert taken.returncode == 0
    assert "note: the problem is for domain 'other'" in taken.stdout


def test_what_takes_too_long_is_not_judged_and_never_invalid(tmp_path: Path) -> None:
    objects = " ".join(f"o{number}" for number in range(60))
    every = "(forall (?s ?t ?u ?v) (and (= ?s ?s) (= ?t ?t) (= ?u ?u) (= ?v ?v)))"
    (tmp_path / "d.pddl").write_text(
        "(define (domain d) (:requirements :adl) (:predicates (done)) "
        f"(:action act :precondition {every} :effect (done)))"
    )
    (tmp_path / "p.pddl").write_text(
        f"(define (problem p) (:domain d) (:objects {objects}) (:init) (:goal (done)))"
    )
    (tmp_path / "plan").write_text("(act)")
    done = posterity("check", "d.pddl", "p.pddl", "plan", "--timeout", "0.5", folder=tmp_path)
    assert done.returncode == 2
    assert "not judged: plan: the time for this plan is over" in done.stderr.replace("\n", " ")
    assert "INVALID" not in done.stdout


@pytest.mark.parametrize(
    ("metric", "told"),
    [("(total-time)", "NotImplementedError"), ("(/ 1 (f))", "ZeroDivisionError")],
)
def test_what_another_checker_fails_on_is_not_judged(
    metric: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "d.pddl").write_text(
        "(define (domain d) (:requirements :strips :constraints :numeric-fluents) (:predicates "
        "(done) (p)) (:functions (f)) (:action act :parameters () :effect (done)))"
    )
    (tmp_path / "p.pddl").write_text(
        "(define (problem p) (:domain d) (:init (p) (= (f) 0)) (:goal (done)) "
        f"(:constraints (always (p))) (:metric minimize {metric}))"
    )
    (tmp_path / "plan").write_text("(act)")
    done = posterity("check", "d.pddl", "p.pddl", "plan", folder=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "not judged" in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_run_names_every_preset(tmp_path: Path) -> None:
    told = ran("run", "--help", folder=tmp_path).stdout.split()
    assert not [name for name in PRESETS if not {name, f"{name},", f"{name}."} & {*told}]


def test_a_run_at_work_can_be_asked_what_it_has_published(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(finished.read_bytes())
    there = ("--warehouse", str(path))
    with Warehouse(path) as store:  # as a run has it
        refused = ran("status", *there)
        assert (refused.returncode, "is open in another process" in refused.stderr) == (2, True)
        store.publish()
        [first, *_] = store.frame("SELECT trace FROM traces LIMIT 1")["trace"]
        for words in (("status",), ("query", "FROM progress"), ("show", first)):
            done = ran(*words, *there)
            assert done.returncode == 0, done.stderr
            assert "a run is at work here" in done.stderr
