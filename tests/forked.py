"""The command in a process of its own, forked from one that has loaded the libraries.

Loading them is most of a short command's time. All else is as a user's process has it.
"""

import atexit
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

PRELOADED = [
    "tests.forked", "peft", "accelerate", "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama", "flows.commands.main", "flows.iterate",
    "flows.audit.audit", "flows.audit.verify", "flows.report.page", "flows.web.gateway",
]  # fmt: skip
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(PRELOADED)
WAIT = 600


def _command(
    words: tuple[str, ...], environment: dict[str, str], folder: str, files: tuple[str, str, str],
    stdout: Connection | None, largest_file: int | None,
) -> None:  # fmt: skip
    """The command in the forked process: its environment, folder, and files 0, 1 and 2."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [folder]
    for number, (name, mode) in enumerate(zip(files, "rww", strict=True)):
        with open(name, mode) as file:
            os.dup2(file.fileno(), number)
    if stdout is not None:
        os.dup2(stdout.fileno(), 1)
        stdout.close()
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            os.fdopen(number, mode, closefd=False), encoding="utf-8", line_buffering=number == 2
        )
        for number, mode in enumerate(("rb", "wb", "wb"))
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = ["posterity", *words]
    from flows.commands.main import main

    try:
        main()
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()


def ran(
    *words: str, environment: Mapping[str, str] | None = None, folder: Path | None = None,
    stdin: str = "", largest_file: int | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """A command that has run to its end. `largest_file`: bytes that a file of it may have."""
    with tempfile.TemporaryDirectory() as place:
        files = tuple(f"{place}/{number}" for number in range(3))
        Path(files[0]).write_text(stdin)
        arguments = (dict(environment or os.environ), str(folder or Path.cwd()), files, None)
        process = FORKS.Process(target=_command, args=(words, *arguments, largest_file))
        process.start()
        process.join(WAIT)
        assert process.exitcode is not None, f"{words}: still at work"
        told = [Path(name).read_text("utf-8") for name in files[1:]]
        return subprocess.CompletedProcess(words, process.exitcode, *told)


class Running:
    """A command at work, as `subprocess.Popen` shows one."""

    def __init__(self, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
        ours, its = FORKS.Pipe(duplex=False)
        self._errors = tempfile.NamedTemporaryFile("r", encoding="utf-8")  # noqa: SIM115
        self._said: str | None = None
        files = (os.devnull, os.devnull, self._errors.name)
        arguments = (dict(environment), str(Path.cwd()), files, its, None)
        self._process = FORKS.Process(target=_command, args=(words, *arguments))
        self._process.start()
        its.close()
        self.stdout = os.fdopen(os.dup(ours.fileno()), encoding="utf-8")
        ours.close()
        self.pid: int = self._process.pid

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def errors(self) -> str:
        """What it has said on standard error."""
        return Path(self._errors.name).read_text("utf-8") if self._said is None else self._said

    def close(self) -> None:
        """Keep what it has said; let go of its files, or Python complains in another test."""
        self._said = self.errors
        self._errors.close()
        self.stdout.close()

    @property
    def returncode(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.exitcode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("posterity", timeout)
        return self._process.exitcode


@contextmanager
def running(*words: str, environment: Mapping[str, str]) -> Iterator[Running]:
    """A command at work while the block runs; killed at its end if it has not ended."""
    process = Running(words, environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.close()
