"""A generation that asks the plan checker while it plans, through the whole loop."""

import asyncio
import json
import shutil
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow.parquet as pq
import pytest
from fastapi.responses import StreamingResponse

from flows.audit.verify import verify
from flows.deployment.loading import load_requests, requests_folder
from flows.deployment.log import Log
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.loop import sample
from flows.progress import Watch
from flows.web.deployed import Deployed
from flows.web.desk import Desk, Given, Planned
from flows.web.keys import Clients
from flows.web.live import Live
from flows.web.memory import Memory
from flows.web.protocol import Completing, Planning
from flows.web.responses import streamed, text_of
from planners.domains import DOMAINS
from planners.errors import Busy, ComponentFailure
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS
from tests.conftest import small
from tests.gateway import problem
from warehouse import schema
from warehouse.export import export
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
DRAWN = {"samples": 3, "max_new_tokens": 48, "max_tool_calls": 2}
EXPERIMENT = Experiment.model_validate(
    small(
        generations=1, deploy=DRAWN, evaluate=DRAWN,
        model={"threads": 1, "batch": 8},
        warmup={
            "sizes": [3, 5], "shares": [0.0, 0.0, 1.0], "steps": 40, "batch": 16, "calls": 1.0,
            "learning_rate": 2e-3,
        },
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "w.duckdb"
    with Warehouse(path) as store:
        iterate(store, EXPERIMENT, QUIET)
    return path


def test_turns_are_kept_counted_and_verified(asked: Path) -> None:
    with Warehouse(asked, read_only=True) as store:
        calls = store.frame("FROM tool_calls ORDER BY generation, purpose")
        assert calls["purpose"].tolist() == ["deploy", "evaluate", "evaluate"]
        assert (calls["calls"] >= calls["valid_calls"] + calls["refused"]).all()
        assert calls["calls"].min() > 0
        [told] = store.frame(
            "SELECT count(*) AS traces, count(*) FILTER (WHERE told = text) AS whole, "
            "count(*) FILTER (WHERE last = 'model') AS ended FROM ("
            "SELECT trace, string_agg(text, '' ORDER BY turn) AS told, "
            "arg_max(role, turn) AS last, sum(tokens) AS tokens FROM turns GROUP BY ALL"
            ") JOIN (SELECT trace, text FROM traces) USING (trace)"
        ).itertuples(index=False)
        assert told.traces == told.whole == told.ended == calls["traces"].sum()
        assert not [one for check in verify(store, QUIET, 4) for one in check.wrong]


def test_the_same_seed_gives_the_same_conversations_also_after_a_failure(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "SECONDS", -1.0)  # a transaction for every batch
    write, alone = Warehouse.write, EXPERIMENT.model_copy(update={"generations": 0})

    def failing(store: Warehouse, what: Any, mark: Any = None) -> None:
        write(store, what, mark)
        if mark is None and what:
            raise ComponentFailure("the disk is full")

    with Warehouse(tmp_path / "again.duckdb") as store:
        with monkeypatch.context() as patch:
            patch.setattr(Warehouse, "write", failing)
            with pytest.raises(ComponentFailure):
                iterate(store, alone, QUIET)
        assert 0 < store.count(schema.traces) < 19 * 3
        iterate(store, alone, QUIET)
        own = store.frame("SELECT trace, text, logprob FROM traces ORDER BY trace")
    with Warehouse(asked, read_only=True) as store:
        first = store.frame(
            "SELECT trace, text, logprob FROM traces "
            "WHERE generation = 0 AND purpose = 'evaluate' ORDER BY trace"
        )
    assert own.equals(first)


def test_an_export_says_which_turns_are_not_to_be_learned(asked: Path, tmp_path: Path) -> None:
    with Warehouse(asked, read_only=True) as store:
        export(store, tmp_path / "out")
        taught = store.frame(
            "SELECT trace FROM stg_decisions WHERE kept AND trace IN (SELECT trace FROM turns)"
        )
    rows = pq.read_table(tmp_path / "out" / "training").to_pylist()
    several = [row for row in rows if row["turn_characters"]]
    assert {row["trace"] for row in several} == set(taught["trace"]) != set()
    assert all(sum(row["turn_characters"]) == len(row["completion"]) for row in several)
    assert pq.read_schema(tmp_path / "out" / "traces" / "data.parquet").names.count(
        "turn_characters"
    )


def test_an_answer_that_the_tool_would_not_give_is_found(asked: Path, tmp_path: Path) -> None:
    forged = tmp_path / "w.duckdb"
    forged.write_bytes(asked.read_bytes())
    with duckdb.connect(str(forged)) as connection:
        connection.execute("UPDATE traces SET text = replace(text, 'invalid', '  valid')")
    with Warehouse(forged) as store:
        wrong = [one for check in verify(store, QUIET, 0) for one in check.wrong]
    assert any("the tool validate would answer otherwise" in one for one in wrong)


def test_users_are_answered_with_the_tool(asked: Path, tmp_path: Path) -> None:
    """Its turns are in the log, in the warehouse, and asked again by verify."""
    path = tmp_path / "w.duckdb"
    shutil.copytree(f"{asked}.checkpoints", f"{path}.checkpoints")
    path.write_bytes(asked.read_bytes())
    with Warehouse(path) as store:
        folder = requests_folder(store.place)
        store.publish()

    async def asking() -> list[Planned]:
        planning = [
            Planning.model_validate(
                {"model": EXPERIMENT.name, "domain": "blocksworld", "problem": problem(number),
                 "seed": 7}
            )
            for number in range(12)
        ]  # fmt: skip
        return await asyncio.gather(*map(desk.plan, planning))

    deployed, log = Deployed(str(path), EXPERIMENT, Clients()), Log(folder)
    desk = Desk(deployed, log)
    try:
        found = asyncio.run(asking())
        pieces = asyncio.run(stream(desk, found))
    finally:
        deployed.close()
        log.close()
    answers = {one.given[0].trace: one.given[0].completion for one in found}
    several = {trace for trace, one in answers.items() if one.turns}
    assert several
    assert "".join(pieces) in {answers[trace].text for trace in several}
    with Warehouse(path) as store:
        load_requests(store)
        rows = store.frame(
            "SELECT trace, string_agg(text, '' ORDER BY turn) AS text FROM turns "
            "WHERE purpose = 'request' GROUP BY trace"
        )
        told = dict(zip(rows["trace"], rows["text"], strict=True))
        assert {trace: told[trace] for trace in several} == {
            trace: answers[trace].text for trace in several
        }
        assert not [one for check in verify(store, QUIET, 4) for one in check.wrong]
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "UPDATE traces SET text = replace(text, 'invalid', '  valid') WHERE purpose = 'request'"
        )
    with Warehouse(path) as store:
        wrong = [one for check in verify(store, QUIET, 0) for one in check.wrong]
    assert any("the tool validate would answer otherwise" in one for one in wrong)


async def stream(desk: Desk, found: list[Planned]) -> list[str]:
    """The pieces of a stream that answers, with the tool, what was asked before."""
    number = next(at for at, one in enumerate(found) if one.given[0].completion.turns)
    memory, written = Memory(desk.deployed.reading, desk.log.folder), PROMPTS["compact"]
    task = memory.first_written((DOMAINS["blocksworld"].text, problem(number)))
    prompt = written.write(read_task(*task))
    asked = Completing(model=EXPERIMENT.name, prompt=prompt, seed=7, stream=True)

    def answer(live: Live) -> Coroutine[Any, Any, list[Given]]:
        return desk.answer(asked, "completions", prompt, None, task, str(written), live=live)

    body = await streamed(desk, asked, "text_completion", text_of, answer)
    assert isinstance(body, StreamingResponse)
    events = [str(one) async for one in body.body_iterator]
    chunks = [json.loads(one.removeprefix("data: ")) for one in events[:-1]]
    return [one["choices"][0]["text"] for one in chunks]


def test_many_threads_meet_tasks_at_once(warehouse: Warehouse, tmp_path: Path) -> None:
    """More tasks than are remembered, by as many threads as answer."""
    memory = Memory(lambda: Warehouse(warehouse.place, read_only=False), tmp_path / "log")
    texts = [(DOMAINS["blocksworld"].text, problem(number)) for number in range(12)]
    unread = patch.object(memory, "_reading", side_effect=Busy("a run has it"))
    with patch("flows.web.memory.KNOWN", 2), unread, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(memory.first_written, texts * 20))
    assert len({*found}) == 12
    assert found[:12] == found[12:24]


def test_a_policy_without_weights_calls_no_tool() -> None:
    with pytest.raises(ValueError, match="calls no tool"):
        Experiment.model_validate(
            small(generations=0, deploy=DRAWN, model={"policy": "scripted", "base": "x.jsonl"})
        )
