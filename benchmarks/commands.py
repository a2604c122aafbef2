"""What commands that read a whole warehouse take as it grows, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.harness import Row, Scale, Taken, both_rows, grown, say

POSTERITY = "import sys; from flows.commands.main import main; sys.argv[0] = 'posterity'; main()"
FILL = """
import sys
from pathlib import Path
from benchmarks.warehouse import fill
fill(Path(sys.argv[1]), int(sys.argv[2]))
"""
"""Not in this process: a child's peak of memory begins at its parent's."""
CURATE = """
import sys
from curation.curators import window
from warehouse.records import Mark
from warehouse.store import Warehouse
with Warehouse(sys.argv[1]) as store:
    mark = Mark("quickstart-0123456789ab", 6, "curate")
    store.decide_by("shortest", window(range(6), "all"), mark)
"""
SCAN = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for table in ("traces", "judgements"):
        connection.execute(f"SELECT max(COLUMNS(*)) FROM {table}").fetchall()
"""
"""The peer: every value of the two largest tables, read once."""


def rows(scale: Scale) -> list[Row]:
    """Rows about commands, on made-up traces, of which `verify` can derive nothing: against a plain
    scan at the largest size, and how they grow.
    """
    sizes = [scale.of(30_000, 300_000, 1_000_000), scale.of(100_000, 3_000_000, 10_000_000)]
    took: dict[str, list[Taken]] = {}
    for size in sizes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "w.duckdb"
            _alone([sys.executable, "-c", FILL, str(path), str(size)])
            for name, command in _commands(path).items():
                say(f"{name}, {size} traces")
                took.setdefault(name, []).append(_alone(command))
    scan = took.pop("scan")
    measured = list[Row]()
    for name, taken in took.items():
        measured += both_rows(f"{name}, {sizes[-1]} traces / a plain scan", [(taken[-1], scan[-1])])
        if scale > Scale.FAST:  # there it is the program's start that counts
            measured.append(grown(f"{name}, growth", sizes, [one.cpu for one in taken], 1))
    return measured


def _commands(path: Path) -> dict[str, list[str]]:
    """What is measured, on this warehouse; what writes comes last."""
    beside = path.parent
    asked = {
        "status": ("status",),
        "verify, the sums of all rows alone": ("verify", "--measured", "0"),
        "report": ("report", "--out", str(beside / "r.html")),
        "export": ("export", str(beside / "e")),
    }  # fmt: skip
    return {
        "scan": [sys.executable, "-c", SCAN, str(path)],
        **{
            name: [sys.executable, "-c", POSTERITY, *words, "--warehouse", str(path)]
            for name, words in asked.items()
        },
        "curate": [sys.executable, "-c", CURATE, str(path)],
    }


def _alone(command: list[str]) -> Taken:
    """What a process takes."""
    began = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    expected = (0, 1) if "verify" in command else (0,)  # 1: it says that it did not judge again
    if process.returncode not in expected:
        raise RuntimeError(f"{command[3:]} failed: {said[-2000:]}")
    return Taken(used.ru_utime + used.ru_stime, perf_counter() - began, used.ru_maxrss * 1024 / 1e9)
