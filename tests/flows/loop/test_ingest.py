"""Ingest: traces made elsewhere are judged and kept once; what is refused is named by its line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from flows.audit.verify import verify
from flows.experiments.experiment import Experiment as Settings
from flows.loop.ingest import LONGEST, Report, ingest
from flows.loop.prepare import prepare
from flows.progress import Watch
from planners.errors import InvalidInput
from tests.conftest import small
from tests.flows.commands.test_cli import PROBLEM, posterity
from tests.warehouse.test_store import TASK
from warehouse.landing import land
from warehouse.records import NO_SETTINGS, Domain, Experiment, Task
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement

GOOD = {"domain": "blocksworld", "problem": PROBLEM, "completion": "(pickup a)\n(stack a b)\n"}


def take(store: Warehouse, *lines: Any, source: str = "shop") -> Report:
    """Ingest lines given as objects, or as bytes where they are to be odd."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return ingest(store, io.BytesIO(b"\n".join(raw)), source)


def test_traces_are_judged_and_kept_once(warehouse: Warehouse) -> None:
    lines = [
        {**GOOD, "model": "m", "logprob": -1.5, "feedback": "reject", "time": "2026-01-02T03:04Z"},
        {**GOOD, "completion": "<think>a b c</think>I cannot.", "feedback": "accept"},
        {**GOOD, "completion": "(pickup b)", "finish_reason": "length"},
        GOOD,
        GOOD,
    ]
    report = take(warehouse, *lines)
    assert (report.new, report.known, report.refused) == (4, 1, [])
    rows = warehouse.frame(
        "SELECT policy, outcome, plan_length, reasoning_tokens, accepted, logprob, "
        "strftime(written_at, '%d %H:%M') AS at FROM traces JOIN judgements USING (trace) "
        "LEFT JOIN feedback USING (trace) WHERE traces.purpose = 'ingest' ORDER BY outcome, policy"
    )
    rows = rows.astype(object).where(rows.notna(), None)
    assert rows.to_numpy().tolist() == [
        ["unknown", "NO_PLAN", None, 3, True, None, None],
        ["unknown", "TRUNCATED", None, 0, None, None, None],
        ["m", "VALID", 2, 0, False, -1.5, "02 03:04"],
        ["unknown", "VALID", 2, 0, None, None, None],
    ]
    again = take(warehouse, *lines)
    assert (again.new, again.known) == (0, 5)
    assert take(warehouse, GOOD, source="elsewhere").new == 1
    key = warehouse.frame("SELECT task FROM tasks")["task"][0]
    assert take(warehouse, {"task": key, "completion": "(putdown a)"}).new == 1
    assert not any(check.wrong for check in verify(warehouse, Watch(quiet=True)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"[1]", "object"),
        (b"\xff\xfe", "Invalid JSON|UTF-8|utf-8"),
        (b'{"completion": "\\ud800"}', "Invalid JSON"),
        ({"completion": "(a)"}, "needs either `task`, or `domain` and `problem`"),
        ({**GOOD, "task": "k"}, "needs either"),
        ({"task": "k", "completion": "(a)"}, "task 'k' is not in"),
        ({**GOOD, "completion": 3}, "completion: .*string"),
        ({**GOOD, "reward": 1}, "reward: Extra inputs"),
        ({**GOOD, "logprob": 0.5}, "logprob: "),
        ({**GOOD, "feedback": "yes"}, "feedback: "),
        ({**GOOD, "time": "yesterday"}, "time: "),
        ({**GOOD, "time": "12"}, "time: .*2026-01-31"),
        ({**GOOD, "domain": "chess"}, "PDDL|expected|domain"),
        ({**GOOD, "problem": PROBLEM.replace("(on a b)", "(on a c)")}, "'?c'?"),
        ({**GOOD, "problem": PROBLEM.replace(":domain blocksworld", ":domain chess")}, "chess"),
        ({**GOOD, "completion": "x" * LONGEST}, "longer than 8 MiB"),
    ],
)
def test_a_refused_line_is_named_and_costs_no_other(
    warehouse: Warehouse, line: Any, reason: str
) -> None:
    report = take(warehouse, GOOD, line, {**GOOD, "model": "other"})
    assert report.new == 2
    assert len(report.refused) == 1
    with pytest.raises(InvalidInput, match=f"^line 2: .*({reason})"):
        raise InvalidInput(report.refused[0])


def test_who_changes_their_mind_is_heard(warehouse: Warehouse) -> None:
    heard = []
    for words in (["accept", "reject"], ["reject"], ["accept"], [None]):
        take(warehouse, *({**GOOD, **({"feedback": word} if word else {})} for word in words))
        heard.append(warehouse.frame("FROM feedback")["accepted"].tolist())
    assert heard == [[False], [False], [True], [True]]
    assert len(warehouse.frame("FROM traces")) == 1
    assert not [check.wrong for check in verify(warehouse, Watch(quiet=True)) if check.wrong]


