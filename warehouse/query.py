"""Users' SQL: one read-only statement on a locked-down connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy.exc import DBAPIError

from planners.errors import InvalidInput
from warehouse.connect import connect, place_of
from warehouse.lake import NAME, Lake

PLAIN_SOURCES = {"range", "generate_series", "unnest", "repeat", "repeat_row"}
"""Functions that a query on a lake may read rows from: its connection can reach the catalogue's
server, so others are refused there.
"""

OWN_PLACES = {"", NAME, "main", "information_schema"}


def ask(warehouse: Path | str, sql: str) -> pa.Table:
    """The result of one SELECT. Raises InvalidInput on anything else, and on SQL that is wrong."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise InvalidInput(f"the SQL cannot be read: {error}") from error
    if len(statements) != 1:
        raise InvalidInput(f"expected one SQL statement, found {len(statements)}")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise InvalidInput(
            f"queries only read: a {statements[0].type.name} statement is refused; start with "
            "SELECT, "
            "FROM, WITH, SHOW or DESCRIBE"
        )
    place = place_of(warehouse)
    if isinstance(place, Lake):
        require_plain(sql)
    engine = connect(place, read_only=True)
    try:
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            return raw.execute(sql).to_arrow_table()  # type: ignore[union-attr]
    except (duckdb.Error, DBAPIError) as error:
        raise InvalidInput(f"the query failed: {error}") from error
    finally:
        engine.dispose()


def require_plain(sql: str) -> None:
    """Raises InvalidInput on SQL that reads from anything but tables, views and PLAIN_SOURCES."""
    with duckdb.connect() as parser:
        found = parser.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree = json.loads(found[0] if found else "{}")
    if tree.get("error", True):
        raise InvalidInput("a query on a lake is a SELECT; DESCRIBE and EXPLAIN need a file")
    for node in _nodes(tree):
        kind, function = node.get("type"), node.get("function") or {}
        name = str(function.get("function_name", "")).lower()
        if kind == "TABLE_FUNCTION" and name not in PLAIN_SOURCES:
            raise InvalidInput(f"a query on a lake reads tables and views; {name} is refused")
        place = {str(node.get("catalog_name", "")), str(node.get("schema_name", ""))}
        if kind == "BASE_TABLE" and not place <= OWN_PLACES:
            raise InvalidInput("a query on a lake reads its own tables and views, no other catalog")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document."""
    if isinstance(tree, dict):
        yield tree
    for child in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from _nodes(child)
