"""The command line. Exit codes: 0 done (valid), 1 the answer is no, 2 bad usage or bad input, 3
interrupted or failed.
"""

from __future__ import annotations

import io
import sys
import traceback

import flows.commands.deploying
import flows.commands.run
import flows.commands.scheduling
import flows.commands.viewing
import flows.commands.warehouse
import flows.commands.why  # noqa: F401  each adds its commands, in the order of --help
from flows.commands.terminal import FAILED, app
from planners.errors import redacted

OURS = ("planners", "curation", "warehouse", "flows")
"""Packages that cannot be missing: an import of theirs that fails is a bug."""


def main() -> None:
    """Entry point of the `posterity` command. An unforeseen exception exits with 3."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a letter of a text
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:
        told = redacted(traceback.format_exc())
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and missing.partition(".")[0] not in OURS:
            told = (
                f"error: this needs the package {missing}, which is not installed: "
                "`pip install posterity` brings everything but the extras\n"
            )
        sys.stderr.write(told)
        sys.exit(FAILED)
