"""The gateway as its users meet it: a real process, the real client of OpenAI's API."""

import asyncio
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import httpx
import openai
import pytest
from pydantic import ValidationError

from flows.experiments.reading import load_experiment
from flows.generations.checkpoints import checkpoint_of
from flows.importing.line import task_in
from flows.web.deployed import Deployed
from flows.web.keys import Clients, other_secrets
from flows.web.protocol import Chat
from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.models.checkpoint import load
from planners.pddl import read_task
from planners.policies.local import LocalPolicy
from tests.gateway import body, experiment, gateway, problem, run
from tests.llama_server import left_alone
from tests.processes import at_work, kill
from tests.tiny_gguf import write_tiny_gguf
from warehouse.places.file import File
from warehouse.records import Experiment
from warehouse.store import Warehouse

TASK = f"Find a plan.\n{DOMAINS['blocksworld'].text}\n{problem(1)}\nAnswer with the plan alone."
WAIT = 30


def settled(folder: Path, rows: int) -> list[dict[str, Any]]:
    """The requests of the published snapshot, once there are so many."""
    sql = (
        "SELECT t.*, r.* EXCLUDE (trace), v.outcome, f.accepted FROM traces AS t "
        "JOIN requests AS r ON r.trace = t.trace LEFT JOIN stg_verdicts AS v ON v.trace = t.trace "
        "LEFT JOIN feedback AS f ON f.trace = t.trace ORDER BY received_at"
    )
    until = time.monotonic() + WAIT
    while True:
        with Warehouse(folder / "w.duckdb.snapshot", read_only=True) as store:
            found = store.frame(sql)
        if len(found) >= rows or time.monotonic() > until:
            assert len(found) == rows
            return found.to_dict("records")
        time.sleep(0.3)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generation 0 of an experiment that waits for users; not to be changed."""
    folder = tmp_path_factory.mktemp("begun")
    done = run(folder, "run", str(experiment(folder)), "--plain")
    assert done.returncode == 1
    assert "waits for users: 0 of at least 20 new answers" in done.stderr
    told = "the next waits for deployment.fewest new answers to users, and 0 are there"
    assert told in run(folder, "status").stdout
    return folder


@pytest.fixture
def folder(begun: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", f"{begun}/.", str(tmp_path)], check=True)
    return tmp_path


@pytest.fixture(scope="module")
def answering(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A gateway that answers, and its folder."""
    folder = tmp_path_factory.mktemp("answering")
    subprocess.run(["cp", "-r", f"{begun}/.", str(folder)], check=True)
    with gateway(folder) as (url, _):
        yield folder, url


