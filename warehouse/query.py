"""Users' SQL: one read-only statement on a locked-down connection."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from sqlalchemy.exc import DBAPIError

from planners.errors import InvalidInput
from warehouse.connect import connect


def ask(path: Path, sql: str) -> pa.Table:
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
    engine = connect(path, read_only=True)
    try:
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            return raw.execute(sql).to_arrow_table()  # type: ignore[union-attr]
    except (duckdb.Error, DBAPIError) as error:
        raise InvalidInput(f"the query failed: {error}") from error
    finally:
        engine.dispose()
