"""A plan that takes the checker too long leaves its trace without a verdict, and says so."""

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.audit.verify import verify_and_tell
from flows.commands.show import show
from flows.deployment.loading import NO_TASK, OTHER_NAMES
from flows.deployment.log import Log
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.generations.judging import READING, VERSION
from flows.iterate import iterate
from flows.loop.ingest import ingest
from flows.loop.judge import judge, judge_range
from flows.loop.judge import unjudged as waiting
from flows.loop.prepare import prepare
from flows.loop.sample import evaluate
from flows.progress import Watch
from flows.web.app import make_app
from flows.web.deployed import Deployed
from flows.web.desk import Desk
from flows.web.keys import Clients
from planners import NotJudged, check, read_task
from planners.checking.checker import CHECKER
from planners.domains.folder import canonical_text, read_folder
from planners.prompts.formats import PROMPTS
from tests.conftest import small
from warehouse.findings import Forgotten
from warehouse.landing import landing, take
from warehouse.store import Warehouse
from warehouse.verdicts import Unjudged

DOMAIN = """(define (domain slow) (:requirements :adl) (:predicates (done) (seen))
  (:action look :parameters () :effect (seen))
  (:action end :parameters () :precondition (seen) :effect (done))
  (:action ponder :parameters ()
   :precondition (forall (?s ?t ?u ?v) (and (= ?s ?s) (= ?t ?t) (= ?u ?u) (= ?v ?v)))
   :effect (done)))"""
PLANS = {"valid": "(look)\n(end)\n", "slow": "(ponder)\n", "invalid": "(end)\n"}
QUIET = Watch(quiet=True)
OVER = "the time for this plan is over"


