"""The command line. Exit codes: 0 done (valid), 1 the answer is no, 2 bad usage or bad input, 3
interrupted or failed.
"""

from __future__ import annotations

import io
import os
import sys
import traceback

import flows.commands.deploying
import flows.commands.run
import flows.commands.scheduling
import flows.commands.viewing
import flows.commands.warehouse
import flows.commands.why  # noqa: F401  each adds its commands, in the order of --help
from flows.commands.terminal import FAILED, app, tell_error
from planners.errors import ComponentFailure, PosterityError, redacted

OURS = ("planners", "curation", "warehouse", "flows")
"""Packages that cannot be missing: an import of theirs that fails is a bug."""

LETTERS = "backslashreplace"
"""A terminal may lack a letter of a text."""


class _Output(io.FileIO):
    """A descriptor that is written to. When its reader has left, as `head` does, or it is standard
    error, what follows goes nowhere; otherwise what cannot be written is an error, once.
    """

    def write(self, content: object, /) -> int:
        try:
            return super().write(content)  # type: ignore[arg-type]
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            if isinstance(error, BrokenPipeError) or self.fileno() == 2:
                return len(memoryview(content))  # type: ignore[arg-type]
            raise ComponentFailure(f"the output cannot be written: {error.strerror}") from error


def _prepare_streams() -> None:
    """Make the standard streams what every command may use. One that is closed is opened: a file of
    the warehouse would get its number, and be written to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # to processes of ours, too
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (_writer(n, s) for n, s in ((1, sys.stdout), (2, sys.stderr)))


def _writer(number: int, stream: object) -> io.TextIOWrapper:
    """A text stream on a descriptor, in the encoding of the one that there was."""
    if isinstance(stream, io.TextIOWrapper):
        stream.flush()
    encoding = getattr(stream, "encoding", "utf-8")
    raw = _Output(number, "w", closefd=False)
    unbuffered = bool(getattr(stream, "write_through", False))  # PYTHONUNBUFFERED
    by_line = number == 2 or unbuffered or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, LETTERS, line_buffering=by_line)


def main() -> None:
    """Entry point of the `posterity` command. An unforeseen exception exits with 3."""
    _prepare_streams()
    try:
        app()
    except PosterityError as error:  # of a message of the libraries'
        tell_error(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        _tell_odd_argument(error)
        told = redacted(traceback.format_exc())
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and missing.partition(".")[0] not in OURS:
            told = (
                f"error: this needs the package {missing}, which is not installed: "
                "`pip install posterity` brings everything but the extras\n"
            )
        sys.stderr.write(told)
        sys.exit(FAILED)


def _tell_odd_argument(error: Exception) -> None:
    """Exit with 2 if it is an argument, which is no text in this machine's encoding, that failed;
    the name of a file may be one.
    """
    odd = [word for word in sys.argv[1:] if any("\ud800" <= one <= "\udfff" for one in word)]
    if odd and isinstance(error, UnicodeEncodeError | RuntimeError):
        tell_error(f"the argument {odd[0]!r} is no text")
        sys.exit(2)
