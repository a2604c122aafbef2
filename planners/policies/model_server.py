"""Start a model server for one checkpoint, on the loopback interface, and stop it afterwards.

A server that dies is started again at the same port, so that requests find it if they are patient.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from planners.errors import ComponentFailure, InvalidInput
from planners.processes import Kept, free_port, guarded, last_words, stop_group

POLL = 0.25
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
    # A file, not a pipe: nobody reads it meanwhile, and a full pipe would block the server.
    with TemporaryFile() as log:
        try:
            # Split before it is filled in: a folder's name may have spaces.
            words = [
                word.replace("{checkpoint}", str(checkpoint)).replace("{port}", str(port))
                for word in shlex.split(command)
            ]
        except ValueError as error:
            raise InvalidInput(f"model.server.command: {command!r}: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise InvalidInput(
                f"model.server.command cannot be started: {command!r}: there is no such program"
            )

        def ended(process: subprocess.Popen[bytes]) -> None:
            LOG.warning("the model server ended (status %s) and is started again; it said: %s",
                        process.returncode, last_words(log))  # fmt: skip
            stop_group(process)  # what it has left behind

        server = Kept(lambda: guarded(words, stdout=log, stderr=log), ended)
        try:
            _wait_until_ready(server.process, url, log, start_up)
            with server.alive():
                yield f"{url}/v1"
        finally:
            stop_group(server.process)


def _wait_until_ready(
    process: subprocess.Popen[bytes], url: str, log: IO[bytes], start_up: float
) -> None:
    import httpx

    deadline = time.monotonic() + start_up
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=10, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            slow = f"does not answer after {start_up:g} seconds (model.server.start_up)"
            what = f"ended with status {process.returncode}" if ended else slow
            raise ComponentFailure(f"the model server {what}; it said: {last_words(log)}")
        time.sleep(POLL)
