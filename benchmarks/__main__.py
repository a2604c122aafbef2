"""Everything against its peers: `python -m benchmarks [--fast|--long] [checker|load ...]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from importlib import import_module

from benchmarks.harness import OUT, Row, Scale, tell

PARTS = {
    "checker": "checker.rows",
    "load": "warehouse.loads",
    "query": "warehouse.queries",
    "commands": "commands.rows",
    "audit": "audit.rows",
    "sampling": "model.samplings",
    "training": "model.trainings",
    "loop": "loop.loops",
    "orchestration": "loop.orchestrations",
    "workers": "loop.workers",
    "gateway": "gateway.overheads",
    "pages": "pages.pages",
}
"""Which function of which module measures what."""


def main() -> None:
    """Measure the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    scales = parser.add_mutually_exclusive_group()
    for name, scale, told in (
        ("--fast", Scale.FAST, "less of everything: three minutes instead of a quarter of an hour"),
        ("--long", Scale.LONG, "all of it: millions of traces, the loop for an hour"),
    ):
        scales.add_argument(name, dest="scale", action="store_const", const=scale, help=told)
    parser.set_defaults(scale=Scale.USUAL)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    warnings.simplefilter("ignore", DeprecationWarning)
    names = chosen.parts or list(PARTS)
    if len(names) > 1:
        tell(*alone(names, chosen.scale))
        return
    start = time.perf_counter()
    module, function = PARTS[names[0]].split(".")
    measured = getattr(import_module(f"benchmarks.{module}"), function)(chosen.scale)
    tell(measured, {names[0]: time.perf_counter() - start})


def alone(names: list[str], scale: Scale) -> tuple[list[Row], dict[str, float]]:
    """The rows of each part and what it took, each in a process of its own: no part pays for what
    another left in memory, or talks to its servers.
    """
    measured, seconds = list[Row](), dict[str, float]()
    options = [f"--{scale.name.lower()}"] if scale != Scale.USUAL else []
    for name in names:
        OUT.unlink(missing_ok=True)
        part = [sys.executable, "-m", "benchmarks", *options, name]
        subprocess.run(part, stdout=subprocess.DEVNULL, check=True)
        found = json.loads(OUT.read_text())
        measured += found["rows"]
        seconds |= found["seconds"]
    return measured, seconds


if __name__ == "__main__":  # workers import this module
    main()
