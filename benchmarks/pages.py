"""How soon pages begin to answer, before a large warehouse: the first byte, against one plain scan
of the traces in DuckDB.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import httpx

from benchmarks.harness import Row, Scale, compared, peak, say
from benchmarks.warehouse import ID, fill

PAGES = {
    "experiments": "/",
    "an experiment": f"/experiments/{ID}",
    "a generation": f"/experiments/{ID}/generations/3",
    "tasks": f"/experiments/{ID}/tasks?horizon=5&sort=longest",
    "traces": f"/experiments/{ID}/traces",
    "traces by log-probability": f"/experiments/{ID}/traces?sort=logprob",
    "valid traces by length": f"/experiments/{ID}/traces?outcome=VALID&sort=actions",
    "SQL": "/sql",
}
SCAN = "SELECT generation, purpose, count(*), sum(plan_tokens) FROM traces GROUP BY ALL"
READ_AHEAD = 15.0
"""Seconds that the server has to read ahead before it is asked."""


def pages(scale: Scale) -> list[Row]:
    """Rows about pages."""
    number = scale.of(300_000, 1_000_000, 5_000_000)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "w.duckdb"
        say(f"a warehouse of {number} traces")
        fill(path, number)
        scans = [_scan(path) for _ in range(scale.runs)]
        command = [sys.executable, "-m", "flows", "view", "--warehouse", str(path), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = server.stdout.readline().split()[0]
            try:
                return _asked(url, number, scans, scale.runs)
            finally:
                say(f"the server held {peak(server.pid) or 0:.2f} GB at most")
                server.terminate()


def _asked(url: str, number: int, scans: list[float], runs: int) -> list[Row]:
    time.sleep(READ_AHEAD)
    with httpx.Client(base_url=url, timeout=120) as client:
        listed = client.get(f"/experiments/{ID}/traces?outcome=VALID").text
        found = [re.search(rf"/{kind}/[0-9a-f]{{32}}", listed) for kind in ("traces", "tasks")]
        asked = PAGES | {
            f"a {kind}": match[0]
            for kind, match in zip(("trace", "task"), found, strict=True)
            if match
        }
        return [
            compared(f"page of {name}, {number} traces, first byte / one scan in DuckDB", "ms",
                     [1e3 * _first_byte(client, path) for _ in range(runs)],
                     [1e3 * one for one in scans])
            for name, path in asked.items()
        ]  # fmt: skip


def _first_byte(client: httpx.Client, path: str) -> float:
    begun = time.perf_counter()
    with client.stream("GET", path) as answer:
        assert answer.status_code == 200, path
        parts = answer.iter_raw()
        next(parts)
        taken = time.perf_counter() - begun
        for _ in parts:
            pass
    return taken


def _scan(path: Path) -> float:
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute(SCAN).fetchall()
        begun = time.perf_counter()
        connection.execute(SCAN).fetchall()
        return time.perf_counter() - begun
