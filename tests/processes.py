"""The command as a process of its own, and processes below it: finding and killing them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def posterity(*words: str) -> list[str]:
    """The command line of `posterity` with these words, whatever is installed."""
    return [sys.executable, "-c", "from flows.commands.main import main; main()", *words]


def environment(folder: Path) -> dict[str, str]:
    """Ours without what it says of Prefect, whose home is in the folder; one thread."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(folder / "prefect"), "OMP_NUM_THREADS": "1"}


def small_toml(train: int, generations: int) -> str:
    """An experiment of seconds as its file's text."""
    return f"""
name = "small"
extends = "tiny"
generations = {generations}
[tasks]
train = {{ count = {train}, sizes = [3, 5], horizons = [1, 2] }}
heldout = {{ count = 4, sizes = [3, 5], horizons = [1, 2] }}
larger = {{ count = 3, sizes = [6, 7], horizons = [1, 2] }}
[training]
steps = 4
batch = 8
[model]
threads = 1
"""


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    children = [int(line) for line in found.split()]
    return [*children, *(below for child in children for below in descendants(child))]


def command_of(pid: int) -> str:
    """The command line of a process, empty where it is none any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def at_work(pid: int, what: str) -> list[int]:
    """The processes below one whose command line holds these words."""
    return [below for below in descendants(pid) if what in command_of(below)]


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def sweep(group: int) -> None:
    """Kill what a killed process has left behind in its group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
