"""Integrity of the tables: no key occurs twice, every reference has its row, every row is as it was
written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb
import sqlalchemy as sa

from warehouse import schema
from warehouse.load import UNCOUNTED, tally
from warehouse.places.connect import VIEWS, view_sql
from warehouse.records import Written
from warehouse.store import Warehouse

DEFINED = """
    SELECT view_name, replace(sql, 'AS MATERIALIZED (', 'AS (')  -- DuckDB forgets it in a file
    FROM duckdb_views()
    WHERE NOT internal AND database_name = current_database()
"""
COLUMNS = """
    SELECT concat_ws('.', table_name, column_name),
        concat_ws(' ', data_type, CASE WHEN NOT is_nullable THEN 'not null' END,
            nullif(column_default, 'NULL'))  -- as a lake has it
    FROM duckdb_columns()
    WHERE NOT internal AND database_name = current_database()
"""
THINGS = """
    SELECT DISTINCT kind, name
    FROM (
        SELECT 'schema' AS kind, schema_name AS name, database_name AS place, internal
        FROM duckdb_schemas() WHERE schema_name <> 'main'
        UNION ALL
        SELECT 'sequence', sequence_name, database_name, temporary FROM duckdb_sequences()
        UNION ALL
        SELECT 'type', type_name, database_name, internal FROM duckdb_types()
    )
    WHERE NOT internal AND place = current_database()
"""

REFERENCES = (
    ("tasks", "domain_hash", "domains"),
    ("experiment_tasks", "experiment", "experiments"),
    ("experiment_tasks", "task", "tasks"),
    ("generations", "experiment", "experiments"),
    ("traces", "experiment", "experiments"),
    ("traces", "task", "tasks"),
    ("judgements", "trace", "traces"),
    ("opinions", "trace", "traces"),
    ("selections", "trace", "traces"),
    ("canaries", "task", "tasks"),
)
"""A table, its column, and the table that must hold every value of that column."""


def repeated_keys(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of rows, and the keys that occur more than once: the database enforces no keys."""
    rows, wrong = 0, []
    for table in schema.metadata.sorted_tables:
        key = ", ".join(column.name for column in table.primary_key)
        twice = f"SELECT {key} FROM {table.name} GROUP BY ALL HAVING count(*) > 1"
        for row in warehouse.frame(twice).to_dict("records"):
            wrong.append(f"{table.name}: {row} occurs more than once")
        rows += warehouse.count(table)
    return rows, wrong


def written_otherwise(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of rows, and the tables whose rows are not those that Posterity wrote."""
    rows, wrong = 0, []
    written = {one.name: one for one in warehouse.every(Written)}
    for table in schema.metadata.sorted_tables:
        if table.name in UNCOUNTED:
            continue
        count, digest = warehouse.frame(f"SELECT {tally(table)} FROM {table.name}").iloc[0]
        one = written.get(table.name)
        if one is None:
            wrong.append(f"{table.name}: the ledger does not have this table any more")
        elif count != one.rows:
            wrong.append(f"{table.name}: {one.rows} rows were written, and there are {count}")
        elif digest != one.digest:
            wrong.append(f"{table.name}: rows were changed after they were written")
        rows += int(count)
    return rows, wrong


def other_columns(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of columns, and what is not as this version makes it: columns, and whatever is neither
    a table nor a view of ours.
    """
    wrong = []
    with _as_made() as scratch:
        meant = dict(scratch.execute(COLUMNS).fetchall())
    found = dict(warehouse.frame(COLUMNS).itertuples(index=False, name=None))
    wrong += [f"{name}: there is no such column" for name in meant if name not in found]
    wrong += [f"{name}: Posterity has no such column" for name in found if name not in meant]
    wrong += [
        f"{name}: it is {found[name]!r}, made as {made!r}"
        for name, made in meant.items()
        if found.get(name, made) != made
    ]
    wrong += [
        f"{row.kind} {row.name}: Posterity has no such thing"
        for row in warehouse.frame(THINGS).itertuples()
    ]
    return len(meant), wrong


@contextmanager
def _as_made() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty warehouse in memory, as this version makes it."""
    with duckdb.connect() as scratch:
        engine = sa.create_engine("duckdb://", creator=scratch.cursor)
        schema.keyless().create_all(engine)
        for name in VIEWS:
            scratch.execute(f"CREATE VIEW {name} AS\n{view_sql(name)}")
        yield scratch


def replaced_views(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of views, and those that are not defined as this version defines them."""
    wrong = []
    with _as_made() as scratch:
        meant = dict(scratch.execute(DEFINED).fetchall())
    found = dict(warehouse.frame(DEFINED).itertuples(index=False, name=None))
    wrong += [f"{name}: there is no such view" for name in meant if name not in found]
    wrong += [
        f"{name}: the view is not defined as this version defines it; open the warehouse with a "
        "command that writes, and it is made anew"
        for name in meant
        if name in found and found[name] != meant[name]
    ]
    return len(meant), wrong


def lost_references(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of rows that refer to other rows, and the references whose row is missing."""
    rows, wrong = 0, []
    for table, column, other in REFERENCES:
        lost = warehouse.frame(
            f"SELECT DISTINCT {column} AS id FROM {table} ANTI JOIN {other} USING ({column})"
        )
        wrong += [f"{table}: {column} {value} is not in {other}" for value in lost["id"]]
        rows += warehouse.count(schema.metadata.tables[table])
    return rows, wrong


ROWS: dict[str, Callable[[Warehouse], tuple[int, list[str]]]] = {
    "columns": other_columns, "keys": repeated_keys, "ledger": written_otherwise,
    "views": replaced_views, "references": lost_references,
}  # fmt: skip
"""The checks of all rows: how many were looked at, and what is wrong."""
