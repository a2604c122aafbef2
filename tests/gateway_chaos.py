"""Kills of a gateway and what is beside it: `python -m tests.gateway_chaos --kills 200`.

Clients ask all the time, while the gateway, its loader or its model server is killed (SIGKILL) at
random moments. The gateway is started again, as a supervisor would; it starts the model server
again. In the end every answer that a client got must be one trace of the warehouse with the same
text, and no trace may be there twice.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from benchmarks.gateway import PROMPT, TOML
from planners.processes import free_port
from tests.gateway import run, url_of
from tests.processes import at_work, command_of, environment, kill, posterity
from tests.tiny_gguf import write_tiny_gguf
from warehouse.store import Warehouse

PAUSE = 0.02
"""Seconds between a client's requests."""
SERVED = """
name = "served"
generations = 0
[tasks]
domain = "blocksworld"
train = {{ count = 2, sizes = [3, 3], horizons = [1, 1] }}
[model]
policy = "served"
base = "{file}"
prompt = "pddl"
server = {{ command = "{command}", model = "tiny" }}
[deploy]
samples = 1
max_new_tokens = 24
[evaluate]
samples = 1
max_new_tokens = 24
"""
"""An experiment whose base is answered by llama.cpp."""
BESIDE = {"loader": "flows.deployment.loading", "model server": "tests.llama_server"}
"""What is killed beside the gateway, and a word of its command line."""


class Clients:
    """Threads that ask until they are told to stop, and what they were answered."""

    def __init__(self, url: str, model: str, count: int) -> None:
        self.url, self.model, self.given, self.failed = url, model, dict[str, str](), 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": PROMPT}]}
        with httpx.Client(timeout=90) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(f"{self.url}/chat/completions", json=body)
                    answer.raise_for_status()
                    told = answer.json()
                    self.given[told["id"]] = told["choices"][0]["message"]["content"]
                    time.sleep(PAUSE)
                except (httpx.HTTPError, ValueError):
                    self.failed += 1  # not answered
                    time.sleep(0.05)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    """A gateway, once it answers."""
    words = ["deploy", str(folder / "small.toml"), "--port", str(port)]
    process = subprocess.Popen(
        posterity(*words, "--warehouse", str(folder / "w.duckdb")),
        env=environment(folder), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    url_of(process)
    return process


def experiment(folder: Path, served: bool) -> str:
    """Write an experiment that is answered by a script or by a model server; its name."""
    if served:
        file = write_tiny_gguf(folder / "tiny.gguf")
        command = f"{sys.executable} -m tests.llama_server {file} {{port}}"
        (folder / "small.toml").write_text(SERVED.format(file=file, command=command))
        return "served"
    script = folder / "s.jsonl"
    script.write_text(json.dumps({"prompt": PROMPT, "completions": ["yes", "no", "maybe"]}) + "\n")
    (folder / "small.toml").write_text(TOML.format(script=script))
    return "scripted"


def trial(folder: Path, kills: int, rng: random.Random, served: bool = False) -> Counter[str]:
    """Kill that often; returns what was killed. Raises AssertionError where an answer is lost."""
    name = experiment(folder, served)
    assert run(folder, "run", str(folder / "small.toml"), "--plain").returncode == 0
    port, killed = free_port(), Counter[str]()
    gateway = start(folder, port)
    clients = Clients(f"http://127.0.0.1:{port}/v1", name, 4)
    try:
        while sum(killed.values()) < kills:
            time.sleep(rng.uniform(0.1, 6))
            who = rng.choice(["gateway", *list(BESIDE)[: 1 + served]])
            # The last of a kind: the first may be the process that guards it.
            if who in BESIDE and (there := at_work(gateway.pid, BESIDE[who])):
                kill(there[-1])  # the gateway goes on
                killed[who] += 1
                continue
            gateway.kill()
            gateway.wait()
            killed["gateway"] += 1
            gateway = start(folder, port)
            print(f"{dict(killed)}, {len(clients.given)} answers", flush=True)
    finally:
        clients.stop()
        servers = at_work(gateway.pid, BESIDE["model server"])
        gateway.terminate()
        gateway.wait()
    assert not any(map(command_of, servers)), "a model server is left"
    done = run(folder, "run", str(folder / "small.toml"), "--plain")  # loads what is left
    assert done.returncode == 0, done.stderr
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        rows = store.frame("SELECT trace, text FROM traces WHERE purpose = 'request'")
    assert rows["trace"].is_unique, "a trace is there twice"
    there = dict(zip(rows["trace"], rows["text"], strict=True))
    lost = [trace for trace, text in clients.given.items() if there.get(trace) != text]
    assert not lost, f"{len(lost)} answers have no trace"
    print(f"{dict(killed)}; {len(clients.given)} answers, {len(there)} traces, "
          f"{clients.failed} requests not answered")  # fmt: skip
    return killed


def main() -> None:
    """A trial with a script and one with a model server, in folders that are deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for served in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            trial(Path(folder), options.kills // 2, random.Random(options.seed), served)


if __name__ == "__main__":
    main()
