"""The Prefect server that a run reports to: the user's, or one of our own on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.progress import Watch
from planners.errors import ComponentFailure, InvalidInput
from planners.processes import free_port, guarded, is_free, stop_group

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_CLI_PROMPT": "false",
}
"""Prefect's settings where the user has set none, to keep it private, quiet and patient."""
START_UP = 180.0
"""Seconds that a server may take until it answers."""
LOOK = 2.0
"""Seconds between checks whether it still answers."""
REFUSALS = {401, 403, 422}
"""Statuses of a wrong key, a missing right, and a request of another version."""
SILENT = 5
"""A server that misses more checks than this in a row is started again."""


def quiet() -> None:
    """Apply QUIET. Call it before Prefect is imported: Prefect reads its settings then."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def api_url() -> str | None:
    """URL of the Prefect server that the user named in the environment or a profile, or None."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value()


def require_heard(error: Exception) -> None:
    """Raise ComponentFailure where an error of Prefect's client is a refusal of its server, which
    no waiting cures.
    """
    import httpx

    cause = error if isinstance(error, httpx.HTTPError) else error.__cause__
    if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in REFUSALS:
        raise ComponentFailure(
            f"the Prefect server {api_url()} refuses what it is asked, with status "
            f"{cause.response.status_code}: see PREFECT_API_KEY or PREFECT_API_AUTH_STRING, and "
            "that its version is that of the client; nothing finished is lost"
        ) from error


def server_configured() -> bool:
    """Whether the user has named a Prefect server, in the environment or in a profile.

    Prefect takes a second to import, so it is asked only where there is a file of profiles.
    """
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    return bool(os.environ.get("PREFECT_API_URL")) or (profiles.is_file() and api_url() is not None)


@contextmanager
def prefect_server(watch: Watch, port: int) -> Iterator[str]:
    """URL of the API of a Prefect server: the user's, or else one on loopback at this port.

    The latter is started if none answers, and again if it stops answering while the block runs.
    Port 0 is any free port.
    """
    named = api_url()
    if named:
        watch.say(f"the Prefect server that is configured: {named}")
        yield named
        return
    port = port or free_port()
    url = f"http://127.0.0.1:{port}/api"
    server, over = _Server(port, url), threading.Event()
    if not server.answers() and not is_free(port):
        raise InvalidInput(
            f"port {port} is taken by something that is no Prefect server; name another with --port"
        )
    with _named(url):
        server.start_if_silent()
        keeper = threading.Thread(target=server.keep, args=(over,), daemon=True)
        keeper.start()
        try:
            watch.say(f"Prefect's pages: http://127.0.0.1:{port}")
            yield url
        finally:
            over.set()
            keeper.join()
            server.stop()


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Have Prefect talk to this server while the block runs."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        refresh_global_settings_context()


class _Server:
    """A Prefect server on loopback, started again whenever it fails."""

    def __init__(self, port: int, url: str) -> None:
        self.port, self.url = port, url
        self.process: subprocess.Popen[bytes] | None = None

    def keep(self, over: threading.Event) -> None:
        """Start it again whenever it has ended, or has long been silent, until `over` is set."""
        silent = 0
        while not over.wait(LOOK):
            ended = self.process is not None and self.process.poll() is not None
            silent = 0 if self.answers() else silent + 1
            # A silent server may only be busy. If ours has ended but one answers, leave it.
            if (ended and silent) or silent > SILENT:
                self.stop()
                with suppress(ComponentFailure):  # the next check tries again
                    self.start_if_silent()
                silent = 0

    def answers(self) -> bool:
        """Whether a Prefect server answers at the URL."""
        import httpx

        try:
            return httpx.get(f"{self.url}/health", timeout=10).is_success
        except httpx.TransportError:
            return False

    def start_if_silent(self) -> None:
        """Start it unless one answers, and wait for it. Raises ComponentFailure if it fails."""
        if self.answers():
            return
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
        # In a group of its own, or Ctrl-C would stop it before the run is done with it.
        self.process = guarded(
            [*command, "--port", str(self.port)],
            env={**os.environ, "PREFECT_SERVER_API_PORT": str(self.port)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_UP
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ComponentFailure(
                    f"no Prefect server could be started on port {self.port}; name another with "
                    "--port, or one that is there already with PREFECT_API_URL"
                )
            time.sleep(LOOK / 4)

    def stop(self) -> None:
        """Stop it, if it was started here."""
        if self.process is None:
            return
        stop_group(self.process)
        self.process = None
