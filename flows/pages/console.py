"""The SQL console: the sandbox of `posterity query`, with the views' documentation beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa

from flows.pages.source import Source
from flows.report.figures import PALETTE, beside, drawing
from planners.errors import Busy, InvalidInput
from warehouse.places.connect import VIEWS, view_grain
from warehouse.sandbox.query import Limits, ask
from warehouse.sandbox.results import names_of, rows_of
from warehouse.store import Warehouse

LIMITS = Limits(seconds=20.0, memory="512MB", rows=100_000)
SHOWN = 1_000
"""Rows of a result that are shown; an export has them all."""
LARGEST = 1e300
"""Numbers beyond this have no place on an axis."""
CELL = 2000
"""Characters of a value that are shown."""
DRAWN = 6
"""Columns that are drawn at most."""
BARS = 100
"""Bars that are drawn at most; more names than that cannot be read."""
MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/json",
         "parquet": "application/vnd.apache.parquet"}  # fmt: skip
"""The forms of an export."""


@dataclass(frozen=True, slots=True)
class Described:
    """A view or table: what a row is, its columns with their types and sentences."""

    name: str
    is_view: bool
    grain: str
    columns: list[tuple[str, str, str]] = field(default_factory=list)


def catalogue(source: Source) -> list[Described]:
    """Every view and table; views first."""
    return source.kept("catalogue", _catalogue)


def _catalogue(warehouse: Warehouse) -> list[Described]:
    found: dict[str, Described] = {}
    for row in warehouse.query("page_catalogue").itertuples():
        if row.name not in found:
            grain = row.grain if isinstance(row.grain, str) else ""
            if row.name in VIEWS:
                grain = view_grain(row.name)
            found[row.name] = Described(row.name, row.name in VIEWS, grain)
        comment = row.comment if isinstance(row.comment, str) else ""
        found[row.name].columns.append((row.column_name, row.data_type, comment))
    return sorted(found.values(), key=lambda one: (not one.is_view, one.name))


def answer(source: Source, sql: str) -> pa.Table:
    """The result of one SELECT. Raises InvalidInput as `warehouse.sandbox.query.ask` does."""
    *tried, last = source.readable()
    for place in tried:
        try:
            return ask(place, sql, LIMITS)
        except Busy:  # a run has the file: what it published is asked instead
            continue
    return ask(last, sql, LIMITS)


def shown(table: pa.Table) -> tuple[list[str], list[list[object]]]:
    """The names of a result's columns, and its first rows, long values cut."""
    return names_of(table), [list(map(_cut, row)) for row in rows_of(table.slice(0, SHOWN))]


def _cut(value: object) -> object:
    text = str(value)
    return f"{text[:CELL]}..." if len(text) > CELL else value


def _number(value: object) -> object:
    """As a float what DuckDB sums whole numbers to, which no figure takes."""
    return float(value) if isinstance(value, Decimal) else value


def chart(table: pa.Table) -> str:
    """The numeric columns of a result over its first one, as SVG. Raises InvalidInput where there
    are none.
    """
    rows = [list(map(_number, row)) for row in rows_of(table.slice(0, SHOWN))]
    frame = pd.DataFrame(rows, columns=names_of(table)).infer_objects()
    across, *others = frame.columns if len(frame.columns) else [""]
    numeric = [name for name in others if pd.api.types.is_numeric_dtype(frame[name])]
    if not numeric or frame.empty:
        raise InvalidInput(
            "a chart needs rows with a first column to go along, and at least one numeric column"
        )
    along = frame[across]
    drawn_at = [across] if pd.api.types.is_numeric_dtype(along) else []
    numbers = frame[[*drawn_at, *numeric]].to_numpy(dtype=float)
    if (np.abs(numbers) > LARGEST).any():  # what is missing is a gap
        raise InvalidInput(f"a chart needs numbers, all of them below {LARGEST:g}")
    if not pd.api.types.is_numeric_dtype(along):
        frame, along = frame[:BARS], along[:BARS]
    with drawing("chart") as drawn:
        axes = drawn.axes[0]
        for number, name in enumerate(numeric[:DRAWN]):
            colour = PALETTE[number % len(PALETTE)]
            if pd.api.types.is_numeric_dtype(along):
                axes.plot(along, frame[name], "o-", color=colour, label=name, markersize=3.5)
            else:
                places = [p + 0.8 * number / len(numeric[:DRAWN]) for p in range(len(along))]
                axes.bar(places, frame[name], 0.8 / len(numeric[:DRAWN]), color=colour, label=name)
        if not pd.api.types.is_numeric_dtype(along):
            names = [str(value)[:30] for value in along]
            axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_xlabel(str(across))
        beside(axes)
    return drawn.svg
