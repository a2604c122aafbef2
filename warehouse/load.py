"""Bulk loading of rows, and query results as frames.

Rows are inserted through Arrow in one statement, and rows whose key exists are skipped. DuckDB
itself fills the result frames, three times as fast as row by row.

Whatever is written is also entered in a ledger: for each table the number of its rows and the sum
of their hashes. A row that was changed, added or taken away in any other way is thus noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import permutations
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import sqlalchemy as sa

from warehouse import schema as tables
from warehouse.records import Record

if TYPE_CHECKING:
    import pandas as pd

Rows: TypeAlias = Sequence[Record] | Sequence[Mapping[str, Any]] | pa.Table
MODULUS = 2**61
UNCOUNTED = ("ledger", "schema_version")
"""Tables that are not in the ledger."""
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


NUMBER = "number_of_the_row"
"""A column of rows on their way into a table: which came first."""


def insert(connection: sa.Connection, table: sa.Table, rows: Rows) -> int:
    """Insert rows in the connection's transaction, and count them in the ledger; rows whose key
    already exists are skipped. Returns the number of new rows.
    """
    if not len(rows):
        return 0
    raw: Any = connection.connection.driver_connection
    fresh = rows if isinstance(rows, pa.Table) else as_arrow(table, rows)
    # DuckDB enforces no keys here (`schema.keyless`); the slower statement runs only if needed.
    if not _all_new(connection, raw, table, fresh):
        numbered = fresh.append_column(NUMBER, pa.array(range(len(fresh)), pa.int64()))
        with registered(raw, "fresh_rows", numbered):
            fresh = raw.execute(_new_of(table)).to_arrow_table()
    with registered(raw, "fresh_rows", fresh):
        connection.exec_driver_sql(f"INSERT INTO {table.name} BY NAME SELECT * FROM fresh_rows")
        added = connection.exec_driver_sql(f"SELECT {tally(table)} FROM fresh_rows").one()
    enter(connection, table, *added)
    return len(fresh)


# ------------------------------------------------------------ the ledger


def tally(table: sa.Table, **replaced: str) -> str:
    """SQL of the number of rows and the sum of their hashes, whatever the rows' order.

    `replaced`: SQL instead of the value of a column.
    """
    values = [replaced.get(column.name, f'"{column.name}"') for column in table.columns]
    return tally_of(values)


def tally_of(values: Sequence[str]) -> str:
    """The same for some expressions of a row."""
    text = ", ".join(f"coalesce(CAST({value} AS VARCHAR), chr(30))" for value in values)
    row = f"md5_number_lower(concat_ws(chr(31), {text})) >> 3"
    return f"count(*), CAST(coalesce(sum({row}), 0) % {MODULUS} AS BIGINT)"


def enter(connection: sa.Connection, table: sa.Table, rows: int, digest: int) -> None:
    """Add rows to what the ledger says of a table; with negative numbers, take them away."""
    if rows or digest:
        connection.exec_driver_sql(
            f'UPDATE ledger SET "rows" = "rows" + {rows}, '
            f"digest = (digest + {digest % MODULUS}) % {MODULUS} WHERE name = '{table.name}'"
        )


def open_ledger(connection: sa.Connection) -> None:
    """Enter what the tables hold now, of those that the ledger does not know yet."""
    known = set(connection.exec_driver_sql("SELECT name FROM ledger").scalars())
    for table in tables.metadata.sorted_tables:
        if table.name not in (*UNCOUNTED, *known):
            connection.exec_driver_sql(
                f"INSERT INTO ledger SELECT '{table.name}', {tally(table)} FROM {table.name}"
            )


def amend(connection: sa.Connection, table: sa.Table, where: Any, **values: Any) -> None:
    """Change the rows that satisfy a condition, in the ledger too; without values, delete them."""
    # The new values as parameters: a text may hold anything.
    new: dict[str, sa.BindParameter[Any]] = {
        name: sa.bindparam(f"new_{name}", value) for name, value in values.items()
    }
    told = {name: f":new_{name}" for name in values}
    # In one query, as it may cost more to find the rows than to hash them twice.
    both = tallied(table).add_columns(sa.text(tally(table, **told)).bindparams(*new.values()))
    rows, before, _, after = connection.execute(both.where(where)).one()
    if not rows:
        return
    enter(connection, table, -rows, -before)
    if values:
        enter(connection, table, rows, after)
        connection.execute(sa.update(table).where(where).values(values))
    else:
        connection.execute(sa.delete(table).where(where))


def erase(connection: sa.Connection, table: sa.Table, where: Any, values: Any) -> None:
    """Change rows, in the ledger too, in columns that `where` does not speak of."""
    before = connection.execute(tallied(table).where(where)).one()
    connection.execute(sa.update(table).where(where).values(values))
    enter(connection, table, -before[0], -before[1])
    enter(connection, table, *connection.execute(tallied(table).where(where)).one())


def tallied(table: sa.Table) -> sa.Select[Any]:
    """The query for that of a table."""
    return sa.select(sa.literal_column(tally(table))).select_from(table)


# ------------------------------------------------------------ rows as Arrow data


def quoted(text: object) -> str:
    """The text as a SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def _all_new(connection: sa.Connection, raw: Any, table: sa.Table, rows: pa.Table) -> bool:
    """Whether no key occurs twice, neither among the rows nor in rows and table."""
    names = [column.name for column in table.primary_key]
    key = ", ".join(names)
    with registered(raw, "fresh_keys", rows.select(names)):
        new = connection.exec_driver_sql(
            f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM fresh_keys "
            f"ANTI JOIN {table.name} USING ({key}))"
        ).scalar_one()
    return bool(new == len(rows))


