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
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # TRL's trainer tells its hub of every training
OUT = Path("build/bench.json")
Work = Callable[[], Any]
Row = dict[str, Any]
CONSOLE = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """What is going on, beside the results."""
    CONSOLE.print(text)


class Scale(IntEnum):
    """How much is measured: in three minutes, in a quarter of an hour, or at full size."""

    FAST = 0
    USUAL = 1
    LONG = 2

    def of(self, fast: int, usual: int, long: int) -> int:
        """What this scale takes of three."""
        return (fast, usual, long)[self]

    @property
    def runs(self) -> int:
        """How often ours and the peer are measured in turn."""
        return self.of(3, 5, 5)


class Taken(NamedTuple):
    """What a piece of work took: CPU and wall seconds, and the most memory that this process held
    meanwhile, in GB (None where the system does not tell).
    """

    cpu: float
    wall: float
    memory: float | None


def taken(work: Work) -> Taken:
    """What one call takes."""
    _forget_peak()
    started, start = _cpu(), time.perf_counter()
    work()
    return Taken(_cpu() - started, time.perf_counter() - start, peak())


def _cpu() -> float:
    """CPU seconds of this process and its finished children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _forget_peak() -> None:
    """Let Linux count the most memory from now on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak(process: int | str = "self") -> float | None:
    """The most memory that a process held, or this one since it was forgotten, in GB."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return None


def in_turn(
    name: str, ours: Work, peer: Work, runs: int, repeat: int = 1
) -> list[tuple[Taken, Taken]]:
    """What ours (of `repeat` calls, all) and the peer take, that many times in turn."""
    say(f"{name}, {runs} runs")
    return [(taken(lambda: [ours() for _ in range(repeat)]), taken(peer)) for _ in range(runs)]


def row(
    name: str, unit: str, ours: Work, peer: Work, runs: int, repeat: int = 1,
    sizes: tuple[int, int] = (1, 1),
) -> Row:  # fmt: skip
    """One comparison in CPU time: `repeat` calls of ours against one of the peer, in turn; what a
    call does counts as `sizes`, ours and the peer's.
    """
    pairs = in_turn(name, ours, peer, runs, repeat)
    return _row(name, unit, pairs, "cpu", (sizes[0] * repeat, sizes[1]))


def both_rows(name: str, pairs: Sequence[tuple[Taken, Taken]]) -> list[Row]:
    """The same comparison in CPU time and in wall time."""
    return [_row(name, "CPU s", pairs, "cpu"), _row(f"{name}, wall time", "s", pairs, "wall")]


def _row(
    name: str, unit: str, pairs: Sequence[tuple[Taken, Taken]], clock: str,
    sizes: tuple[int, int] = (1, 1),
) -> Row:  # fmt: skip
    """The row of a clock, each side over its size; with both clocks and the memory beside it."""
    sides = [
        [Taken(t.cpu / size, t.wall / size, t.memory) for t in side]
        for side, size in zip(zip(*pairs, strict=True), sizes, strict=True)
    ]
    ours, peer = ([getattr(t, clock) for t in side] for side in sides)
    return compared(name, unit, ours, peer) | {
        what: [statistics.median([getattr(t, what) for t in side]) for side in sides]
        for what in Taken._fields
        if getattr(sides[0][0], what) is not None
    }


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
        least.append(min(taken(work).cpu for _ in range(runs)))
    return grown(name, sizes, least, runs)


def grown(name: str, sizes: list[int], seconds: Sequence[float], runs: int) -> Row:
    """The row of the exponent with which measured CPU seconds grow with size."""
    logs = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
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
    """What one core can do at most: single-precision products, and bytes copied."""
    square = np.ones((1024, 1024), dtype=np.float32)
    block = np.ones(1 << 25)
    product = min(taken(lambda: square @ square).cpu for _ in range(5))
    copied = min(taken(block.copy).cpu for _ in range(5))
    return {
        "gigaflops_a_core": round(2 * 1024**3 / product / 1e9, 1),
        "copied_gigabytes_a_second": round(2 * block.nbytes / copied / 1e9, 1),
    }


def tell(measured: list[Row], seconds: dict[str, float]) -> None:
    """Write JSON and print it as a table; `seconds`: what measuring each part took."""
    OUT.parent.mkdir(exist_ok=True)
    found = {"machine": machine(), "rows": measured, "seconds": seconds}
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    table = Table(
        "what / peer", "unit", "ours", "peer", "ratio", "spread", "CPU s", "wall s", "GB at most"
    )
    for r in measured:
        low, high = r["spread"]
        sides = (" / ".join(f"{x:.2g}" for x in r.get(what, ())) for what in Taken._fields)
        table.add_row(
            r["name"], r["unit"], f"{r['ours']:.3g}", f"{r['peer']:.3g}", f"{r['ratio']:.2f}x",
            f"{low:.2f}-{high:.2f}x", *sides,
        )  # fmt: skip
    Console(width=150).print(table)
    say("measured in " + ", ".join(f"{part} {s:.0f} s" for part, s in seconds.items()))
