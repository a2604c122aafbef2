"""A served model: completions of a real llama.cpp server, and what servers do wrong."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
from planners.records import Sampling
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
        yield lambda urls, model="tiny", **how: stack.enter_context(
            closing(ServedPolicy(urls, model, pause=0.01, **how))
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = [sys.executable, "-m", "tests.llama_server", str(gguf), str(port)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        policy = at([f"http://127.0.0.1:{port}/v1"], concurrency=2)
        found = policy.stream(PROMPTS * 20, Sampling(max_new_tokens=16), range(60))
        next(found)
        process.kill()
        with pytest.raises(ComponentFailure, match=f"failed {served.TRIES} times, last with"):
            list(found)


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
        return 200, completion(model=body["model"])

    policy = at([faulty(answer)], "base")
    for _ in range(2):
        policy.load_adapter("generation-1", str(Path(__file__).parent))
        assert policy.sample(["b1"], Sampling(), [0])[0].text == "(pickup b1)"
    assert list(loaded) == ["base", "generation-1"], "the one before stays, to go back to"
    with pytest.raises(InvalidInput, match=r"status 404.*No adapter found for /nowhere"):
        policy.load_adapter("generation-2", "/nowhere")


def test_our_mistake_is_raised_at_once(at: At, faulty: Callable[[Answer], str]) -> None:
    asked = []

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return 400, {"error": "the prompt is too long"}

    with pytest.raises(InvalidInput, match=r"status 400.*too long"):
        at([faulty(answer)]).sample(["b1"], Sampling(), [0])
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>proxy</html>", "no JSON object"),
        (b"[1, 2]", "no JSON object"),
        (completion(choices=[]), "no chat completion"),
        (completion(choices=[{"message": {"content": 7}, "finish_reason": "stop"}]), "no text"),
    ],
)
def test_garbage_is_named(
    at: At, faulty: Callable[[Answer], str], content: Any, message: str
) -> None:
    with pytest.raises(ComponentFailure, match=message):
        at([faulty(lambda body: (200, content))]).sample(["b1"], Sampling(), [0])


def test_the_least_busy_server_is_asked(at: At, faulty: Callable[[Answer], str]) -> None:
    counts = [0, 0]

    def counting(number: int) -> Answer:
        def answer(body: dict[str, Any]) -> tuple[int, Any]:
            counts[number] += 1
            return 200, completion()

        return answer

    policy = at([faulty(counting(0)), faulty(counting(1))], concurrency=4)
    assert len(policy.sample(["b1"] * 40, Sampling(), range(40))) == 40
    assert sum(counts) == 40
    assert min(counts) > 0


def test_reasoning_is_kept_and_counted(at: At, faulty: Callable[[Answer], str]) -> None:
    tokens = [{"token": t, "logprob": -0.5} for t in ("Hm", ".", "</think>", "(pickup", " b1)")]
    choice = {
        "message": {"content": "(pickup b1)", "reasoning_content": "Hm."},
        "finish_reason": "stop",
        "logprobs": {"content": tokens},
    }
    url = faulty(lambda body: (200, completion(choices=[choice])))
    [done] = at([url]).sample(["b1"], Sampling(), [0])
    assert done.text == "<think>Hm.</think>(pickup b1)"
    assert (done.reasoning_tokens, done.plan_tokens, done.logprob) == (3, 2, -2.5)
