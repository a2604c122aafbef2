"""A gateway as a process of its own, before a small experiment."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from planners.domains import DOMAINS
from planners.pddl.printing import print_problem
from tests.forked import Running, ran, running
from tests.processes import environment, small_toml

SETTINGS = """
[deployment]
alone = true
fewest = 20
[curation]
curator = "feedback"
"""


def experiment(folder: Path, generations: int = 2, besides: str = SETTINGS) -> Path:
    """The file of an experiment that learns from users alone, and answers at once."""
    file = folder / "small.toml"
    file.write_text(small_toml(4, generations) + besides)
    return file


def run(
    folder: Path, *words: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of posterity with the folder's warehouse, run to its end."""
    made = environment(folder) | (variables or {})
    return ran(*words, "--warehouse", str(folder / "w.duckdb"), environment=made)


def problem(seed: int) -> str:
    """A problem that a user might have: two or three blocks more than in training or fewer."""
    rng = Random(seed)
    while (found := DOMAINS["blocksworld"].generate(3 + seed % 3, 1 + seed % 2, rng)) is None:
        pass
    return print_problem(found)


def body(seed: int, **besides: Any) -> dict[str, Any]:
    """A planning request."""
    return {"model": "small", "domain": "blocksworld", "problem": problem(seed), **besides}


def url_of(process: Running) -> str:
    """The URL of a gateway's process, with /v1, once it answers."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"answers at (\S+)", line):
            return found[1]
    raise AssertionError("the gateway did not start")


@contextmanager
def gateway(
    folder: Path, *words: str, end: int = signal.SIGTERM, **variables: str
) -> Iterator[tuple[str, Running]]:
    """The URL of a gateway (with /v1), and its process; ends with a signal."""
    command = (
        "deploy", str(folder / "small.toml"), "--port", "0",
        "--warehouse", str(folder / "w.duckdb"), *words,
    )  # fmt: skip
    with running(*command, environment=environment(folder) | variables) as process:
        try:
            yield url_of(process), process
        finally:
            process.send_signal(end)
            process.wait(timeout=60)
