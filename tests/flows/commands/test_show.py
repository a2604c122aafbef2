"""`posterity show`: a trace with its plan step by step, its verdict, and what became of it."""

import re
from pathlib import Path

import pytest

from flows.commands.show import show
from planners.errors import InvalidInput
from tests.flows.commands.test_cli import posterity
from tests.flows.loop.test_ingest import GOOD, take
from warehouse.store import Warehouse


def test_a_learned_trace_from_task_to_decision(finished: Path, tmp_path: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        row = store.frame("SELECT * FROM curated ORDER BY plan_length DESC, trace_id").iloc[0]
        lines = list(show(store, row["trace_id"]))
    done = posterity("show", row["trace_id"][:20], "--warehouse", str(finished), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{line}\n" for line in lines)
    assert sum(line.split(":")[0].isdigit() for line in lines) == row["plan_length"]
    assert any(line.startswith("     +(") for line in lines), "state changes"
    assert "verdict: VALID" in lines
    kept = rf"kept for generations? [1-{row['generation']}].* of {row['experiment']}: shortest .*"
    assert any(re.fullmatch(kept, line) for line in lines)
    assert "(define (problem" in done.stdout


def test_a_dropped_trace_names_the_one_that_was_kept_of_its_task(finished: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        row = store.frame(
            "SELECT d.trace_id, c.trace_id AS kept, d.generation, d.experiment FROM decisions AS d "
            "JOIN stg_verdicts AS v ON v.trace = d.trace_id AND v.outcome = 'VALID' "
            "JOIN curated AS c ON c.experiment = d.experiment AND c.generation = d.generation "
            "AND c.task = d.task WHERE NOT d.kept ORDER BY ALL LIMIT 1"
        ).iloc[0]
        lines = list(show(store, row["trace_id"]))
    told = f"a better trace of its task was kept; kept of its task: {row['kept']}"
    assert any(line.startswith("dropped for") and told in line for line in lines), lines


def test_a_plan_that_fails_stops_where_it_does(warehouse: Warehouse) -> None:
    plan = "(pickup a)\n(pickup b)\n(stack a b)\n"
    take(warehouse, {**GOOD, "completion": plan, "feedback": "reject"})
    trace = warehouse.frame("SELECT trace FROM traces")["trace"][0]
    text = "\n".join(show(warehouse, trace))
    assert "1: (pickup b)   PRECONDITION_FAILED" in text
    assert "2: (stack" not in text
    assert "verdict: PRECONDITION_FAILED at step 1" in text
    assert "its user rejected it" in text
    assert "in no pool yet" in text
    assert "held: a" in text


def test_what_is_not_one_trace_is_one_message(finished: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        with pytest.raises(InvalidInput, match=r"no trace id in .* begins with 'xyz'"):
            list(show(store, "xyz"))
        with pytest.raises(InvalidInput, match="give more of the trace's id: "):
            list(show(store, ""))
