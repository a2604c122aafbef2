"""Bulk loading of rows, and query results as frames.

Rows are inserted through Arrow in one statement, and rows whose key exists are skipped. DuckDB
itself fills the result frames, three times as fast as row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from warehouse import schema as tables
from warehouse.records import Record

Rows: TypeAlias = Sequence[Record] | Sequence[Mapping[str, Any]] | pa.Table | pd.DataFrame
BATCH = 4096
"""Rows converted to Arrow at a time: few enough that their memory is reused."""
_ARROW = {
    sa.String: pa.string(),
    sa.BigInteger: pa.int64(),
    sa.Double: pa.float64(),
    sa.Boolean: pa.bool_(),
    sa.ARRAY: pa.list_(pa.int64()),
    sa.DateTime: pa.timestamp("us"),
}


def arrow_schema(table: sa.Table) -> pa.Schema:
    """The Arrow schema of a table."""
    return pa.schema([(c.name, _ARROW[type(c.type)], c.nullable) for c in table.columns])


def insert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Rows,
) -> None:
    """Insert rows in the connection's transaction; rows whose key already exists are skipped."""
    if not len(rows):
        return
    schema = arrow_schema(table)
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, schema, preserve_index=False)
    raw = connection.connection.driver_connection
    statement = f"INSERT INTO {table.name} BY NAME SELECT * FROM fresh_rows"
    # DuckDB enforces no keys here (`schema.keyless`); the slower statement runs only if needed.
    if not _all_new(connection, raw, table, rows):
        statement = _unless_there(table)
    if isinstance(rows, pa.Table):
        with _registered(raw, "fresh_rows", rows):
            connection.exec_driver_sql(statement)
    else:
        with _registered(raw, "fresh_rows", _stream(rows, schema)), _one_thread(connection.engine):
            connection.exec_driver_sql(statement)


def _all_new(
    connection: sa.Connection,
    raw: Any,
    table: sa.Table,
    rows: Sequence[Record] | Sequence[Mapping[str, Any]] | pa.Table,
) -> bool:
    """Whether no key occurs twice, neither among the rows nor in rows and table."""
    names = [column.name for column in table.primary_key]
    keys = (
        rows.select(names)
        if isinstance(rows, pa.Table)
        else pa.table({name: _values(rows, name) for name in names})
    )
    key = ", ".join(names)
    with _registered(raw, "fresh_keys", keys):
        new = connection.exec_driver_sql(
            f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM fresh_keys "
            f"ANTI JOIN {table.name} USING ({key}))"
        ).scalar_one()
    return bool(new == len(rows))


@contextmanager
def _registered(raw: Any, name: str, data: object) -> Iterator[None]:
    """Expose Arrow data to SQL as a table of this name while the block runs."""
    raw.register(name, data)
    try:
        yield
    finally:
        raw.unregister(name)


@contextmanager
def _one_thread(engine: sa.Engine) -> Iterator[None]:
    """Limit DuckDB to one thread while the block runs.

    Python produces the rows that it reads, so more threads only wait: a third slower, no gain.
    """
    with engine.connect() as beside:  # after a failed insert, that connection accepts no statement
        beside.exec_driver_sql("SET threads = 1")
        try:
            yield
        finally:
            beside.exec_driver_sql("RESET threads")


def as_arrow(table: sa.Table, rows: Sequence[Record] | Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a table as an Arrow table."""
    return _stream(rows, arrow_schema(table)).read_all()


def _stream(
    rows: Sequence[Record] | Sequence[Mapping[str, Any]], schema: pa.Schema
) -> pa.RecordBatchReader:
    """Rows as Arrow batches, built while they are read, so that no second copy is in memory."""

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            columns = [pa.array(_values(part, field.name), field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _values(rows: Sequence[Record] | Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    """The values of a column, from rows that are all of one kind."""
    if isinstance(rows[0], Record):
        of = {stored: name for name, stored in type(rows[0]).columns().items()}
        return [getattr(row, of[column]) for row in rows]
    return [row.get(column) for row in rows]  # type: ignore[union-attr]


def _unless_there(table: sa.Table) -> str:
    """The INSERT that takes one row per key, and only new keys."""
    keys = ", ".join(column.name for column in table.primary_key)
    return (
        f"INSERT INTO {table.name} BY NAME SELECT DISTINCT ON ({keys}) fresh.* "
        f"FROM fresh_rows AS fresh ANTI JOIN {table.name} USING ({keys})"
    )


def read_frame(
    connection: sa.Connection, sql: str, parameters: Mapping[str, object]
) -> pd.DataFrame:
    """The result of a query with `:name` parameters.

    Integers are int64, or float64 if some are missing; booleans are object if some are missing.
    """
    cursor: Any = connection.execute(sa.text(sql), parameters).cursor
    kinds = [str(kind) for _, kind, *_ in cursor.description]
    found: pd.DataFrame = cursor.df()
    for (name, column), kind in zip(found.items(), kinds, strict=True):
        # DuckDB's sum() of integers is HUGEINT, which would arrive as float64.
        if kind == "HUGEINT" and column.notna().all():
            found[name] = column.astype("int64")
        elif isinstance(column.dtype, pd.BooleanDtype):
            found[name] = column.astype(object).where(column.notna(), None)
        elif pd.api.types.is_extension_array_dtype(column) and kind.endswith("INT"):
            found[name] = column.astype("float64")
    return found


def supersede(connection: sa.Connection, verdicts: Rows) -> None:
    """Mark other versions' verdicts as superseded, on traces judged by a version in `verdicts`."""
    for version in _versions(verdicts):
        connection.execute(_superseded_by(version))


def _versions(verdicts: Rows) -> set[str]:
    """The checker versions in rows of verdicts."""
    if isinstance(verdicts, pa.Table):
        return set(verdicts["checker_version"].to_pylist())
    if isinstance(verdicts, pd.DataFrame):
        return set(verdicts["checker_version"])
    return set(_values(verdicts, "checker_version")) if len(verdicts) else set()


def _superseded_by(version: str) -> sa.Update:
    """The UPDATE that supersedes other versions' verdicts on traces judged by this version."""
    j, again = tables.judgements, tables.judgements.alias()
    same = (again.c.trace == j.c.trace) & (again.c.checker_version == version)
    older = (j.c.checker_version != version) & j.c.superseded.is_not(True)
    return sa.update(j).where(older, sa.exists().where(same)).values(superseded=True)