def problem(name: str) -> str:
    """A problem that differs from the others by its number of objects."""
    objects = " ".join(f"o{i}" for i in range(56 + len(name)))
    return f"(define (problem p) (:domain slow) (:objects {objects}) (:init) (:goal (done)))"


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Three tasks, answered by a script: one plan is valid, one invalid, one takes too long."""
    folder, script = tmp_path / "tasks", tmp_path / "answers.jsonl"
    (folder / "train").mkdir(parents=True)
    (folder / "domain.pddl").write_text(DOMAIN)
    for name in PLANS:
        (folder / "train" / f"{name}.pddl").write_text(problem(name))
    lines = []
    for found in read_folder(folder).splits["train"]:
        plan = PLANS[Path(found.file).stem]
        prompt = PROMPTS["pddl"].write(read_task(DOMAIN, canonical_text(found)))
        lines.append(json.dumps({"prompt": prompt, "completions": [f"<plan>\n{plan}</plan>"]}))
    script.write_text("\n".join(lines))
    return load_experiment(
        "tiny",
        [
            f"tasks.folder={folder}", "generations=0", "model.policy=scripted", "model.prompt=pddl",
            f"model.base={script}", "judging.timeout=0.2", "evaluate.samples=2",
        ],
    )  # fmt: skip


def test_a_user_is_told_that_a_plan_could_not_be_judged(
    experiment: Experiment, tmp_path: Path
) -> None:
    """With its trace, at once and not once for each attempt; a correction as well."""
    place = str(tmp_path / "w.duckdb")
    with Warehouse(place) as store:
        iterate(store, experiment, Watch(quiet=True))
    deployed, log = Deployed(place, experiment, Clients()), Log(tmp_path / "log")
    app = make_app(Desk(deployed, log), ["localhost"])
    asked = {"model": "tiny", "domain": DOMAIN, "problem": problem("slow"), "attempts": 3}

    async def ask(path: str, body: dict[str, Any]) -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    told = asyncio.run(ask("/v1/plans", asked))
    late = "it could not be judged within 0.2 seconds"
    assert (told["valid"], told["outcome"], told["explanation"]) == (None, None, late)
    assert (told["plan"], told["attempts"], len(told["trace"])) == (["(ponder)"], 1, 32)
    said = {"trace": told["trace"], "feedback": "reject", "plan": "(ponder)"}
    heard = asyncio.run(ask("/v1/feedback", said))
    assert (heard["valid"], heard["explanation"]) == (None, late)
    deployed.close()
    log.close()


def test_the_loop_goes_on_and_the_trace_is_not_called_invalid(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Warehouse(tmp_path / "w.duckdb") as store:
        iterate(store, experiment, Watch())
        assert "2 of 6 traces are not judged, which is not invalid: " + OVER in said(capsys)
        told = store.frame("SELECT outcome, traces FROM verdicts ORDER BY ALL")
        outcomes = {row.outcome: row.traces for row in told.itertuples()}
        assert outcomes.pop("VALID") == outcomes.pop("PRECONDITION_FAILED") == 2
        assert list(outcomes.values()) == [2]  # the outcome of these is NULL
        assert store.frame("SELECT sum(tasks) AS n FROM coverage")["n"].tolist() == [2]
        refused = store.frame("FROM unjudged")
        assert len(refused) == 2
        assert refused["reason"].str.startswith(OVER).all()
        shown = "\n".join(show(store, refused["trace"][0]))
        assert f"not judged: {OVER}" in shown
        assert "the plan cannot be followed further: the naive replay takes too long" in shown
        iterate(store, experiment, Watch())  # again: nothing is left to do
        assert "not judged" not in said(capsys)
        assert verify_and_tell(store, Watch())
        assert "2 still not judged, 0 disagree" in said(capsys)
        with store.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO unjudged SELECT trace, checker, checker_version, 'r', experiment "
                "FROM judgements WHERE outcome = 'VALID'"
            )
            connection.exec_driver_sql("DELETE FROM judgements WHERE outcome = 'VALID'")
        assert not verify_and_tell(store, Watch())
        assert "2 not checked: r" in said(capsys), "the checker does judge these"


def test_a_verdict_that_was_taken_away_is_missed(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Warehouse(tmp_path / "w.duckdb") as store:
        iterate(store, experiment, Watch())
        with store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM judgements WHERE outcome <> 'VALID'")
        assert not verify_and_tell(store, Watch())
        assert said(capsys).count("it has no verdict, although its generation was judged") == 2
        with store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM judgements")
        Watch().generation(store, experiment, 0)
    assert "generation 0: no trace of its evaluation is judged" in said(capsys)


def test_workers_land_verdicts_and_what_has_none(experiment: Experiment, tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as store:
        prepare(store, experiment, Watch(quiet=True))
        evaluate(store, experiment, 0, Watch(quiet=True))
        with landing(store, "judge") as folder:
            files = judge_range(
                str(store.place.published), experiment.model_dump_json(), 0, ("", "~"), str(folder)
            )
            counts = [take(store, Path(file)) for file in files]
        assert counts == [4, 2]
        assert len(store.frame("FROM unjudged")) == 2


def test_an_ingested_trace_is_kept_and_the_others_are_judged(tmp_path: Path) -> None:
    line = {"domain": DOMAIN, "problem": problem("any")}
    text = "\n".join(json.dumps({**line, "completion": plan}) for plan in PLANS.values())
    with Warehouse(tmp_path / "w.duckdb") as store:
        report = ingest(store, BytesIO(text.encode()), "elsewhere")
        assert (report.new, len(report.unjudged), report.refused) == (3, 1, [])
        assert OVER in report.unjudged[0]
        assert len(store.frame("FROM unjudged")) == 1


def test_the_time_limit_of_check() -> None:
    with pytest.raises(NotJudged, match=OVER):
        check(DOMAIN, problem("any"), PLANS["slow"], timeout=0.1)
    assert check(DOMAIN, problem("any"), PLANS["valid"], timeout=0.1).valid


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed since the last call, as one line."""
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def test_plans_of_one_task_keep_no_other_waiting(experiment: Experiment, tmp_path: Path) -> None:
    """However many a user sends: they wait for each other, and for no longer than one may take."""
    place = str(tmp_path / "w.duckdb")
    with Warehouse(place) as store:
        iterate(store, experiment, Watch(quiet=True))
    deployed, log = Deployed(place, experiment, Clients()), Log(tmp_path / "log")
    desk, order = Desk(deployed, log), list[str]()

    async def judge(name: str) -> None:
        text = f"<plan>\n{PLANS[name]}</plan>"
        _, verdict, unjudged = await desk._judge(DOMAIN, problem(name), text, "stop", READING)
        assert (verdict is None) == (name == "slow") == bool(unjudged)
        order.append(name)

    async def all_of_them() -> None:
        slow = [asyncio.create_task(judge("slow")) for _ in range(40)]
        await asyncio.sleep(0.05)
        await judge("valid")
        await asyncio.gather(*slow)

    asyncio.run(all_of_them())
    assert order.index("valid") < 4, "40 of 0.2 seconds each would be before it"
    deployed.close()
    log.close()


def test_a_newer_checker_judges_nothing_that_none_can_judge(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten text, an answer to no task, and one in names that the task has no more."""
    path = tmp_path / finished.name
    shutil.copy(finished, path)
    of = Experiment.model_validate(small())
    with Warehouse(path) as store:
        own, *_ = [one for one in store.traces(of.id) if one.generation == 1]
        answers = [replace(own, id=letter * 32, purpose="request") for letter in "abc"]
        reasons = {"a": NO_TASK, "b": OTHER_NAMES}
        unjudged = [
            Unjudged(one.id, CHECKER, VERSION, reasons[one.id[0]], of.id) for one in answers[:2]
        ]
        store.write([*answers, *unjudged])
        store.forget([Forgotten("c" * 32, of.id, 1, own.task, "h", datetime(2026, 1, 1))])
        for module in ("judging", "judge"):
            place = "generations" if module == "judging" else "loop"
            monkeypatch.setattr(f"flows.{place}.{module}.VERSION", "newer")
        judge(store, of, 1, QUIET)
        assert waiting(store, of, 1) == []
        told = {one.trace: one.reason for one in store.every(Unjudged, checker_version="newer")}
        assert told == {one.trace: one.reason for one in unjudged}
        seen = set(store.frame("SELECT trace FROM judgements")["trace"])
    assert own.id in seen
    assert not seen & {one.id for one in answers}
