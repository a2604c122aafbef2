"""What the gateway costs: requests to it against a bare server of the answer, at a steady rate.

A scripted policy answers at once, so that what is measured is the gateway: reading the request,
asking, writing the answer to disk, and giving it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.harness import Row, Scale, compared, say
from planners.processes import free_port
from tests.gateway import url_of

RATE, LITELLM_RATE, WARM = 200, 50, 32
"""Requests a second; those that LiteLLM keeps up with on two cores (at 100 its queue grows); and
those before that open the connections.
"""
PROMPT = "Say yes."
DIRECT = """
import json, socket, time, uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
app = FastAPI()
@app.post("/v1/chat/completions")
async def chat(request: Request):
    asked = await request.json()
    message = {"role": "assistant", "content": "yes"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({"id": "x", "object": "chat.completion", "created": int(time.time()),
                         "model": asked["model"], "choices": [choice]})
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", flush=True)
config = uvicorn.Config(app, log_level="warning", access_log=False)
uvicorn.Server(config).run(sockets=[listening])
"""
"""A server that gives the same answer without asking, writing or judging anything."""
TOML = """
name = "scripted"
generations = 0
[tasks]
domain = "blocksworld"
train = {{ count = 2, sizes = [3, 3], horizons = [1, 1] }}
[model]
policy = "scripted"
base = "{script}"
[deploy]
samples = 1
[evaluate]
samples = 1
"""


LITELLM = Path(sys.prefix) / "litellm/bin/litellm"
"""LiteLLM's proxy, in an environment of its own (`make bench`): it pins what we use too."""
KEPT = """
import json, sqlite3
from litellm.integrations.custom_logger import CustomLogger
database = sqlite3.connect("kept.sqlite", check_same_thread=False)
database.execute("CREATE TABLE answers (prompt TEXT, text TEXT)")
class Kept(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        row = json.dumps(kwargs["messages"]), response_obj.choices[0].message.content
        with database:
            database.execute("INSERT INTO answers VALUES (?, ?)", row)
kept = Kept()
"""
"""Its way to keep every answer: a callback, which is called after the answer is given."""
ROUTED = """
model_list: [{{model_name: scripted, litellm_params: {{
  model: openai/scripted, api_base: "{url}", api_key: none}}}}]
litellm_settings: {{callbacks: kept.kept}}
general_settings: {{master_key: {key}}}
"""
KEY = "sk-" + 4 * "0123456789"


def overheads(scale: Scale) -> list[Row]:
    """Milliseconds of a request at a steady rate, at the median and at the 99th percentile."""
    seconds = scale.of(5, 15, 60)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        script, toml, warehouse = (folder / name for name in ("s.jsonl", "s.toml", "w.duckdb"))
        script.write_text(json.dumps({"prompt": PROMPT, "completions": ["yes"]}) + "\n")
        toml.write_text(TOML.format(script=script))
        command = [sys.executable, "-m", "flows"]
        words = [str(toml), "--warehouse", str(warehouse)]
        subprocess.run([*command, "run", *words, "--plain"], check=True, stdout=subprocess.DEVNULL)
        deploy = [*command, "deploy", *words, "--port", "0", "--waiting", "4096"]
        with subprocess.Popen(deploy, stdout=subprocess.PIPE, text=True) as gateway:
            url = url_of(gateway)
            say(f"{RATE} requests a second for {seconds} s at {url}")
            taken = asyncio.run(_at_a_rate(url, seconds))
            slower = asyncio.run(_at_a_rate(url, seconds, LITELLM_RATE))
            gateway.terminate()
        with subprocess.Popen(
            [sys.executable, "-c", DIRECT], stdout=subprocess.PIPE, text=True
        ) as peer:
            assert peer.stdout is not None
            policy = peer.stdout.readline().strip()
            direct = asyncio.run(_at_a_rate(policy, seconds))
            proxied = _through_litellm(policy, folder, seconds)
            peer.terminate()
        folder_of = warehouse.with_name(warehouse.name + ".landing")
        left = list(folder_of.rglob("*.jsonl"))
        count = subprocess.run(
            [*command, "query", "SELECT count(*) AS n FROM requests", "--format", "json",
             "--warehouse", str(warehouse)], check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert not left
        assert json.loads(count.stdout)[0]["n"] == len(taken) + len(slower) + 2 * WARM, (
            "an answer is not in the warehouse"
        )
    return [
        *_percentiles(f"at {RATE} requests a second", "the policy's server alone", taken, direct),
        *_percentiles(f"at {LITELLM_RATE} requests a second", "LiteLLM", slower, proxied),
    ]


def _percentiles(when: str, peer: str, ours: list[float], theirs: list[float]) -> list[Row]:
    """A row for the median and one for the 99th percentile; none where the peer is missing."""
    if not theirs:
        return []
    own, other = (statistics.quantiles(some, n=100) for some in (ours, theirs))
    return [
        compared(f"gateway {when}, {what} / {peer}", "ms", [own[at]], [other[at]])
        for what, at in (("median", 49), ("99th percentile", 98))
    ]


def _through_litellm(policy: str, folder: Path, seconds: int) -> list[float]:
    """The same through LiteLLM's proxy, which keeps the answers in a database too; empty where it
    is not installed.
    """
    if not LITELLM.exists():
        say(f"no {LITELLM}: not compared with LiteLLM (`make bench` installs it)")
        return []
    port = free_port()
    (folder / "kept.py").write_text(KEPT)
    (folder / "config.yaml").write_text(ROUTED.format(url=policy, key=KEY))
    command = [str(LITELLM), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | quiet,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as proxy:  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        while proxy.poll() is None:
            with suppress(httpx.TransportError):
                httpx.get(f"{address}/health/liveliness").raise_for_status()
                break
            time.sleep(0.5)
        taken = asyncio.run(_at_a_rate(f"{address}/v1", seconds, LITELLM_RATE, KEY))
        proxy.terminate()
    with closing(sqlite3.connect(folder / "kept.sqlite")) as kept:
        count = kept.execute("SELECT count(*) FROM answers").fetchone()[0]
    say(f"LiteLLM's callback kept {count} of {len(taken) + WARM} answers")
    return taken


async def _at_a_rate(url: str, seconds: int, rate: int = RATE, key: str = "none") -> list[float]:
    """Milliseconds of each request; each is sent at its time, whatever became of the others."""
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "scripted", "messages": [{"role": "user", "content": PROMPT}]}
    taken: list[float] = []
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(limits=limits, timeout=60, headers=headers) as client:

        async def ask() -> None:
            began = time.perf_counter()
            answer = await client.post(f"{url}/chat/completions", json=body)
            answer.raise_for_status()
            taken.append(1e3 * (time.perf_counter() - began))

        await asyncio.gather(*(ask() for _ in range(WARM)))  # connections
        taken.clear()
        began, waiting = time.perf_counter(), list[asyncio.Task[None]]()
        for number in range(rate * seconds):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            waiting.append(asyncio.create_task(ask()))
        await asyncio.gather(*waiting)
    return taken
