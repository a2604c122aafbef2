"""The benchmarks run, on few rows: what fails must not be timed."""

from pathlib import Path

from benchmarks import checker, commands, peer_loop, warehouse
from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.pddl import read_task


def test_rows_about_loading_and_asking(tmp_path: Path) -> None:
    rows = [*warehouse._loads(tmp_path, 5_000, 1), *warehouse._views(tmp_path, 5_000, 1)]
    assert len(rows) == 5 + len(warehouse.PLAIN) + 1


def test_commands_are_measured_on_a_warehouse_that_they_read(tmp_path: Path) -> None:
    warehouse.fill(tmp_path / "w.duckdb", 3_000)
    for command in commands._commands(tmp_path / "w.duckdb").values():
        commands._alone(command)  # which raises where it fails
    assert (tmp_path / "e" / "training").exists()
    assert "Every generation" in (tmp_path / "r.html").read_text()


def test_the_peer_asks_val_about_every_plan(tmp_path: Path) -> None:
    [(problem, plan)] = checker.cases(1, 8, 8)
    task = read_task(DOMAINS["blocksworld"].text, problem)
    plans = [*checker._damaged(problem, plan, 12), plan]
    traces = [{"task": Task(task), "text": str(one)} for one in plans]
    traces += [{"task": Task(task), "text": text} for text in ("hello", "", "(foo b1)", str(plan))]
    peer_loop._judge(traces, tmp_path)
    ours, valid = Checker(task), [trace["valid"] for trace in traces]
    assert valid[-4:] == [False, False, False, True]
    for one, told in zip(plans, valid, strict=False):
        assert told or not ours.check(one).valid, "VAL takes a wrong number of arguments"


class Task:
    """As the peer's script has it."""

    def __init__(self, task: object) -> None:
        self.key, self.domain, self.problem = "k", task.domain, task.problem  # type: ignore[attr-defined]
