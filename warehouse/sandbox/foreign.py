"""Reads a data set that is no warehouse: columns of a Parquet file, and SQL over its rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from planners.errors import InvalidInput
from warehouse.load import comparable
from warehouse.sandbox.query import NOWHERE, Limits, in_child, require_expression

LIMITS = Limits(memory="8GB", rows=2**40)
"""Of SQL over a data set, which may be larger than a query's result should be."""


def foreign_rows(file: Path, traits: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a Parquet file, with a column more for each trait, a SQL expression over a row. A
    trait without SQL is the column of its name.

    The SQL reaches no file and no network. A row on which an expression fails has no value. Raises
    InvalidInput where the file is no Parquet, or an expression no SQL over its columns.
    """
    # A column may be named as if it were SQL.
    traits = {name: "" if sql.strip() == name else sql for name, sql in traits.items()}
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"{file} cannot be read as Parquet: {error}") from error
    for name, sql in traits.items():
        if sql and name in table.column_names:
            raise InvalidInput(f"{file} has a column {name!r} already; name the trait otherwise")
        if not sql and name not in table.column_names:
            known = ", ".join(table.column_names)
            raise InvalidInput(f"{file} has no column {name!r} to be a trait; it has {known}")
        try:
            require_expression(sql or f'"{name}"')
        except InvalidInput as error:
            raise InvalidInput(
                f"the trait {name!r} is not SQL over a row: {sql!r}: {error}; a column that is "
                'named like a word of SQL needs double quotes, such as "right"'
            ) from error
    written = {name: sql for name, sql in traits.items() if sql}
    if written:
        told = ", ".join(f'TRY(({sql}\n)) AS "{n}"' for n, sql in enumerate(written.values()))
        try:
            found = in_child({"parquet": str(file), "sql": f"SELECT {told} FROM pool"}, LIMITS)
        except InvalidInput as error:
            raise InvalidInput(f"a trait is not SQL over the columns of {file}: {error}") from error
        for number, name in enumerate(written):
            table = table.append_column(name, found.column(number))
    names = table.column_names
    with duckdb.connect(config=NOWHERE) as connection:
        # Numbers stand for names, as to DuckDB names that differ in case alone are one.
        connection.register("pool", table.rename_columns([str(n) for n in range(len(names))]))
        rows = connection.execute("SELECT pool.* FROM pool").df()
    rows.columns = names
    for name in traits:
        rows[name] = comparable(rows[name])
    return rows
