"""Child processes that serve: a free port for one, ending it, and what it said last."""

from __future__ import annotations

import socket
import subprocess
from typing import IO, Any

STOP = 20.0
"""Seconds that a process may take to stop, before it is killed."""


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process, by force where it takes too long."""
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def last_words(log: IO[bytes]) -> str:
    """The end of a log."""
    log.seek(0)
    return log.read()[-1000:].decode(errors="replace").strip() or "nothing"
