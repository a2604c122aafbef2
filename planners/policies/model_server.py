"""Start a model server for one checkpoint, on the loopback interface, and stop it afterwards."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from planners.errors import ComponentFailure, InvalidInput
from planners.processes import free_port, last_words, stop_group

POLL = 0.25


@contextmanager
def serving(command: str, checkpoint: Path, start_up: float = 600.0) -> Iterator[str]:
    """Run a server's command line while the block runs; yields the URL of its API.

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
            process = subprocess.Popen(
                shlex.split(filled), stdout=log, stderr=log, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"model.server.command cannot be started: {filled!r}: {error}"
            ) from error
        try:
            _wait_until_ready(process, url, log, start_up)
            yield f"{url}/v1"
        finally:
            stop_group(process)


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