def streamed(url: str) -> dict[str, str]:
    """Two answers as a stream without a client's help: each trace's text."""
    asked = {
        "model": "small", "prompt": " b1 clear on-table\n", "max_tokens": 60, "n": 2,
        "stream": True,
    }  # fmt: skip
    with httpx.stream("POST", f"{url}/completions", json=asked, timeout=WAIT) as answer:
        *lines, last = [line for line in answer.iter_lines() if line]
    assert last == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    traces, texts, ends = chunks[0]["posterity"]["traces"], ["", ""], [None, None]
    assert {chunk["id"] for chunk in chunks} == {traces[0]}
    for chunk in chunks:
        [choice] = chunk["choices"]
        assert ends[choice["index"]] is None
        texts[choice["index"]] += choice["text"]
        ends[choice["index"]] = choice["finish_reason"]
    assert set(ends) <= {"stop", "length"}
    refused = httpx.post(f"{url}/completions", json={**asked, "model": "none"}, timeout=WAIT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    return dict(zip(traces, texts, strict=True))


def test_the_client_of_openai_gets_answers_that_are_traces(folder: Path) -> None:
    with gateway(folder) as (url, _):
        with openai.OpenAI(base_url=url, api_key="any") as client:
            names = [model.id for model in client.models.list()]
            chat = client.chat.completions.create(
                model="small", messages=[{"role": "user", "content": " b1 clear on-table\n"}], n=2,
                max_completion_tokens=20, user="alice@example.org", temperature=0.7,
                metadata={"shop": "north"}, extra_body={"session": "monday"},
            )  # fmt: skip
            stream = client.completions.create(
                model="small@0", prompt=" b1 clear on-table\n", stream=True, max_tokens=20,
                stream_options={"include_usage": True},
            )  # fmt: skip
            *some, last = stream
            pieces = [(one.id, one.choices[0].text) for one in some]
            assert (last.choices, last.usage.total_tokens > 3) == ([], True)
            asked = [{"role": "user", "content": " b1 clear on-table\n"}]
            with client.chat.completions.stream(model="small", messages=asked, n=2) as told:
                for _ in told:
                    pass
                whole = told.get_final_completion().choices
            assert [choice.message.role for choice in whole] == ["assistant"] * 2

        async def together() -> list[Any]:
            async with openai.AsyncOpenAI(base_url=url, api_key="any") as client:
                return await asyncio.gather(
                    *(
                        client.chat.completions.create(
                            model="small", messages=[{"role": "user", "content": " b2 clear\n"}]
                        )
                        for _ in range(9)
                    )
                )

        many = asyncio.run(together())
        raw = streamed(url)
        planned = httpx.post(f"{url}/plans", json=body(3, attempts=3), timeout=WAIT).json()
    assert names == ["small", "small@0"]
    both = zip(chat.posterity["traces"], chat.choices, strict=True)
    given = {trace: choice.message.content for trace, choice in both}
    given |= {pieces[0][0]: "".join(text for _, text in pieces)}
    given |= {one.id: one.choices[0].message.content for one in many} | raw
    assert planned["attempts"] == len(planned["traces"])
    assert planned["valid"] == (planned["outcome"] == "VALID")
    rows = settled(folder, len(given) + planned["attempts"] + len(whole))
    told = {row["trace"]: row["text"] for row in rows}
    assert all(told[trace] == text for trace, text in given.items())
    first = rows[0]
    assert json.loads(first["metadata"]) == {"shop": "north"}
    assert json.loads(first["settings"])["temperature"] == 0.7
    assert first["user_hash"] not in (None, "alice@example.org")
    for file in folder.rglob("*"):
        assert not file.is_file() or b"alice@example.org" not in file.read_bytes()
    # Every trace's log-probability is that of the weights that it names.
    with Warehouse(folder / "w.duckdb.snapshot", read_only=True) as store:
        settings = load_experiment(str(folder / "small.toml"))
        checkpoint = checkpoint_of(store, settings, 0)
    policy = LocalPolicy(*load(checkpoint.folder))
    heads = policy.encode([row["prompt"] for row in rows], 0)
    pairs = [(head, list(row["token_ids"])) for head, row in zip(heads, rows, strict=True)]
    again = policy.row_logprobs(pairs)
    assert again == pytest.approx([row["logprob"] for row in rows], abs=1e-3)
    assert {row["weights_hash"] for row in rows} == {checkpoint.weights}
    checked = run(folder, "verify")
    assert checked.returncode == 0, checked.stdout


def test_refusals_are_those_of_openai(answering: tuple[Path, str]) -> None:
    _, url = answering
    said = [{"role": "user", "content": " b1 clear\n"}]
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="'other' does not exist"):
            client.chat.completions.create(model="other", messages=said)
        with pytest.raises(openai.NotFoundError, match="'small@7' does not exist"):
            client.chat.completions.create(model="small@7", messages=said)
        with pytest.raises(openai.NotFoundError, match=r"it's.* does not exist"):
            client.chat.completions.create(model="it's", messages=said)
        with pytest.raises(openai.BadRequestError, match="exceed the model's context") as long:
            client.chat.completions.create(model="small", messages=said, max_tokens=5000)
        assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="'tools' is not supported"):
            client.chat.completions.create(model="small", messages=said, tools=[{"type": "x"}])
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(model="small", messages=said, temperature=9)
        with pytest.raises(openai.BadRequestError, match="does not know a word"):
            client.chat.completions.create(
                model="small", messages=[{"role": "user", "content": "Hi"}]
            )
    kind = {"content-type": "application/json"}
    asked = {"model": "small", "prompt": " b1\n", "max_tokens": 3}
    for besides, why in (
        (b'"metadata": {"a": "\\ud800"}', "surrogate"), (b'"metadata": {"a": NaN}', "metadata.a"),
        (b'"logprobs": 0', "'logprobs' is not supported"), (b'"n": true', "valid integer"),
        (b'"temperature": true', "valid number"), (b'"model": "small@"', "does not exist"),
        (b'"model": "small@\\u0660"', "does not exist"), (b'"prompt": 3', "prompt: Input"),
        (b'"metadata": {"a": [1]}', "metadata.a: Input"),
    ):  # fmt: skip
        content = json.dumps(asked).encode()[:-1] + b", " + besides + b"}"
        refused = httpx.post(f"{url}/completions", content=content, headers=kind)
        assert refused.status_code in (400, 404), besides
        assert why in refused.json()["error"]["message"]
        assert "constrained" not in refused.text
    nulls = {"n": None, "stream": None, "suffix": "", "stop": None, "logprobs": None, "echo": False}
    assert httpx.post(f"{url}/completions", json=asked | nulls, timeout=WAIT).status_code == 200
    wrong = httpx.post(f"{url}/chat/completions", content=b"{", headers=kind)
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
    large = httpx.post(f"{url}/chat/completions", content=b" " * (3 << 20))
    assert large.status_code == 413
    in_pieces = {"transfer-encoding": "chunked", "content-length": "5"}
    pieces = httpx.post(f"{url}/completions", content=iter([b" " * 99] * 9), headers=in_pieces)
    assert pieces.status_code == 411
    bare = httpx.post(f"{url}/completions", content=json.dumps(asked))
    assert "Content-Type: application/json" in bare.json()["error"]["message"]
    assert httpx.delete(f"{url}/completions").headers["allow"] == "POST"
    assert httpx.post(f"{url}/plans", json=body(1) | {"problem": "(define"}).status_code == 400
    posed = {"objects": ["b1", "b2"], "init": [["on-table", "b1"], ["on-table", "b2"],
             ["clear", "b1"], ["clear", "b2"], ["arm-empty"]],
             "goal": [["on", "b2", "b1"]]}  # fmt: skip
    planned = httpx.post(f"{url}/plans", json=body(1) | {"problem": posed}, timeout=WAIT)
    assert planned.status_code == 200, planned.text
    for wrong_part in ({"goal": [["on", "b2) (x", "b1"]]}, {"objects": {}}, {"init": [[]]}):
        refused = httpx.post(f"{url}/plans", json=body(1) | {"problem": posed | wrong_part})
        assert refused.status_code == 400, wrong_part
    aimless = {key: value for key, value in posed.items() if key != "goal"}
    refused = httpx.post(f"{url}/plans", json=body(1) | {"problem": aimless})
    assert refused.json()["error"]["message"] == "problem.goal: Field required"
    for name in ("evil.example", "127.0.0.1.evil.example:80", "", "[::1", "[::2]", "x" * 9000):
        elsewhere = httpx.get(f"{url}/models", headers={"host": name})
        assert elsewhere.status_code == 400
        assert "no host is called" in elsewhere.json()["error"]["message"]
    assert httpx.get(f"{url}/models", headers={"host": "LocalHost:8080"}).status_code == 200
    assert httpx.get(f"{url}/models", headers={"host": "[::1]:8080"}).status_code == 200
    assert httpx.get(f"{url}/nothing").json()["error"]["message"].endswith("Not Found")
    root = url.removesuffix("/v1")
    probe = httpx.get(f"{root}/readyz", headers={"host": "10.0.0.5:8080"})
    assert probe.json()["generation"] == 0
    [name] = {one["id"] for one in httpx.get(f"{url}/models").json()["data"]} - {"small@0"}
    assert httpx.get(f"{url}/models/{name}").json()["id"] == "small"
    assert 'path="/v1/chat/completions",status="404"' in httpx.get(f"{root}/metrics").text
    nobody = httpx.post(f"{url}/feedback", json={"trace": "0" * 32, "feedback": "accept"})
    assert "no answer has the trace" in nobody.json()["error"]["message"]


