"""Query results as a table, or as CSV, JSON or Parquet, on standard output."""

from __future__ import annotations

import sys

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from planners.errors import InvalidInput, harmless, require_one_of
from warehouse.sandbox.results import FORMS, names_of, rows_of

TABLE = "table"
NARROW = 6
"""Letters of a terminal that each column of a table needs, at least."""
DRAWN = 1000
"""Rows of a table that are drawn."""


def require_writable(form: str) -> None:
    """Raise InvalidInput unless a result can be written in this form, and to where it would go."""
    require_one_of("format", form, (TABLE, *FORMS))
    if form == "parquet" and sys.stdout.isatty():
        raise InvalidInput(
            "Parquet is binary; send it to a file: posterity query ... --format parquet > FILE"
        )


def write_result(result: pa.Table, form: str) -> None:
    """Write a result as a table or in one of FORMS."""
    if form == TABLE:
        _table(result)
    else:
        content = FORMS[form](result)
        if sys.stdout.isatty():
            content = harmless(content.decode()).encode()
        sys.stdout.buffer.write(content)
    sys.stdout.flush()


def _table(result: pa.Table) -> None:
    table = Table()
    for name, field in zip(names_of(result), result.schema, strict=True):
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        heading = Text(harmless(name))
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows_of(result.slice(0, DRAWN)):
        table.add_row(*map(_cell, row))
    console = Console()
    if not console.is_terminal:
        Console(width=200).print(table)
    elif console.width < NARROW * len(table.columns):
        _lines(console, result)
    else:
        console.print(table)
    if not len(result):
        console.print("no rows")
    if len(result) > DRAWN:
        console.print(
            f"the first {DRAWN} of {len(result):,} rows; add a LIMIT, or --format csv for all"
        )


def _lines(console: Console, result: pa.Table) -> None:
    """Each row as a line for each of its values, where a table would not fit."""
    names = names_of(result)
    for number, row in enumerate(rows_of(result.slice(0, DRAWN))):
        if number:
            console.print()
        for name, value in zip(names, row, strict=True):
            console.print(Text.assemble((harmless(name), "bold"), ": ", _cell(value)))


def _cell(value: object) -> Text:
    """A value as text; not a string, which would be read as markup."""
    if value is None:
        return Text()
    return Text(f"{value:.4g}" if isinstance(value, float) else harmless(str(value)))
