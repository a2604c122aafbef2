"""A served model: completions of a real llama.cpp server, and what servers do wrong."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from planners.errors import CheckpointError, ComponentFailure, InvalidInput
from planners.models.chat import encode_prompts
from planners.models.checkpoint import load
from planners.models.hub import find_weights
from planners.models.likelihood import summed_logprobs
from planners.policies import served
from planners.policies.model_server import serving
from planners.policies.served import ServedPolicy
from planners.policies.streamed import whole
from planners.processes import free_port, is_free
from planners.records import Sampling
from tests.llama_server import left_alone
from tests.processes import at_work, command_of, kill
from tests.tiny_gguf import write_tiny_gguf

At = Callable[..., ServedPolicy]
PROMPTS = ["b1 on b2", "b2 clear", "b3 on b1, and b1 on b2"]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def imported(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTERITY_CACHE", str(tmp_path_factory.mktemp("cache")))
        return find_weights(str(gguf))


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Iterator[str]:
    """The URL of a llama.cpp server that has the model."""
    command = f"{sys.executable} -m tests.llama_server {{checkpoint}} {{port}}"
    with serving(command, gguf) as url:
        yield url


@pytest.fixture
def at() -> Iterator[Callable[..., ServedPolicy]]:
    """A policy at some URLs, closed at the end."""
    with ExitStack() as stack:
        how = {"pause": 0.01, "patience": 0.5}
        yield lambda urls, model="tiny", **more: stack.enter_context(
            closing(ServedPolicy(urls, model, **{**how, **more}))
        )


def test_a_servers_log_probabilities_are_those_of_the_local_model(
    at: At, llama: str, imported: Path
) -> None:
    policy = at([llama], concurrency=2)
    policy.require_ready()
    policy.prove("say yes")
    found = policy.sample(PROMPTS * 4, Sampling(max_new_tokens=24), range(12))
    assert {c.finish_reason for c in found} <= {"stop", "length"}
    assert len({c.text for c in found}) > 6
    model, tokenizer = load(imported)
    heads = encode_prompts(tokenizer, PROMPTS * 4)
    rows = [(head, list(c.token_ids)) for head, c in zip(heads, found, strict=True)]
    assert all(c.plan_tokens == len(c.token_ids) > 0 for c in found)
    with torch.inference_mode():
        own = summed_logprobs(model, rows).tolist()
    assert [c.logprob for c in found] == pytest.approx(
        own, rel=1e-3
    )  # its cache is in half precision
    assert [c.sampling_logprob for c in found] == [c.logprob for c in found]
    warm = policy.sample(PROMPTS, Sampling(temperature=0.5, max_new_tokens=8), range(3))
    assert [c.sampling_logprob for c in warm] == [None] * 3


def test_a_server_that_dies_is_done_without(at: At, gguf: Path, llama: str) -> None:
    """Whoever asked it asks another at once: here a wait would last longer than any test."""
    with left_alone(gguf) as (other, process):
        policy = at([other, llama], concurrency=2, pause=1e6, patience=1e6)
        policy.require_ready()
        policy.prove("say yes")
        sampling = Sampling(max_new_tokens=24)
        both = policy.sample(PROMPTS * 4, sampling, range(12))
        process.kill()
        process.wait()
        alone = policy.sample(PROMPTS * 4, sampling, range(12))
        assert [one.text for one in alone] == [one.text for one in both]
        gone = at([other, "http://127.0.0.1:1/v1"], pause=0.01, patience=0.1)
        with pytest.raises(ComponentFailure, match="every server, and at last the server"):
            gone.sample(PROMPTS, sampling, range(3))


def test_tokens_go_in_and_tokens_come_out(at: At, llama: str, imported: Path) -> None:
    """No chat template or tokeniser of the server comes between a prompt and its completion."""
    model, tokenizer = load(imported)
    policy = at([llama], concurrency=2, tokenizer=tokenizer)
    policy.prove(PROMPTS[0])
    found = policy.sample(PROMPTS, Sampling(max_new_tokens=24), range(3))
    rows = [
        (head, list(one.token_ids))
        for head, one in zip(encode_prompts(tokenizer, PROMPTS), found, strict=True)
    ]
    assert [one.text for one in found] == [
        tokenizer.decode(list(one.token_ids), skip_special_tokens=True) for one in found
    ]
    with torch.inference_mode():
        own = summed_logprobs(model, rows).tolist()
    assert [one.sampling_logprob for one in found] == pytest.approx(own, rel=1e-3)


def test_tokens_are_passed_on_while_they_are_written(at: At, llama: str, imported: Path) -> None:
    """A stream adds up to what the same request gets at once."""
    _, tokenizer = load(imported)
    policy = at([llama], concurrency=2, tokenizer=tokenizer)
    policy.prove(PROMPTS[0])
    sampling = Sampling(max_new_tokens=24)
    at_once = policy.sample(PROMPTS, sampling, range(3))
    told: list[list[tuple[int, int]]] = [[], [], []]
    heard = [lambda step, token, row=row: told[row].append((step, token)) for row in range(3)]
    found = dict[int, Any]()
    for some in policy.stream(PROMPTS, sampling, range(3), heard=heard):
        found |= some
    for row, one in found.items():
        same = replace(at_once[row], logprob=one.logprob, sampling_logprob=one.sampling_logprob)
        assert one == same
        # which other requests a server computes beside it moves the last digits
        assert one.logprob == pytest.approx(at_once[row].logprob, rel=1e-4)
        assert told[row] == list(enumerate(one.token_ids))


EVENT = {"model": "tiny", "choices": [{"text": "a", "finish_reason": None, "token_ids": [5, 6]}]}
END = {"model": "tiny", "choices": [{"text": "b", "finish_reason": "stop", "token_ids": [7]}]}


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([EVENT], "broke off in the middle"),
        ([EVENT, {"error": {"message": "out of memory"}}], "broke off an answer: .*out of memory"),
        ([EVENT, {"choices": 3}], "streamed what is no completion"),
        ([EVENT, "{"], "streamed what is no completion"),
        ([], "broke off in the middle"),
    ],
)
def test_a_stream_that_is_no_answer(events: list[Any], why: str) -> None:
    lines = [f"data: {one if isinstance(one, str) else json.dumps(one)}" for one in events]
    heard: list[int] = []
    with pytest.raises(ComponentFailure, match=why):
        whole(
            [*lines, "", "data: [DONE]"], "http://server", lambda _, token: heard.append(token), 8
        )
    assert heard == [5, 6] * (len(events) > 0)


def test_a_stream_is_one_answer() -> None:
    lines = [": a comment", *(f"data: {json.dumps(one)}" for one in (EVENT, END)), "data: [DONE]"]
    answer = whole(lines, "http://server", lambda _, __: None, 8)
    assert answer["choices"][0]["text"] == "ab"
    assert answer["choices"][0]["token_ids"] == [5, 6, 7]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_what_a_server_does_not_serve_is_named(at: At, llama: str) -> None:
    with pytest.raises(ComponentFailure, match="does not serve 'other', only tiny"):
        at([llama], "other").require_ready()
    with pytest.raises(ComponentFailure, match="answered as model 'tiny', asked was 'other'"):
        at([llama], "other").sample(["b1"], Sampling(max_new_tokens=2), [0])


def test_a_gguf_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(CheckpointError, match=r"broken\.gguf cannot be imported"):
        find_weights(str(tmp_path / "broken.gguf"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        find_weights(str(tmp_path / "missing.gguf"))
    with pytest.raises(CheckpointError, match="'no_such_package' is not installed"):
        find_weights("package:no_such_package/file.gguf")


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    code = f"{sys.executable} -c 'import sys; sys.exit(\"no weights in \" + sys.argv[1])'"
    with (
        pytest.raises(ComponentFailure, match="ended with status 1; it said: no weights in"),
        serving(f"{code} {{checkpoint}}", tmp_path),
    ):
        pass
    with (
        pytest.raises(InvalidInput, match="cannot be started"),
        serving("no-such-program", tmp_path),
    ):
        pass


def test_a_server_that_dies_in_the_middle(at: At, gguf: Path) -> None:
    with left_alone(gguf) as (url, process):
        policy = at([url], concurrency=2)
        found = policy.stream(PROMPTS * 20, Sampling(max_new_tokens=16), range(60))
        next(found)
        process.kill()
        with pytest.raises(ComponentFailure, match=r"has failed for \d seconds, last with"):
            list(found)


def test_a_server_of_ours_that_dies_is_started_again(at: At, gguf: Path) -> None:
    command = f"{sys.executable} -m tests.llama_server {{checkpoint}} {{port}}"
    with serving(command, gguf) as url:
        policy = at([url], concurrency=2, patience=60.0)
        sampling = Sampling(max_new_tokens=16)
        found = policy.stream(PROMPTS * 20, sampling, range(60))
        parts = [next(found)]
        kill(at_work(os.getpid(), "tests.llama_server")[-1])  # the one before it is its guard
        parts += found
        together = {row: one for part in parts for row, one in part.items()}
        assert [together[row].text for row in range(60)] == [
            one.text for one in policy.sample(PROMPTS * 20, sampling, range(60))
        ]


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something holds within ten seconds: the kernel takes a moment to end a process."""
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