@contextmanager
def registered(raw: Any, name: str, data: object) -> Iterator[None]:
    """Expose Arrow data to SQL as a table of this name while the block runs."""
    raw.register(name, data)
    try:
        yield
    finally:
        raw.unregister(name)


def as_arrow(table: sa.Table, rows: Sequence[Record] | Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a table as an Arrow table."""
    schema = arrow_schema(table)

    def batch(part: Sequence[Any]) -> pa.RecordBatch:
        columns = [pa.array(_values(part, field.name), field.type) for field in schema]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    parts = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return pa.Table.from_batches(map(batch, parts), schema)


def _values(rows: Sequence[Record] | Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    """The values of a column, from rows that are all of one kind."""
    if isinstance(rows[0], Record):
        of = {stored: name for name, stored in type(rows[0]).columns().items()}
        return [getattr(row, of[column]) for row in rows]
    return [row.get(column) for row in rows]  # type: ignore[union-attr]


def _new_of(table: sa.Table) -> str:
    """The query that takes the first row of each key, and only new keys."""
    keys = ", ".join(column.name for column in table.primary_key)
    return (
        f"SELECT fresh.* EXCLUDE ({NUMBER}) "
        f"FROM fresh_rows AS fresh ANTI JOIN {table.name} USING ({keys}) "
        f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {NUMBER}) = 1 ORDER BY {NUMBER}"
    )


def comparable(column: pd.Series[Any]) -> pd.Series[Any]:
    """A SQL column whose values can be compared and counted: lists and the like as text."""
    first = next(iter(column.dropna()), None)  # it has one type: one value tells
    numbers_or_text = first is None or getattr(type(first), "__hash__", None) is not None
    return column if numbers_or_text else column.astype(str)


def read_frame(
    connection: sa.Connection, sql: str, parameters: Mapping[str, object]
) -> pd.DataFrame:
    """The result of a query with `:name` parameters.

    Integers are int64, or float64 if some are missing; booleans are object if some are missing.
    """
    import pandas as pd  # here, as in the curators: loading it takes half a second

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
    """Mark the verdicts that are superseded on traces that a version in `verdicts` has judged:
    wherever they came from, and in whatever order, that of the newest version stands.
    """
    if not (fresh := _versions(verdicts)):
        return
    j, again = tables.judgements, tables.judgements.alias()
    known = connection.execute(sa.select(j.c.checker_version).distinct()).scalars().all()
    for old, new in permutations(known, 2):
        if _place_of(old) < _place_of(new) and fresh & {old, new}:
            newer = (again.c.trace == j.c.trace) & (again.c.checker_version == new)
            stands = (j.c.checker_version == old) & j.c.superseded.is_not(True)
            amend(connection, j, stands & sa.exists().where(newer), superseded=True)


def _place_of(version: str) -> tuple[list[int], str]:
    """The place of a version among others: by its numbers, then by its letters."""
    return [int(digits) for digits in re.findall(r"[0-9]+", version)], version


def _versions(verdicts: Rows) -> set[str]:
    """The checker versions in rows of verdicts."""
    if isinstance(verdicts, pa.Table):
        return set(verdicts["checker_version"].to_pylist())
    return set(_values(verdicts, "checker_version")) if len(verdicts) else set()
