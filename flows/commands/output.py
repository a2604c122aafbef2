"""Query results as a table, CSV, JSON or Parquet on standard output."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from planners.errors import InvalidInput, harmless


def write_result(result: pa.Table, form: str) -> None:
    """Write a result in one of `FORMATS`. Raises InvalidInput on an unknown format."""
    if form not in FORMATS:
        raise InvalidInput(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
    FORMATS[form](result)


def _table(result: pa.Table) -> None:
    table = Table()
    for field in result.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        name = Text(harmless(field.name))
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in result.to_pylist():
        table.add_row(*(_cell(value) for value in row.values()))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def _cell(value: object) -> Text:
    """A value as text; not a string, which would be read as markup."""
    if value is None:
        return Text()
    return Text(f"{value:.4g}" if isinstance(value, float) else harmless(str(value)))


def _csv(result: pa.Table) -> None:
    text = result.to_pandas().to_csv(index=False)
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)


def _json(result: pa.Table) -> None:
    sys.stdout.write(json.dumps(result.to_pylist(), default=str) + "\n")


def _parquet(result: pa.Table) -> None:
    import pyarrow.parquet as parquet

    if sys.stdout.isatty():
        raise InvalidInput(
            "Parquet is binary; send it to a file: posterity query ... --format parquet > FILE"
        )
    buffer = io.BytesIO()
    parquet.write_table(result, buffer)
    sys.stdout.buffer.write(buffer.getvalue())


FORMATS: dict[str, Callable[[pa.Table], None]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
