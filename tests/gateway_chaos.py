"""Kills of the gateway and its loader under load: `python -m tests.gateway_chaos --kills 200`.

Clients ask all the time, while the gateway or the loader beside it is killed (SIGKILL) at random
moments and the gateway is started again, as a supervisor would. In the end every answer that a
client got must be one trace of the warehouse with the same text, and no trace may be there twice.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.gateway import PROMPT, TOML
from planners.processes import free_port
from tests.gateway import run, url_of
from tests.processes import at_work, environment, kill, posterity
from warehouse.store import Warehouse

PAUSE = 0.02
"""Seconds between a client's requests."""


class Clients:
    """Threads that ask until they are told to stop, and what they were answered."""

    def __init__(self, url: str, count: int) -> None:
        self.url, self.given, self.failed = url, dict[str, str](), 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        body = {"model": "scripted", "messages": [{"role": "user", "content": PROMPT}]}
        with httpx.Client(timeout=30) as client:
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


def trial(folder: Path, kills: int, rng: random.Random) -> Counter[str]:
    """Kill that often; returns what was killed. Raises AssertionError where an answer is lost."""
    script = folder / "s.jsonl"
    script.write_text(json.dumps({"prompt": PROMPT, "completions": ["yes", "no", "maybe"]}) + "\n")
    (folder / "small.toml").write_text(TOML.format(script=script))
    assert run(folder, "run", str(folder / "small.toml"), "--plain").returncode == 0
    port, killed = free_port(), Counter[str]()
    gateway = start(folder, port)
    clients = Clients(f"http://127.0.0.1:{port}/v1", 4)
    try:
        while sum(killed.values()) < kills:
            time.sleep(rng.uniform(0.1, 6))
            loaders = at_work(gateway.pid, "flows.deployment.loading")
            if loaders and rng.random() < 0.4:
                kill(loaders[0])  # the gateway goes on; the next start has another one
                killed["loader"] += 1
                continue
            gateway.kill()
            gateway.wait()
            killed["gateway"] += 1
            gateway = start(folder, port)
            print(f"{dict(killed)}, {len(clients.given)} answers", flush=True)
    finally:
        clients.stop()
        gateway.terminate()
        gateway.wait()
    with suppress(subprocess.SubprocessError):
        run(folder, "run", str(folder / "small.toml"), "--plain")  # loads what is left
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
    """One trial, in a folder that is deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial(Path(folder), options.kills, random.Random(options.seed))


if __name__ == "__main__":
    main()
