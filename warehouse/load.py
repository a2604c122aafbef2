"""Bulk load: rows go through Arrow in one statement, an existing key is left as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

BATCH = 4096
"""Rows turned into Arrow at a time: small enough for its memory to be used again."""
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
    rows: Sequence[dict[str, Any]] | pa.Table | pd.DataFrame,
) -> None:
    """Insert rows inside the connection's transaction; rows whose key exists are left as they
    are.
    """
    if not len(rows):
        return
    schema = arrow_schema(table)
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, schema, preserve_index=False)
    raw = connection.connection.driver_connection
    statement = f"INSERT INTO {table.name} BY NAME SELECT * FROM fresh_rows"
    if not _all_new(connection, raw, table, rows):
        statement = _unless_there(table)
    if isinstance(rows, pa.Table):
        with _registered(raw, "fresh_rows", rows):
            connection.exec_driver_sql(statement)
    else:
        with _registered(raw, "fresh_rows", _stream(rows, schema)), _one_thread(connection.engine):
            connection.exec_driver_sql(statement)


def _all_new(
    connection: sa.Connection, raw: Any, table: sa.Table, rows: Sequence[dict[str, Any]] | pa.Table
) -> bool:
    """Whether no key stands twice among rows and table."""
    names = [column.name for column in table.primary_key]
    keys = (
        rows.select(names)
        if isinstance(rows, pa.Table)
        else pa.table({name: [row[name] for row in rows] for name in names})
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
    """Arrow data as a table of this name while the block runs."""
    raw.register(name, data)
    try:
        yield
    finally:
        raw.unregister(name)


@contextmanager
def _one_thread(engine: sa.Engine) -> Iterator[None]:
    """DuckDB on one thread while the block runs: while Python makes what is read, another one would
    only wait for it, which costs a third more and gains nothing.
    """
    with engine.connect() as beside:  # where the insert fails, its own connection takes no more
        beside.exec_driver_sql("SET threads = 1")
        try:
            yield
        finally:
            beside.exec_driver_sql("RESET threads")


def _stream(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatchReader:
    """Rows as Arrow batches, made while they are read: what is written needs no second copy."""
    parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    batches = (pa.RecordBatch.from_pylist(part, schema) for part in parts)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _unless_there(table: sa.Table) -> str:
    """The same statement for one row a key, and only of new ones."""
    keys = ", ".join(column.name for column in table.primary_key)
    return (
        f"INSERT INTO {table.name} BY NAME SELECT DISTINCT ON ({keys}) fresh.* "
        f"FROM fresh_rows AS fresh ANTI JOIN {table.name} USING ({keys})"
    )
