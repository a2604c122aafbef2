"""Everything against its peers: `python -m benchmarks [--fast] [checker|load|sampling ...]`."""

from __future__ import annotations

import argparse
import time
import warnings

from benchmarks import audit, checker, loop, model, warehouse
from benchmarks.harness import Row, tell

PARTS = {
    "checker": checker.rows,
    "load": warehouse.loads,
    "query": warehouse.queries,
    "audit": audit.rows,
    "sampling": model.samplings,
    "training": model.trainings,
    "loop": loop.loops,
    "orchestration": loop.orchestrations,
    "workers": loop.workers,
}
LONG = {"long-loop": loop.long_loops}
"""Only where they are asked for."""


def main() -> None:
    """Measure the parts that are asked for, or all."""
    known = PARTS | LONG
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="fewer runs on less data")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(known)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(known):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    warnings.simplefilter("ignore", DeprecationWarning)
    measured, seconds = list[Row](), dict[str, float]()
    for part in chosen.parts or PARTS:
        start = time.perf_counter()
        measured += known[part](chosen.fast)
        seconds[part] = time.perf_counter() - start
    tell(measured, seconds)


if __name__ == "__main__":  # workers import this module
    main()
