"""The result of a query as rows, CSV, JSON or Parquet, whatever its types and names are."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal

import duckdb
import pyarrow as pa

from planners.errors import require_one_of
from warehouse.sandbox.query import NOWHERE


def require_form(form: str) -> None:
    """Raise InvalidInput unless this is one of `FORMS`."""
    require_one_of("format", form, FORMS)


def names_of(result: pa.Table) -> list[str]:
    """The columns' names; the second of a name is `name_1`, as DuckDB does it."""
    found: list[str] = []
    for name in result.column_names:
        unique, number = name, 0
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def rows_of(result: pa.Table) -> Iterator[tuple[object, ...]]:
    """The rows, each value as Python has it, or as text where Python has no such value."""
    return zip(*map(_values, result.columns), strict=True)


def _values(column: pa.ChunkedArray) -> list[object]:
    if not (pa.types.is_interval(column.type) or pa.types.is_union(column.type)):
        with suppress(ValueError, OverflowError, pa.ArrowException):  # such as infinite times
            return list(column.to_pylist())
    return _as_text(column)


def _as_text(column: pa.ChunkedArray) -> list[object]:
    """A column as DuckDB writes it."""
    with duckdb.connect(config=NOWHERE) as connection:
        connection.register("result", pa.table({"column": column}))
        asked = connection.execute('SELECT CAST("column" AS VARCHAR) FROM result')
        return [value for (value,) in asked.fetchall()]


def as_csv(result: pa.Table) -> bytes:
    """CSV in UTF-8, with a heading; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names_of(result))
    writer.writerows([_told(value, "") for value in row] for row in rows_of(result))
    return text.getvalue().encode()


def as_json(result: pa.Table) -> bytes:
    """A JSON list of objects. What JSON has no word for is text, and what is no number is null."""
    names = names_of(result)
    found = [dict(zip(names, map(_plain, row), strict=True)) for row in rows_of(result)]
    return (json.dumps(found, default=_told, allow_nan=False) + "\n").encode()


def as_parquet(result: pa.Table) -> bytes:
    """A Parquet file; a column whose type it has not is text."""
    import pyarrow.parquet as parquet

    columns = []
    for name, column in zip(names_of(result), result.columns, strict=True):
        try:
            parquet.write_table(pa.table({name: column}), io.BytesIO())
        except (pa.ArrowException, ValueError):
            column = pa.chunked_array([_as_text(column)], pa.string())
        columns.append(column)
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays(columns, names_of(result)), buffer)
    return buffer.getvalue()


def _told(value: object, unknown: object = None) -> object:
    """A value that CSV or JSON cannot write itself."""
    if value is None:
        return unknown
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | float) else str(value)


def _plain(value: object) -> object:
    """A value without the numbers that JSON has not."""
    if isinstance(value, Decimal):  # as DuckDB sums whole numbers
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


FORMS: dict[str, Callable[[pa.Table], bytes]] = {
    "csv": as_csv, "json": as_json, "parquet": as_parquet,
}  # fmt: skip
"""The forms of a file, by name."""