SERVING = """
import sys, time
from pathlib import Path
from random import Random
from planners.policies.model_server import serving
with serving(sys.argv[1], Path(sys.argv[2])) as url:
    print(url, flush=True)
    time.sleep(600)
"""


def test_a_server_of_ours_ends_with_us_even_if_we_are_killed(tmp_path: Path, gguf: Path) -> None:
    command = f"{sys.executable} -m tests.llama_server {{checkpoint}} {{port}}"
    words = [sys.executable, "-c", SERVING, command, str(gguf)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[2].partition("/")[0])
        left = at_work(process.pid, "tests.llama_server")
        process.kill()
    assert len(left) == 2
    assert soon(lambda: is_free(port))
    assert soon(lambda: not any(map(command_of, left)))


Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@pytest.fixture
def faulty() -> Iterator[Callable[[Answer], str]]:
    """A server that answers what a test says, for what no real one can be made to do."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.tell({})

            def do_POST(self) -> None:
                self.tell(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def tell(self, body: dict[str, Any]) -> None:
                status, content = answer({**body, "path": self.path})
                plain = isinstance(content, str)
                told = content.encode() if plain else content
                told = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("content-type", "text/plain" if plain else "application/json")
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def completion(**changes: Any) -> dict[str, Any]:
    choice = {"message": {"content": "(pickup b1)"}, "finish_reason": "stop"}
    return {"model": "tiny", "choices": [choice], "usage": {"completion_tokens": 5}, **changes}


CHOICE: dict[str, Any] = {"message": {"content": "(pickup b1)"}, "finish_reason": "stop"}
LOGPROBS = {"content": [{"token": "(", "logprob": float("nan")}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": [{**CHOICE, "finish_reason": "abort"}]},
        {"choices": [{**CHOICE, "finish_reason": None}]},
        {"choices": [{**CHOICE, "logprobs": LOGPROBS}]},
        {"choices": [{**CHOICE, "logprobs": {"content": [{"token": "(", "logprob": 5.0}]}}]},
        {"choices": [{**CHOICE, "token_ids": [1.7]}]},
        {"choices": [{**CHOICE, "token_ids": [-1]}]},
        {"choices": [{**CHOICE, "token_ids": [2**40]}]},
        {"choices": [{"text": None, "finish_reason": "stop"}]},
        {"usage": {"completion_tokens": -5}},
        {"usage": {"completion_tokens": float("inf")}},
    ],
)
def test_an_odd_answer_is_refused_and_not_recorded(
    changes: dict[str, Any], at: At, faulty: Callable[[Answer], str]
) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, json.dumps(completion(**changes)).encode()

    with pytest.raises(ComponentFailure, match="answered what is no completion"):
        at([faulty(answer)]).sample(["b1"], Sampling(), [7])


def test_what_a_server_says_names_no_key(
    faulty: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def echo(body: dict[str, Any]) -> tuple[int, Any]:
        return 401, {"error": "the key sk-SECRET is wrong"}

    monkeypatch.setenv("POSTERITY_API_KEY", " sk-SECRET\n")
    policy = ServedPolicy([faulty(echo)], "tiny", patience=0.0)
    with closing(policy), pytest.raises(InvalidInput, match=r"the key \*\*\* is wrong"):
        policy.sample(["b1"], Sampling(), [7])
    monkeypatch.setenv("POSTERITY_API_KEY", "sk-\nSECRET")
    with pytest.raises(InvalidInput, match=r"POSTERITY_API_KEY holds characters that no key has$"):
        ServedPolicy(["http://127.0.0.1:9/v1"], "tiny")


def test_a_busy_server_is_asked_again(at: At, faulty: Callable[[Answer], str]) -> None:
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body["seed"])
        return (503, {"error": "busy"}) if len(asked) < 3 else (200, completion())

    [done] = at([faulty(answer)]).sample(["b1"], Sampling(), [7])
    assert asked == [7, 7, 7]
    assert (done.text, done.plan_tokens, done.logprob) == ("(pickup b1)", 5, None)


def test_an_adapter_is_loaded_once_and_answers(at: At, faulty: Callable[[Answer], str]) -> None:
    """As vLLM answers: in plain text that it is loaded, in JSON why not."""
    loaded = {"base": "weights"}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if body["path"] == "/v1/models":
            return 200, {"data": [{"id": name} for name in loaded]}
        if body["path"] == "/v1/load_lora_adapter":
            if not Path(body["lora_path"]).exists():
                return 404, {"error": {"message": "No adapter found for " + body["lora_path"]}}
            assert body["lora_name"] not in loaded
            loaded[body["lora_name"]] = body["lora_path"]
            return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully."
        assert body["path"] == "/v1/chat/completions"
        if body["model"] not in loaded:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        return 200, completion(model=body["model"])

    policy = at([faulty(answer)], "base")
    for _ in range(2):
        policy.load_adapter("generation-1", str(Path(__file__).parent))
        assert policy.sample(["b1"], Sampling(), [0])[0].text == "(pickup b1)"
    assert list(loaded) == ["base", "generation-1"], "the one before stays, to go back to"
    del loaded["generation-1"]  # as when the server was started again
    assert [one.text for one in policy.sample(["b1"] * 8, Sampling(), range(8))] == 8 * [
        "(pickup b1)"
    ]
    with pytest.raises(InvalidInput, match=r"status 404.*No adapter found for /nowhere"):
        policy.load_adapter("generation-2", "/nowhere")


def test_a_refused_adapter_is_told_at_once(at: At, faulty: Callable[[Answer], str]) -> None:
    """vLLM answers 500 to an adapter whose rank is too high."""
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if body["path"] == "/v1/models":
            return 200, {"data": [{"id": "base"}]}
        asked.append(body)
        return 500, {"error": {"message": "LoRA rank 64 is greater than max_lora_rank 16."}}

    with pytest.raises(InvalidInput, match=r"status 500.*rank 64 is greater than max_lora_rank"):
        at([faulty(answer)], "base", patience=60.0).load_adapter("generation-1", "/checkpoints")
    assert len(asked) == 1


def test_a_server_that_is_coming_up_is_waited_for(at: At, faulty: Callable[[Answer], str]) -> None:
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return (503, "Loading model") if len(asked) < 8 else (200, {"data": [{"id": "tiny"}]})

    at([faulty(answer)], patience=0.02).require_ready(start_up=30.0)
    assert len(asked) == 8
    asked.clear()
    with pytest.raises(ComponentFailure, match="Loading model"):
        at([faulty(answer)], patience=0.02).require_ready()


def test_requests_leave_nothing_to_the_servers_own_settings(
    at: At, faulty: Callable[[Answer], str]
) -> None:
    """The model's generation_config.json and llama.cpp's defaults would change what is drawn."""
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        tokens = [{"token": "x", "logprob": -1.0}] * 2
        choice = {**completion()["choices"][0], "logprobs": {"content": tokens}}
        told = {"choices": [{**choice, "token_ids": [7, 2]}], "usage": {"completion_tokens": 2}}
        return 200, completion(**told)

    policy = at([faulty(answer)])
    policy.prove("b1", Sampling(temperature=1.0))
    [done] = policy.sample(["b1"], Sampling(), [0])
    assert (done.token_ids, done.sampling_logprob) == ((7, 2), -2.0)
    neutral = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
    assert all(neutral.items() <= body.items() for body in asked)


def test_a_server_that_knows_openais_fields_alone(at: At, faulty: Callable[[Answer], str]) -> None:
    """Its own sampling settings may apply, so nobody knows what its tokens were drawn from."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "top_k" in body:
            return 422, {"error": "unexpected keys: top_k"}
        choice = {**completion()["choices"][0], "logprobs": {"content": [{"logprob": -1.0}]}}
        return 200, completion(choices=[choice], usage={"completion_tokens": 1})

    policy = at([faulty(answer)])
    policy.prove("b1")
    [done] = policy.sample(["b1"], Sampling(), [0])
    assert (done.logprob, done.sampling_logprob) == (-1.0, None)


