"""Shared by all commands: the application, common options, and one message for an error."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from planners.errors import Busy, InvalidInput, PosterityError, harmless
from planners.records import IDENTITY

if TYPE_CHECKING:
    from flows.experiments.experiment import Experiment

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # waiting threads sleep: spinning starves the other core
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # repeats our own message

app = typer.Typer(
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
errors = Console(stderr=True, highlight=False)


@app.callback()
def posterity(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
) -> None:
    """Generation-to-generation training as a scheduled data workflow."""
    if version:
        typer.echo(f"posterity {metadata.version('posterity')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


WarehouseFile = Annotated[
    str,
    typer.Option(
        "--warehouse",
        envvar="POSTERITY_WAREHOUSE",
        help="The warehouse: a file, or a lake that machines share (ducklake:...).",
        show_default=True,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: table.key=value. Repeatable."),
]
Named = Annotated[str, typer.Argument(help="A preset's name or a TOML file.")]
OnlyOne = Annotated[
    str | None,
    typer.Argument(help="A preset, TOML file or id; default: the only experiment there is."),
]
ContinueAs = Annotated[
    str | None,
    typer.Option(
        help="Go on with this experiment as it was begun, whatever its file says now.", metavar="ID"
    ),
]
DEFAULT = "posterity.duckdb"
INTERRUPTED = FAILED = 3
QUERY_STOPPED = "Query interrupted"
"""The error that DuckDB makes of Ctrl-C while it is at work."""
STOPPED = "interrupted; nothing finished is lost: run the same command again to resume"


def readable(warehouse: str) -> str:
    """The warehouse; or while a run has it, what was published of it, which is said."""
    from warehouse.places.connect import place_of
    from warehouse.store import Warehouse

    place = place_of(warehouse)
    try:
        Warehouse(place, read_only=True).close()
    except Busy:
        if place.published is place or place.published.is_new:
            raise
        errors.print("a run is at work here; this is as of its last finished generation")
        return str(place.published)
    return warehouse


def named_or_none(experiment: str | None, changes: list[str] | None) -> Experiment | str | None:
    """The experiment that a command names, with its settings changed; an id, as the warehouse has
    it; None if it names none.
    """
    from flows.experiments.reading import load_experiment

    is_id = experiment is not None and IDENTITY.fullmatch(experiment) is not None
    if (experiment is None or is_id) and changes:
        raise InvalidInput("--set needs the preset or the file whose settings it changes")
    return experiment if experiment is None or is_id else load_experiment(experiment, changes)


def tell_error(message: str) -> None:
    errors.print(f"[bold red]error:[/] {escape(harmless(message))}", soft_wrap=True)


@contextmanager
def one_message() -> Iterator[None]:
    """Turn an expected error, or Ctrl-C, into one message and its exit code."""
    try:
        yield
    except PosterityError as error:
        tell_error(str(error))
        raise typer.Exit(error.exit_code) from error
    except (KeyboardInterrupt, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != QUERY_STOPPED:
            raise
        errors.print(STOPPED)
        raise typer.Exit(INTERRUPTED) from None
