"""Child processes that run servers: free ports, stopping one, the end of its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

STOP = 20.0
"""Seconds that a process has to stop before it is killed."""
LOOK = 0.25
"""Seconds between looks whether a process has ended."""
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before one that has ended is started again, doubled each time until it stays up that
long.
"""
GUARD = f"""
import os, signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, lambda *_: None)  # the whole group gets it: the server ends first
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
closed = threading.Event()
def wait():
    status = server.wait()
    if closed.is_set():  # whatever it started ends below
        return
    os.killpg(0, signal.SIGTERM)
    os._exit(status if status >= 0 else 128 - status)
threading.Thread(target=wait, daemon=True).start()
sys.stdin.read()
closed.set()
os.killpg(0, signal.SIGTERM)
try:
    server.wait({STOP / 2})
finally:
    os.killpg(0, signal.SIGKILL)
"""
"""Program of a process between us and a server. Its input closes when we end, even if killed, and
then it stops the server and all that this has started.
"""


def guarded(command: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    """Start a server in a group of its own, which ends when this process does, however that ends.

    `how` goes to Popen. Closing the input of what is returned stops it too.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GUARD, *command],
        stdin=subprocess.PIPE, start_new_session=True, **how,
    )  # fmt: skip


def stop(process: subprocess.Popen[Any]) -> None:
    """Terminate a process and wait for it; kill it if that takes longer than STOP."""
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop_group(process: subprocess.Popen[Any]) -> None:
    """The same for a process that leads a session of its own, and for all that it has started."""
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP)
    # What it started may outlive it, as vLLM's engine does.
    _signal_group(process, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _signal_group(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class Kept:
    """A process that is started again whenever it ends, until the block `alive` is left.

    `start` starts it; `ended` is told of each that has ended, before there is another one.
    """

    def __init__(
        self,
        start: Callable[[], subprocess.Popen[bytes]],
        ended: Callable[[subprocess.Popen[bytes]], None],
    ) -> None:
        self._start, self._ended = start, ended
        self.process = start()

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Look after it while the block runs. Whoever leaves the block stops what is running."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(over,), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def _keep(self, over: threading.Event) -> None:
        pause, since = PAUSE, time.monotonic()
        while not over.wait(LOOK):
            if self.process.poll() is None:
                continue
            if time.monotonic() - since > LONGEST_PAUSE:
                pause = PAUSE
            with suppress(Exception):  # who cannot be told must not keep it from being started
                self._ended(self.process)
            if over.wait(pause):
                return
            with suppress(OSError):  # too little memory, perhaps: the next look tries again
                self.process = self._start()
            since, pause = time.monotonic(), min(2 * pause, LONGEST_PAUSE)


def free_port() -> int:
    """A loopback port that is free now; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    """Whether a loopback port can be listened at."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def last_words(log: IO[bytes]) -> str:
    """The last 1,000 bytes of a log as text, or "nothing" if it is empty."""
    # Where it is, not by moving to it: the process that writes it shares our place in it.
    end = os.fstat(log.fileno()).st_size
    said = os.pread(log.fileno(), 1000, max(0, end - 1000)).decode(errors="replace")
    return said.strip() or "nothing"


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends; Ctrl-C, which a
    terminal sends to both, is for the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="ends with its parent", daemon=True).start()
