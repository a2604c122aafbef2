"""How things are compared: ours and a peer in turn, in CPU seconds; above 1, ours needs less."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

OUT = Path("build/bench.json")
Work = Callable[[], Any]
Row = dict[str, Any]
CONSOLE = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """What is going on, beside the results."""
    CONSOLE.print(text)


def cpu() -> float:
    """CPU seconds of this process and its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def seconds(work: Work) -> float:
    """CPU seconds of one call."""
    return both_seconds(work)[0]


def both_seconds(work: Work) -> tuple[float, float]:
    """CPU seconds and wall seconds of one call."""
    started, start = cpu(), time.perf_counter()
    work()
    return cpu() - started, time.perf_counter() - start


def row(name: str, unit: str, ours: Work, peer: Work, repeat: int, runs: int) -> Row:
    """One comparison: `repeat` calls of ours against one of the peer, `runs` times in turn."""
    ours_s, peer_s = [], []
    say(f"{name}, {runs} runs")
    for _ in range(runs):
        ours_s.append(seconds(lambda: [ours() for _ in range(repeat)]) / repeat)
        peer_s.append(seconds(peer))
    return compared(name, unit, ours_s, peer_s)


def both_rows(name: str, ours: Work, peer: Work, runs: int) -> list[Row]:
    """The same comparison in CPU time and in wall time."""
    say(f"{name}, {runs} runs")
    pairs = [(both_seconds(ours), both_seconds(peer)) for _ in range(runs)]
    return [
        compared(
            f"{name}{clock}", unit, [pair[0][i] for pair in pairs], [pair[1][i] for pair in pairs]
        )
        for i, (clock, unit) in enumerate((("", "CPU s"), (", wall time", "s")))
    ]


def compared(name: str, unit: str, ours: Sequence[float], peer: Sequence[float]) -> Row:
    """The row of figures that were measured in turn, of which less is better."""
    ratios = [b / a for a, b in zip(ours, peer, strict=True)]
    return {
        "name": name,
        "ours": statistics.median(ours),
        "peer": statistics.median(peer),
        "ratio": statistics.median(ratios),
        "unit": unit,
        "runs": len(ratios),
        "spread": [min(ratios), max(ratios)],
    }


def growth(name: str, sizes: list[int], work_of: Callable[[int], Work], runs: int) -> Row:
    """How CPU time grows with size: `ours` is the exponent (a slope in logarithms), `peer` linear.

    Each size is measured `runs` times and the least is taken, as a busy machine only adds.
    """
    least = []
    say(name)
    for size in sizes:
        work = work_of(size)
        least.append(min(seconds(work) for _ in range(runs)))
    logs = [math.log(size) for size in sizes], [math.log(second) for second in least]
    slope = statistics.linear_regression(*logs).slope
    return {
        "name": name,
        "ours": slope,
        "peer": 1.0,
        "ratio": 1.0 / slope,
        "unit": f"exponent over {sizes[0]} to {sizes[-1]}",
        "runs": runs,
        "spread": [1.0 / slope] * 2,
    }


def machine() -> Row:
    """Where this was measured."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        **_rates(),
    }


def _rates() -> Row:
    """What one core can do at most, single-precision products and bytes copied; and the most memory
    that this process has taken.
    """
    square = np.ones((1024, 1024), dtype=np.float32)
    block = np.ones(1 << 25)
    product = min(both_seconds(lambda: square @ square)[0] for _ in range(5))
    copied = min(both_seconds(block.copy)[0] for _ in range(5))
    return {
        "gigaflops_a_core": round(2 * 1024**3 / product / 1e9, 1),
        "copied_gigabytes_a_second": round(2 * block.nbytes / copied / 1e9, 1),
        "peak_memory_gigabytes": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
        ),
    }


def tell(measured: list[Row]) -> None:
    """Print a table, write JSON."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"machine": machine(), "rows": measured}, indent=2) + "\n")
    table = Table("what / peer", "unit", "ours", "peer", "ratio", "spread")
    for r in measured:
        low, high = r["spread"]
        table.add_row(
            r["name"], r["unit"], f"{r['ours']:.3g}", f"{r['peer']:.3g}", f"{r['ratio']:.2f}x",
            f"{low:.2f}-{high:.2f}x",
        )  # fmt: skip
    Console(width=120).print(table)