def test_a_server_that_tells_too_little_is_not_believed(
    at: At, faulty: Callable[[Answer], str]
) -> None:
    """Without other tokens' log-probabilities, nobody sees whether a temperature is in them."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        choice = {**completion()["choices"][0], "logprobs": {"content": [{"logprob": -1.0}]}}
        return 200, completion(choices=[choice], usage={"completion_tokens": 1})

    policy, warm = at([faulty(answer)]), Sampling(temperature=0.6)
    policy.prove("b1", warm)
    [done] = policy.sample(["b1"], warm, [0])
    assert (done.logprob, done.sampling_logprob) == (None, None)


def test_a_server_that_is_busy_is_asked_the_same_way_again(
    at: At, faulty: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be asked without the neutral settings ever after."""
    monkeypatch.setattr(served, "PROBED", 0.02)
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return (503, "busy") if len(asked) < 8 else (200, completion())

    at([faulty(answer)], patience=30.0).prove("b1")
    assert len(asked) == 8
    assert all("top_k" in body for body in asked)
    asked.clear()

    def strict(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        if len(asked) < 8:
            return 503, "busy"
        return (422, "unexpected keys") if "top_k" in body else (200, completion())

    at([faulty(strict)], patience=30.0).prove("b1")
    assert "top_k" not in asked[-1], "what it refuses once it is there is asked otherwise"


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        ([True], (None, -0.4)),
        ([False], (-1.0, None)),
        ([False, False], (-1.0, None)),
        ([True, False], (None, None)),
    ],
)
def test_which_log_probabilities_a_server_tells_is_found_out(
    at: At, faulty: Callable[[Answer], str], servers: list[bool],
    told: tuple[float | None, float | None],
) -> None:  # fmt: skip
    """Each of them, whose numbers may be as rough as those of bf16."""

    def answering(processed: bool) -> Answer:
        rough = Random(0)

        def answer(body: dict[str, Any]) -> tuple[int, Any]:
            sharp = processed and body["temperature"] != 1
            raw = -0.4 if sharp else -1.0
            noise = rough.uniform(-0.01, 0.01) if body["temperature"] in (0.5, 1.0) else 0.0
            others = [("x", raw + noise), ("y", raw - (2.6 if sharp else 1.3) - noise)]
            top = [{"token": token, "logprob": value} for token, value in others]
            token = {"token": "x", "logprob": raw, "top_logprobs": top}
            choice = {**completion()["choices"][0], "logprobs": {"content": [token]}}
            return 200, completion(choices=[choice], usage={"completion_tokens": 1})

        return answer

    policy, warm = at([faulty(answering(one)) for one in servers]), Sampling(temperature=0.6)
    policy.prove("b1", warm)
    [done] = policy.sample(["b1"], warm, [0])
    assert (done.logprob, done.sampling_logprob) == told