def test_pddl_in_a_chat_is_judged_and_feedback_and_corrections_are_kept(folder: Path) -> None:
    words = {"model": "small", "messages": [{"role": "user", "content": TASK}]}
    with gateway(folder, POSTERITY_USER_KEY="secret") as (url, process):
        kill(at_work(process.pid, "flows.deployment.loading")[-1])  # another one loads the answers
        refused = httpx.post(f"{url}/chat/completions", json=words, timeout=WAIT)
        assert "does not know a word" in refused.json()["error"]["message"]  # the small base
        answers = [httpx.post(f"{url}/plans", json=body(n, user="u"), timeout=WAIT) for n in (1, 2)]
        first, second = (answer.json()["trace"] for answer in answers)
        for said in ("accept", "reject"):
            httpx.post(f"{url}/feedback", json={"trace": first, "feedback": said, "user": "u"})
        settled(folder, 2)
    with gateway(folder, POSTERITY_USER_KEY="secret") as (url, _):  # knows it from the warehouse
        wanted = {"trace": second, "feedback": "reject", "plan": "(pickup b1)\n", "user": "u"}
        heard = httpx.post(f"{url}/feedback", json=wanted, timeout=WAIT).json()
        corrected = heard["correction"]
        assert heard["valid"] is False, "the user is told that the correction does not work"
        again = httpx.post(f"{url}/feedback", json=wanted, timeout=WAIT).json()
        assert again["correction"] == corrected, "sent twice, it is one"
        rows = {row["trace"]: row for row in settled(folder, 3)}
    assert rows[first]["accepted"] is False
    assert rows[corrected]["purpose"] == "correction"
    assert rows[corrected]["corrects"] == second
    assert rows[corrected]["accepted"] is True
    assert rows[corrected]["task"] == rows[second]["task"]
    assert len({row["user_hash"] for row in rows.values()}) == 1


