"""What the gateway costs: requests to it against a bare server of the answer, at a steady rate.

A scripted policy answers at once, so that what is measured is the gateway: reading the request,
asking, writing the answer to disk, and giving it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.harness import Row, Scale, compared, say
from tests.gateway import url_of

RATE, WARM = 200, 32
"""Requests a second, and those before that open the connections."""
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
            gateway.terminate()
        with subprocess.Popen(
            [sys.executable, "-c", DIRECT], stdout=subprocess.PIPE, text=True
        ) as peer:
            assert peer.stdout is not None
            direct = asyncio.run(_at_a_rate(peer.stdout.readline().strip(), seconds))
            peer.terminate()
        folder_of = warehouse.with_name(warehouse.name + ".landing")
        left = list(folder_of.rglob("*.jsonl"))
        count = subprocess.run(
            [*command, "query", "SELECT count(*) AS n FROM requests", "--format", "json",
             "--warehouse", str(warehouse)], check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert not left
        assert json.loads(count.stdout)[0]["n"] == len(taken) + WARM, (
            "an answer is not in the warehouse"
        )
    ours, theirs = (statistics.quantiles(some, n=100) for some in (taken, direct))
    name = f"gateway at {RATE} requests a second"
    return [
        compared(f"{name}, {what} / the policy's server alone", "ms", [ours[at]], [theirs[at]])
        for what, at in (("median", 49), ("99th percentile", 98))
    ]


async def _at_a_rate(url: str, seconds: int) -> list[float]:
    """Milliseconds of each request; each is sent at its time, whatever became of the others."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": PROMPT}]}
    taken: list[float] = []
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def ask() -> None:
            began = time.perf_counter()
            answer = await client.post(f"{url}/chat/completions", json=body)
            answer.raise_for_status()
            taken.append(1e3 * (time.perf_counter() - began))

        await asyncio.gather(*(ask() for _ in range(WARM)))  # connections
        taken.clear()
        began, waiting = time.perf_counter(), list[asyncio.Task[None]]()
        for number in range(RATE * seconds):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            waiting.append(asyncio.create_task(ask()))
        await asyncio.gather(*waiting)
    return taken