@pytest.mark.parametrize(("narrowed", "told"), [(True, 0.0), (False, None)])
def test_log_probabilities_from_before_top_p_are_not_those_of_the_draw(
    at: At, faulty: Callable[[Answer], str], narrowed: bool, told: float | None
) -> None:
    """Temperature is applied by both servers, and top_p by one before it tells them."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        raw = np.array([2.0, 1.0, 0.0, -1.0]) / body["temperature"]
        share = np.exp(raw) / np.exp(raw).sum()
        if narrowed:
            share[np.cumsum(share) - share >= body["top_p"]] = 0.0
        with np.errstate(divide="ignore"):
            values = np.maximum(np.log(share / share.sum()), -9999.0).tolist()
        top = [{"token": t, "logprob": v} for t, v in zip("abcd", values, strict=True)]
        choice = {**completion()["choices"][0], "logprobs": {"content": [
            {"token": "a", "logprob": values[0], "top_logprobs": top}
        ]}}  # fmt: skip
        return 200, completion(choices=[choice], usage={"completion_tokens": 1})

    policy, narrow = at([faulty(answer)]), Sampling(temperature=0.6, top_p=0.8)
    policy.prove("b1", narrow)
    [done] = policy.sample(["b1"], narrow, [0])
    assert (done.logprob, done.sampling_logprob) == (None, told)


@pytest.mark.parametrize(
    ("usage", "ids", "reason"),
    [
        ({"completion_tokens": 500}, [5] * 500, "500 tokens, where at most 8 were asked for"),
        ({"completion_tokens": 1}, [1 << 20], "no token 1048576"),
    ],
)
def test_more_or_other_tokens_than_were_asked_for_are_refused(
    at: At, faulty: Callable[[Answer], str], usage: dict[str, int], ids: list[int],
    reason: str, tiny_checkpoint: Path,
) -> None:  # fmt: skip
    """A count alone may be of a server that counts its thoughts too."""

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        told = {"logprobs": None, "token_ids": ids}
        return 200, completion(choices=[completion()["choices"][0] | told], usage=usage)

    policy = at([faulty(answer)], tokenizer=load(tiny_checkpoint)[1])
    with pytest.raises(ComponentFailure, match=reason):
        policy.sample(["b1"], Sampling(max_new_tokens=8), [0])


def test_a_stream_that_never_ends_is_refused() -> None:
    piece = json.dumps({"choices": [{"text": "x", "token_ids": [5], "finish_reason": None}]})
    endless = itertools.repeat(f"data: {piece}")
    with pytest.raises(ComponentFailure, match="more than 8 tokens"):
        whole(endless, "http://server", lambda _, __: None, 8)


@pytest.mark.parametrize(
    ("content", "finish", "tokens", "text"),
    [
        (None, "length", ["Hm", "."], "<think>Hm."),  # cut
        (None, "stop", ["Hm", "."], "<think>Hm."),  # never closed
        ("", "stop", ["Hm", ".", "</think>"], "<think>Hm.</think>"),  # closed, no answer
        ("(pickup b1)", "stop", [], "<think>Hm.</think>(pickup b1)"),
    ],
)
def test_the_end_of_reasoning_is_never_made_up(
    at: At, faulty: Callable[[Answer], str], content: Any, finish: str, tokens: Any, text: str
) -> None:
    choice = {
        "message": {"content": content, "reasoning": "Hm."},
        "finish_reason": finish,
        "logprobs": {"content": [{"token": t, "logprob": -0.5} for t in tokens]},
    }
    url = faulty(lambda body: (200, completion(choices=[choice])))
    [done] = at([url]).sample(["b1"], Sampling(), [0])
    assert done.text == text


CHILD = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("up", flush=True)
    time.sleep(600)
"""
PARENT = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen([sys.executable, *sys.argv[2:]], stdout=subprocess.PIPE)
child.stdout.readline()
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


def test_a_stopped_server_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM's engine outlives its parent; here a child that ignores SIGTERM."""
    folder = tmp_path / "a name of several words"
    folder.mkdir()
    (folder / "child.py").write_text(CHILD)
    (folder / "parent.py").write_text(PARENT)
    port = free_port()
    command = f"{sys.executable} {{checkpoint}}/parent.py {{port}} {{checkpoint}}/child.py {port}"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # it is on this machine
    with serving(command, folder):
        assert not is_free(port)
    assert soon(lambda: is_free(port))
