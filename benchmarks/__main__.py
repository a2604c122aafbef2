"""Everything against its peers: `python -m benchmarks [--fast] [checker|load|sampling ...]`."""

from __future__ import annotations

import argparse
import warnings

from benchmarks import audit, checker, loop, model, warehouse
from benchmarks.harness import tell

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


def main() -> None:
    """Measure the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="fewer runs on less data")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    warnings.simplefilter("ignore", DeprecationWarning)
    tell([row for name in chosen.parts or PARTS for row in PARTS[name](chosen.fast)])


if __name__ == "__main__":  # workers import this module
    main()