def test_empty_lines_and_a_byte_order_mark_are_no_traces(warehouse: Warehouse) -> None:
    report = take(warehouse, b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", b"  ")
    assert (report.new, report.refused) == (1, [])


def test_a_source_is_a_name_of_its_own(warehouse: Warehouse) -> None:
    for name in ("a b", "..", ".", "-x", "x" * 101):
        with pytest.raises(InvalidInput, match="invalid source name"):
            take(warehouse, GOOD, source=name)
    warehouse.write([Experiment("run", "h", "run", 0, '{"seed":0}', "0")])
    with pytest.raises(InvalidInput, match="run is an experiment"):
        take(warehouse, GOOD, source="run")


def test_an_experiments_id_is_no_source(warehouse: Warehouse) -> None:
    experiment = Settings.model_validate(small())
    with pytest.raises(InvalidInput, match="an experiment may have such an id"):
        take(warehouse, GOOD, source=experiment.id)
    warehouse.write([Experiment(experiment.id, "", experiment.id, 0, NO_SETTINGS, "0")])
    with pytest.raises(InvalidInput, match="is the name of ingested traces"):
        prepare(warehouse, experiment, Watch(quiet=True))


def test_a_domain_of_ours_has_one_name_whoever_brings_it_first(tmp_path: Path) -> None:
    """The PDDL of Rovers calls it otherwise."""
    settings = small()
    grades = {"count": 2, "sizes": [1, 2], "horizons": [1, 2]}
    settings["tasks"] = {
        "domain": "rovers",
        "train": grades,
        "heldout": grades,
        "larger": grades | {"sizes": [3, 4]},
    }
    settings["model"] = {**settings["model"], "prompt": "pddl"}
    experiment = Settings.model_validate(settings)
    with Warehouse(tmp_path / "w.duckdb") as store:
        prepare(store, experiment, Watch(quiet=True))
        posed = [one for one in store.tasks(experiment.id) if one.split == "train"]
    with Warehouse(tmp_path / "other.duckdb") as store:
        lines = [{**GOOD, "domain": "rovers", "problem": one.pddl} for one in posed]
        assert take(store, *lines).new == 2
        prepare(store, experiment, Watch(quiet=True))
        assert {one.domain for one in store.tasks(experiment.id)} == {"rovers"}
        assert {one.name for one in store.every(Domain)} == {"rovers"}


def test_goals_in_another_order_make_the_same_verdict(warehouse: Warehouse) -> None:
    """It is the same task, and what is stored is what `verify` judges again."""
    goals = ["(or (on a b) (on a c))", "(or (on b c) (on c b))"]
    problem = "(define (problem p) (:domain blocksworld) (:objects a b c) (:init (arm-empty) "
    problem += (
        "(clear a) (clear b) (clear c) (on-table a) (on-table b) (on-table c)) (:goal (and {})))"
    )
    lines = [
        {"domain": "blocksworld", "problem": problem.format(" ".join(some)), "completion": text}
        for some, text in ((goals, "(pickup c)"), (goals[::-1], "(pickup b)"))
    ]
    assert take(warehouse, *lines).new == 2
    told = {one.detail for one in warehouse.every(Judgement)}
    assert told == {" ".join(sorted(goals))}
    assert not [wrong for check in verify(warehouse, Watch(quiet=True)) for wrong in check.wrong]


def test_ingest_on_the_command_line(tmp_path: Path) -> None:
    lines = [json.dumps(GOOD), "{}", json.dumps({**GOOD, "feedback": "accept", "model": "m"})]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines) + "\n")
    done = posterity("ingest", "traces.jsonl", "--source", "shop", folder=tmp_path)
    assert done.returncode == 1
    assert "2 new traces from shop, 0 known already, 1 refused" in done.stdout
    assert done.stderr.startswith("line 2: completion: Field required")
    assert done.stderr.rstrip().endswith("posterity.duckdb is a new warehouse")
    none = posterity("ingest", "-", folder=tmp_path, stdin="[\n")
    assert "`jq -c .` writes them so" in none.stderr
    assert "a new warehouse" not in none.stderr
    again = posterity("ingest", "-", "--source", "shop", folder=tmp_path, stdin=lines[0])
    assert (again.returncode, again.stdout) == (
        0,
        "0 new traces from shop, 1 known already, 0 refused\n",
    )
    status = posterity("status", folder=tmp_path)
    assert "shop: 2 ingested traces, 2 valid; users accepted 1, rejected 0" in status.stdout
    assert posterity("ingest", "none.jsonl", folder=tmp_path).returncode == 2


def test_load_on_the_command_line(tmp_path: Path) -> None:
    land(tmp_path / "landing", Task, [TASK])
    for counted in ("1 files loaded, 1 rows\n", "0 files loaded, 0 rows\n"):
        assert posterity("load", "landing", folder=tmp_path).stdout == counted
    done = posterity("load", "nowhere", "--warehouse", "new.duckdb", folder=tmp_path)
    assert (done.returncode, done.stderr[:29]) == (2, "error: nowhere is no folder; ")
    assert not (tmp_path / "new.duckdb").exists()
    (tmp_path / "landing" / "traces.00.parquet").write_bytes(b"PAR1")
    partly = posterity("load", "landing", "--warehouse", "new.duckdb", folder=tmp_path)
    assert partly.returncode == 2
    assert (tmp_path / "new.duckdb").exists(), "files before the bad one stay loaded"
