"""Start a model server for one checkpoint, on the loopback interface, and stop it afterwards.

A server that dies is started again at the same port, so that requests find it if they are patient.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from planners.errors import ComponentFailure, InvalidInput
from planners.processes import free_port, guarded, last_words, stop_group

POLL = 0.25
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a server that has died is started again, doubled each time until it stays up that
long.
"""
LOG = logging.getLogger(__name__)


@contextmanager
def serving(command: str, checkpoint: Path, start_up: float = 600.0) -> Iterator[str]:
    """Run a server's command line while the block runs; yields the URL of its API. It ends with
    this process even if that is killed.

    `start_up`: seconds that it may take to become ready. `{checkpoint}` and `{port}` in the command
    stand for the folder and a free port. The server is ready once /health succeeds; vLLM, SGLang,
    llama.cpp and transformers have that path. Raises InvalidInput if the command cannot be
    started. Raises ComponentFailure, with the end of the log, if the server exits or is not ready
    in time.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    filled = command.replace("{checkpoint}", str(checkpoint)).replace("{port}", str(port))
    # A file, not a pipe: nobody reads it meanwhile, and a full pipe would block the server.
    with TemporaryFile() as log:
        try:
            words = shlex.split(filled)
        except ValueError as error:
            raise InvalidInput(f"model.server.command: {filled!r}: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise InvalidInput(
                f"model.server.command cannot be started: {filled!r}: there is no such program"
            )
        server = _Server(words, log)
        over = threading.Event()
        keeper = threading.Thread(target=server.keep, args=(over,), daemon=True)
        try:
            _wait_until_ready(server.process, url, log, start_up)
            keeper.start()
            yield f"{url}/v1"
        finally:
            over.set()
            if keeper.is_alive():
                keeper.join()
            stop_group(server.process)


class _Server:
    """A server's process, and the one after it if it dies."""

    def __init__(self, words: list[str], log: IO[bytes]) -> None:
        self._words, self._log = words, log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return guarded(self._words, stdout=self._log, stderr=self._log)

    def keep(self, over: threading.Event) -> None:
        """Start it again whenever it has ended, until `over` is set."""
        pause, since = PAUSE, time.monotonic()
        while not over.wait(POLL):
            if self.process.poll() is None:
                continue
            if time.monotonic() - since > LONGEST_PAUSE:
                pause = PAUSE
            LOG.warning("the model server ended (status %s) and is started again; it said: %s",
                        self.process.returncode, last_words(self._log))  # fmt: skip
            stop_group(self.process)  # what it has left behind
            if over.wait(pause):
                return
            self.process, since = self._start(), time.monotonic()
            pause = min(2 * pause, LONGEST_PAUSE)


def _wait_until_ready(
    process: subprocess.Popen[bytes], url: str, log: IO[bytes], start_up: float
) -> None:
    import httpx

    deadline = time.monotonic() + start_up
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=10).is_success:
                return
        except httpx.TransportError:
            pass
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            slow = f"does not answer after {start_up:g} seconds (model.server.start_up)"
            what = f"ended with status {process.returncode}" if ended else slow
            raise ComponentFailure(f"the model server {what}; it said: {last_words(log)}")
        time.sleep(POLL)
