"""Processes below another one: finding and killing them."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


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