def test_users_teach_the_next_generation_which_then_answers(folder: Path) -> None:
    """Without a failed request, and with no trace of weights that did not write it."""
    with gateway(folder) as (url, _), ThreadPoolExecutor(4) as pool:

        def ask(number: int) -> dict[str, Any]:
            asked = body(number, user="ann", metadata={"group": ["shop", "lab"][number % 2]})
            answer = httpx.post(f"{url}/plans", json=asked, timeout=WAIT)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            said = {"trace": told["trace"], "feedback": "accept" if told["plan"] else "reject"}
            heard = httpx.post(f"{url}/feedback", json=said, timeout=WAIT)
            assert heard.status_code == 200, heard.text
            return told

        taught = list(pool.map(ask, range(24)))
        settled(folder, 24)
        made = subprocess.Popen(
            run_command(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        meanwhile, until = list[dict[str, Any]](), time.monotonic() + 300
        while time.monotonic() < until and 1 not in {one["generation"] for one in meanwhile}:
            meanwhile += pool.map(ask, range(100 + len(meanwhile), 104 + len(meanwhile)))
        said = made.communicate(timeout=300)[0]
        assert made.returncode in (0, 1), said
        assert "generation 1: coverage" in said
    assert {one["generation"] for one in taught} == {0}
    assert 1 in {one["generation"] for one in meanwhile}
    run(folder, "run", str(folder / "small.toml"), "--plain")  # loads what was left
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        rows = store.frame(
            "SELECT t.trace, t.generation, r.weights_hash = g.weights_hash AS own FROM traces AS t "
            "JOIN requests AS r USING (trace) "
            "JOIN generations AS g ON g.experiment = t.experiment AND g.generation = t.generation"
        )
        learned = store.frame("SELECT DISTINCT reason FROM decisions WHERE kept")["reason"]
    given = {one["trace"]: one["generation"] for one in (*taught, *meanwhile)}
    assert dict(zip(rows["trace"], rows["generation"], strict=True)) == given
    assert rows["own"].all()
    assert learned.tolist() == ["accepted by its user"]
    audited = run(folder, "audit", str(folder / "small.toml"))
    words = r"group=(lab|shop) accepted plans that are invalid: \d+ of \d+ \("
    assert re.search(words, audited.stdout)
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        figures = store.frame("FROM audits WHERE question = 'users' AND generation = 1")
        own = store.frame(
            "SELECT f.accepted AND v.outcome <> 'VALID' AS wrong, s.kept FROM stg_decisions AS s "
            "JOIN stg_verdicts AS v USING (trace) JOIN feedback AS f USING (trace) "
            "WHERE s.generation = 1 AND s.accepted IS NOT NULL"
        )
    names = figures.pivot(index="name", columns="measure", values="value")
    [ann] = [name for name in names.index if name.startswith("user=")]
    assert len(ann) == len("user=") + 32
    groups = names.loc[["group=lab", "group=shop"]].sum()
    for column in ("judged", "accepted_invalid", "learned_invalid", "rejected_valid"):
        assert groups[column] == names.loc[ann, column]
    assert (groups["judged"], groups["accepted_invalid"]) == (len(own), own["wrong"].sum())
    assert groups["learned_invalid"] == (own["wrong"] & own["kept"]).sum()
    checked = run(folder, "verify")
    assert checked.returncode == 0, checked.stdout


def test_a_generation_that_is_not_deployed_answers_in_silence(folder: Path) -> None:
    """Users see the deployed one alone; nothing is learned from the other's answers."""
    with gateway(folder) as (url, _):
        for number in range(24):
            told = httpx.post(f"{url}/plans", json=body(number), timeout=WAIT).json()
            said = {"trace": told["trace"], "feedback": "accept"}
            httpx.post(f"{url}/feedback", json=said, timeout=WAIT)
    run(folder, "run", str(folder / "small.toml"), "--plain")
    back = run(folder, "promote", "0", "--reason", "to see both")
    assert back.returncode == 0, back.stderr
    both = ("--set", "deployment.shadow=1", "--set", "deployment.candidate=0.9")
    with gateway(folder, *both) as (url, _):
        for number in range(100, 112):  # what was rolled back is no candidate
            asked = body(number, session=str(number))
            told = httpx.post(f"{url}/plans", json=asked, timeout=WAIT).json()
            assert told["generation"] == 0
        prompt = {
            "model": "small",
            "messages": [{"role": "user", "content": TASK}],
            "max_tokens": 4,
        }
        said = httpx.post(f"{url}/chat/completions", json=prompt, timeout=WAIT)
        assert said.status_code == 400  # a shadow of nothing
        rows = settled(folder, 48)[24:]
    asked = {row["trace"]: row for row in rows if row["purpose"] == "request"}
    shadows = [row for row in rows if row["purpose"] == "shadow"]
    assert {row["generation"] for row in asked.values()} == {0}
    assert {row["generation"] for row in shadows} == {1}
    _is_at_work_before_it_is_asked(folder, both[1::2])
    assert sorted(row["corrects"] for row in shadows) == sorted(asked)
    assert all(row["prompt"] == asked[row["corrects"]]["prompt"] for row in shadows)
    run(folder, "run", str(folder / "small.toml"), "--plain")
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        [pair] = store.frame("FROM shadows").to_dict("records")
        purposes = store.frame(
            "SELECT DISTINCT t.purpose FROM stg_decisions JOIN traces AS t USING (trace)"
        )
        answered = store.frame("SELECT sum(requests) AS n FROM deployments")["n"][0]
    counted = [pair[name] for name in ("generation", "beside", "answers")]
    assert (counted, answered) == ([1, 0, 12], 36)
    found = {
        which: sum(row["outcome"] == "VALID" for row in some)
        for which, some in (("shadow", shadows), ("users", asked.values()))
    }
    assert pair["both_valid"] + pair["only_shadow_valid"] == found["shadow"]
    assert pair["both_valid"] + pair["only_users_valid"] == found["users"]
    assert purposes["purpose"].tolist() == ["request"]
    page = folder / "report.html"
    assert run(folder, "report", "--out", str(page)).returncode == 0
    assert "Of 12 prompts, generation 1 alone found a valid plan for" in page.read_text("utf-8")
    assert run(folder, "verify").returncode == 0


def _is_at_work_before_it_is_asked(folder: Path, changes: tuple[str, ...]) -> None:
    """Else users would wait for it; one that cannot be loaded answers nobody."""
    asked, place = load_experiment(folder / "small.toml", changes), str(folder / "w.duckdb")
    with Warehouse(place, read_only=True) as store:
        checkpoint = checkpoint_of(store, asked, 1).folder
    deployed = Deployed(place, asked, Clients())
    assert (deployed.silent, deployed.at_work(1) is not None) == (1, True)
    deployed.close()
    away = checkpoint.rename(checkpoint.with_name("away"))
    deployed = Deployed(place, asked, Clients())
    assert (deployed.silent, deployed.current) == (None, 0)
    deployed.close()
    away.rename(checkpoint)


def test_a_user_can_be_forgotten(folder: Path) -> None:
    """No byte of the texts is left, and what learned from them is named."""
    key = {"POSTERITY_USER_KEY": "secret"}
    word = "zzebra"
    with gateway(folder, **key) as (url, _):
        for number in range(25):
            user = "alice" if number % 3 == 0 else "bob"
            own = body(number, user=user, metadata={"note": word} if user == "alice" else None)
            if number == 0:  # a task that bob has too, with words that are no part of it
                shared = own["problem"]
                named = shared.replace("(define (problem ", f"(define (problem {word}")
                own["problem"] = f"{named}; {word}\n"
            elif number == 1:
                own["problem"] = shared
            elif user == "alice":  # one that nobody else has, and that names its objects
                own["problem"] = re.sub(r"\bb(\d)\b", rf"{word}\1", own["problem"])
                own["domain"] = f"{DOMAINS['blocksworld'].text}; {word}\n"
            told = httpx.post(f"{url}/plans", json=own, timeout=WAIT).json()
            said = {"trace": told["trace"], "feedback": "accept", "comment": word, "user": user}
            if number == 2:  # of what bob was answered
                said["user"] = "alice"
            elif user == "bob":
                del said["comment"]
            heard = httpx.post(f"{url}/feedback", json=said, timeout=WAIT)
            assert heard.status_code == 200, heard.text
        last = told["trace"]
        for _ in range(2):  # a correction, and one of that
            wanted = {"trace": last, "feedback": "reject", "plan": f"; {word}", "user": "carol"}
            last = httpx.post(f"{url}/feedback", json=wanted, timeout=WAIT).json()["correction"]
    run(folder, "run", str(folder / "small.toml"), "--plain")
    assert any(
        word.encode() in file.read_bytes() for file in folder.glob("w.duckdb*") if file.is_file()
    )
    run(folder, "audit")  # its findings name objects of the plans
    without = run(folder, "forget", "--user", "alice")
    assert without.returncode == 2
    assert "set POSTERITY_USER_KEY" in without.stderr
    done = run(folder, "forget", "--user", "alice", variables=key)
    assert done.returncode == 0, done.stderr
    assert "11 traces erased" in done.stdout
    assert "generation 1 of" in done.stdout
    assert "learned from" in done.stdout
    assert "exports and pushes of before may hold them too" in done.stdout
    for file in folder.rglob("*"):
        assert not file.is_file() or word.encode() not in file.read_bytes(), file
    assert run(folder, "report", "--out", str(folder / "anew.html")).returncode == 0
    assert word not in (folder / "anew.html").read_text("utf-8")
    again = run(folder, "forget", "--user", "alice", variables=key)
    assert (again.returncode, "no answer here belongs" in again.stderr) == (2, True)
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        kept = store.frame("SELECT text FROM traces WHERE purpose = 'request'")["text"]
        assert (kept == "").sum() == 9
        assert store.frame("FROM forgotten")["text_hash"].str.len().eq(32).all()
        alone = (
            "SELECT trace FROM traces JOIN tasks AS k USING (task) WHERE text = '' AND k.pddl = ''"
        )
        [shown, *_] = store.frame(alone)["trace"]
    assert "its task and its text were erased" in run(folder, "show", shown).stdout
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        assert not store.frame("SELECT * FROM best_plans WHERE text = ''").to_dict("records")
        told = store.frame("FROM deployments")
    assert (told["acceptance_low"].min() >= 0, told["acceptance_high"].max() <= 1) == (True, True)
    checked = run(folder, "verify")
    assert "0 disagreements" not in checked.stdout
    assert "they rest on traces that were forgotten" in checked.stdout
    assert ", 0 disagree\n" in checked.stdout
    assert not re.search(r"[1-9]\d* disagree$", checked.stdout, re.M), checked.stdout
    assert run(folder, "promote", "0").returncode == 0
    weights = next((folder / "w.duckdb.checkpoints").glob("*/generation-001"), None)
    assert weights is not None
    weights.rename(folder / "elsewhere")
    both = ("--set", "deployment.shadow=1", "--set", "deployment.candidate=0.9")
    with gateway(folder, *both, **key) as (url, _):
        first = httpx.post(f"{url}/plans", json=body(900, session="s"), timeout=WAIT).json()
        gone = httpx.post(f"{url}/plans", json=body(901) | {"model": "small@1"}, timeout=WAIT)
    assert first["generation"] == 0
    assert (gone.status_code, str(folder) in gone.text) == (503, False)
    (folder / "elsewhere").rename(weights)
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        purposes = store.frame("SELECT DISTINCT purpose FROM traces")["purpose"]
    assert "shadow" not in set(purposes), "what learned from her answers nobody, also in silence"
    assert run(folder, "promote", "1").returncode == 0
    anew = run(folder, "run", str(folder / "small.toml"), "--plain", "--without-forgotten")
    assert anew.returncode == 0, anew.stderr
    assert "generation 0 is deployed again" in anew.stdout
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        [experiment] = store.every(Experiment)
        made = {one.index: one.parent for one in store.generations(experiment.id)}
        learned = store.frame(
            "SELECT generation, trace IN (SELECT trace FROM forgotten) AS gone FROM stg_decisions "
            "WHERE kept"
        )
        tainted = store.frame("FROM tainted")["generation"].tolist()
        promoted = [one.generation for one in store.promotions(experiment.id)]
    assert (made, tainted, promoted) == ({0: None, 1: 0, 2: 0}, [1], [0, 1, 0, 1, 0, 2])
    assert learned.groupby("generation")["gone"].any().to_dict() == {1: True, 2: False}
    more = run(folder, "run", str(folder / "small.toml"), "--plain", "--without-forgotten")
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        again = [one.index for one in store.generations(experiment.id)]
    assert again == [0, 1, 2], f"nothing is left to be made anew: {more.stdout}"


def run_command(folder: Path) -> list[str]:
    from tests.processes import posterity

    file = str(folder / "small.toml")
    return posterity("run", file, "--plain", "--warehouse", str(folder / "w.duckdb"))


@pytest.mark.slow  # `make chaos` kills gateways too
def test_no_answered_request_is_lost_or_doubled_by_kills(folder: Path) -> None:
    given: dict[str, str] = {}
    for round in range(3):
        with gateway(folder, end=signal.SIGKILL) as (url, _), ThreadPoolExecutor(6) as pool:

            def ask(number: int, url: str = url) -> None:
                try:
                    answer = httpx.post(f"{url}/plans", json=body(number), timeout=WAIT).json()
                except httpx.TransportError:
                    return  # not answered: it may be written down or not
                given[answer["trace"]] = answer["text"]

            waiting = [pool.submit(ask, 1000 * round + n) for n in range(60)]
            while sum(one.done() for one in waiting) < 20:
                time.sleep(0.01)
            pool.shutdown(wait=False, cancel_futures=True)
    run(folder, "run", str(folder / "small.toml"), "--plain")
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        rows = store.frame("SELECT trace, text FROM traces WHERE purpose = 'request'")
    assert len(given) >= 60
    assert rows["trace"].is_unique
    assert given.items() <= dict(zip(rows["trace"], rows["text"], strict=True)).items()


def test_others_than_this_machine_need_a_key(folder: Path) -> None:
    refused = run(folder, "deploy", str(folder / "small.toml"), "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 2
    assert "posterity keys NAME" in refused.stderr
    assert "POSTERITY_API_KEYS" in refused.stderr
    with gateway(folder, POSTERITY_API_KEYS="one-key, another-key") as (url, _):
        assert httpx.get(f"{url}/models").status_code == 401
        assert httpx.get(f"{url.removesuffix('/v1')}/healthz").status_code == 200
        with openai.OpenAI(base_url=url, api_key="another-key") as client:
            assert client.models.list().data
        with openai.OpenAI(base_url=url, api_key="wrong") as client, pytest.raises(
            openai.AuthenticationError, match="wrong or missing API key"
        ):  # fmt: skip
            client.models.list()


def test_clients_have_keys_that_can_be_revoked(folder: Path) -> None:
    nobody = run(folder, "keys")
    assert nobody.returncode == 0
    assert "team-a" not in nobody.stdout
    for words in (
        ["--revoke"],
        ["x\ty"],
        ["team-a", "--revoke"],
        ["team-a", "--pages", "--revoke"],
    ):
        assert run(folder, "keys", *words).returncode == 2, words
    made = run(folder, "keys", "team-a")
    key, other = made.stdout.strip(), run(folder, "keys", "operator", "--pages").stdout.strip()
    assert made.returncode == 0
    assert len({key, other}) == 2
    assert min(len(key), len(other)) > 40
    again = run(folder, "keys", "team-a")
    assert (again.returncode, again.stdout) == (2, "")
    assert "'team-a' has a key" in again.stderr
    with gateway(folder, "--host", "0.0.0.0") as (url, process):
        url = url.replace("0.0.0.0", "127.0.0.1")
        root = url.removesuffix("/v1")

        def status(path: str, key: str) -> int:
            return httpx.get(path, headers={"authorization": f"Bearer {key}"}).status_code

        assert status(f"{url}/models", key) == status(f"{url}/models", other) == 200
        assert status(f"{url}/models", "pk-wrong") == httpx.get(f"{url}/models").status_code == 401
        assert status(f"{root}/sql", key) == 401, "a client does not read every trace"
        assert httpx.get(f"{root}/sql", auth=("me", key)).status_code == 401
        assert status(f"{root}/sql", other) == 200
        for name in ("team-a", "operator"):
            assert run(folder, "keys", name, "--revoke").returncode == 0
        end = time.monotonic() + WAIT
        while status(f"{url}/models", other) == 200 and time.monotonic() < end:
            time.sleep(0.1)
        for opened in (key, other, "none"):
            assert status(f"{url}/models", opened) == 401, "nobody comes in when the last is gone"
        added = run(folder, "keys", "team-a").stdout.strip()
        while status(f"{url}/models", added) == 401 and time.monotonic() < end:
            time.sleep(0.1)
        assert status(f"{url}/models", added) == 200
    assert run(folder, "keys", "team-a", "--revoke").returncode == 0
    with gateway(folder) as (url, _):
        assert httpx.get(f"{url}/models").status_code == 401, "nor after a restart, on loopback"
    listed = run(folder, "keys").stdout
    assert (listed.count("team-a"), listed.count("UTC")) == (2, 6)
    assert "API and pages" in listed
    for path in folder.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
    assert key not in process.errors
    with duckdb.connect(str(folder / "w.duckdb")) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = NULL")
    found = run(folder, "verify", "--measured", "0")
    assert found.returncode == 1
    assert "api_keys" in found.stdout + found.stderr


def test_requests_are_passed_on_to_a_model_server(tmp_path: Path) -> None:
    """Two of llama.cpp answer, and when one has died, the other; PDDL in a chat is found, and
    judged when it is loaded.
    """
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    with left_alone(file) as (server, process), left_alone(file) as (other, _):
        served = SERVED.format(urls=f'"{server}", "{other}"')
        experiment(tmp_path, 0, "").write_text(
            (tmp_path / "small.toml").read_text().replace("[model]", served)
        )
        made = run(tmp_path, "run", str(tmp_path / "small.toml"), "--plain")
        assert made.returncode == 0, made.stderr
        with gateway(tmp_path) as (url, _), ThreadPoolExecutor(6) as pool:
            words = {"model": "small", "messages": [{"role": "user", "content": TASK}]}
            sent = pool.map(
                lambda seed: httpx.post(
                    f"{url}/chat/completions", json={**words, "seed": seed}, timeout=WAIT
                ),
                range(6),
            )
            answers = [answer.json() for answer in sent]
            process.kill()
            planned = httpx.post(f"{url}/plans", json=body(1, max_tokens=5), timeout=WAIT).json()
            rows = {row["trace"]: row for row in settled(tmp_path, 7)}
    given = {one["id"]: one["choices"][0]["message"]["content"] for one in answers}
    assert given.items() <= {trace: row["text"] for trace, row in rows.items()}.items()
    assert {row["weights_hash"] for row in rows.values()} == {"unknown"}
    assert {row["policy"] for row in rows.values()} == {"served tiny"}
    assert all(row["logprob"] < 0 for row in rows.values())
    judged = {rows[trace]["outcome"] for trace in given}
    assert judged <= {"NO_PLAN", "TRUNCATED"}
    assert planned["outcome"] in ("NO_PLAN", "TRUNCATED")
    assert run(tmp_path, "verify").returncode == 1  # weights that only a server has


def test_a_model_servers_tokens_are_streamed(tmp_path: Path) -> None:
    """llama.cpp's tokens reach the user in several pieces, and add up to the trace."""
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    command = f"{sys.executable} -m tests.llama_server {file} {{port}}"
    settings = STARTED.format(file=file, command=command)
    experiment(tmp_path, 0, "").write_text(
        (tmp_path / "small.toml").read_text().replace("[model]", settings)
    )
    cache = {"POSTERITY_CACHE": str(tmp_path / "cache")}
    made = run(tmp_path, "run", str(tmp_path / "small.toml"), "--plain", variables=cache)
    assert made.returncode == 0, made.stderr
    with gateway(tmp_path, **cache) as (url, _):
        with openai.OpenAI(base_url=url, api_key="any") as client:
            stream = client.completions.create(
                model="small", prompt="b1 on b2", stream=True, max_tokens=24, seed=3
            )
            pieces = [(one.id, one.choices[0].text) for one in stream]
            with pytest.raises(openai.BadRequestError, match="exceed the model's context") as long:
                client.completions.create(model="small", prompt="b1 on b2 " * 3000, max_tokens=24)
            assert long.value.code == "context_length_exceeded"
            whole = client.completions.create(model="small", prompt="b1 on b2", max_tokens=2)
            assert whole.usage.prompt_tokens > 3, "tokens, not words"
        row, _ = sorted(settled(tmp_path, 2), key=lambda one: one["trace"] != pieces[0][0])
    assert {trace for trace, _ in pieces} == {row["trace"]}
    assert "".join(text for _, text in pieces) == row["text"]
    assert len([text for _, text in pieces if text]) > 3


STARTED = """[model]
policy = "served"
base = "{file}"
prompt = "pddl"
server = {{ command = "{command}", model = "tiny" }}"""


def test_a_prompt_full_of_brackets_is_no_task() -> None:
    """Nor does it take long: only a few definitions are looked at."""
    with pytest.raises(InvalidInput, match="no end"):
        task_in("(define (problem x)" + "(define (domain " * 16_000)
    with pytest.raises(InvalidInput, match="names no domain"):
        task_in("(define (problem x))(define (domain y))")
    found = task_in(TASK)
    assert found is not None
    assert read_task(*found).problem.name


SERVED = """[model]
policy = "served"
base = "tiny"
prompt = "pddl"
server = {{ urls = [{urls}] }}"""


def test_too_many_at_once_are_told_to_come_back(folder: Path) -> None:
    with gateway(folder, "--waiting", "1") as (url, process), ThreadPoolExecutor(24) as pool:
        asked = body(5, max_tokens=400, temperature=2.0)
        found = list(
            pool.map(lambda _: httpx.post(f"{url}/plans", json=asked, timeout=WAIT), range(24))
        )
        codes = [answer.status_code for answer in found]
        assert set(codes) == {200, 429}
        [busy, *_] = [answer for answer in found if answer.status_code == 429]
        assert busy.headers["retry-after"] == "1"
        assert busy.json()["error"]["code"] == "rate_limit_exceeded"
    assert process.returncode == 0, "it stops as it should"


def test_a_plan_that_was_begun_is_finished_and_no_more_wait_than_may(folder: Path) -> None:
    with gateway(folder, "--waiting", "2") as (url, _), ThreadPoolExecutor(24) as pool:
        # No plan is as short as that, so that all attempts are taken.
        asked = [body(number, attempts=3, max_tokens=2) for number in range(5, 149, 6)]
        told = list(pool.map(lambda one: httpx.post(f"{url}/plans", json=one, timeout=WAIT), asked))
    assert {answer.status_code for answer in told} == {200, 429}
    attempts = [answer.json()["attempts"] for answer in told if answer.status_code == 200]
    assert set(attempts) == {3}
    assert len(settled(folder, sum(attempts))) == sum(attempts)


def test_connections_that_say_nothing_leave_files_to_the_gateway(folder: Path) -> None:
    """A database that cannot open its file would end the process."""
    with gateway(folder) as (url, process):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (256, 256))
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(300)]
        time.sleep(3)  # it looks at the snapshot meanwhile
        assert process.returncode is None
        for one in silent:
            one.close()
        time.sleep(1)
        assert httpx.post(f"{url}/plans", json=body(1), timeout=WAIT).status_code == 200


def test_feedback_is_taken_on_what_no_loader_could_load_yet(folder: Path) -> None:
    """A run may have the file for hours, and the gateway may be started again meanwhile."""
    with Warehouse(folder / "w.duckdb"):
        with gateway(folder) as (url, _):
            trace = httpx.post(f"{url}/plans", json=body(1), timeout=WAIT).json()["trace"]
        with gateway(folder) as (url, _):
            said = {"trace": trace, "feedback": "accept"}
            heard = httpx.post(f"{url}/feedback", json=said, timeout=WAIT)
    assert heard.status_code == 200, heard.text


def test_a_secret_that_changed_is_known_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = File(tmp_path / "w.duckdb")
    monkeypatch.setenv("POSTERITY_USER_KEY", "the first one")
    assert not other_secrets(place, remember=True)
    assert not other_secrets(place)
    for other in "the second one", "":
        monkeypatch.setenv("POSTERITY_USER_KEY", other)
        assert other_secrets(place)
        assert other_secrets(place, remember=True)
    assert "first one" not in (place.landing / "user-keys").read_text()


def test_the_messages_of_a_chat_are_no_longer_together_than_one_may_be() -> None:
    message = {"role": "user", "content": "a" * 200_000}
    Chat(model="small", messages=[message])
    with pytest.raises(ValidationError, match="messages of 400014 characters, of which 262144"):
        Chat(model="small", messages=[message, message])


def test_a_stream_that_its_client_left_is_written_down_before_the_end(folder: Path) -> None:
    asked = {"model": "small", "prompt": " b1 clear on-table\n", "stream": True, "n": 8,
             "max_tokens": 400, "temperature": 2.0}  # fmt: skip
    with (
        gateway(folder) as (url, _),
        httpx.stream("POST", f"{url}/completions", json=asked, timeout=WAIT) as answer,
    ):
        first = next(line for line in answer.iter_lines() if line.startswith("data: "))
    traces = json.loads(first.removeprefix("data: "))["posterity"]["traces"]
    assert {row["trace"] for row in settled(folder, 8)} == set(traces)
