"""The schema as a page of documentation, made from the code: `python -m warehouse.describe`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from warehouse import schema
from warehouse.places.connect import VIEWS, view_sql
from warehouse.store import Warehouse

PAGE = Path(__file__).parents[1] / "docs" / "schema.md"
HEAD = """# The warehouse

One DuckDB file. Ask it with `posterity query "SELECT ..."`, or open a copy with any DuckDB client.
The views come first: they are the public face, and their columns do not change without a migration
and a line in the changelog. This page is made from the code (`python -m warehouse.describe`); the
sentences stand as comments in the database too. A *key* stands once in its table: every insert sees
to it, and `posterity verify` looks; there is no index of it, which would take three times the room
of the rows.
"""


def page() -> str:
    """The whole page, as Markdown."""
    with TemporaryDirectory() as folder, Warehouse(Path(folder) / "w.duckdb") as store:
        return "\n".join([HEAD, "## Views", "", *_views(store), "## Tables", "", *_tables()])


def _views(store: Warehouse) -> Iterator[str]:
    for name in sorted(VIEWS, key=lambda name: (name.startswith("stg_"), name)):
        yield f"### `{name}`\n"
        yield view_sql(name).splitlines()[0].removeprefix("-- ") + "\n"
        columns = store.frame(
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE table_name = :name ORDER BY column_index",
            name=name,
        )
        yield ", ".join(f"`{column}` {kind}" for column, kind in columns.to_numpy()) + "\n"


def _tables() -> Iterator[str]:
    for table in schema.metadata.sorted_tables:
        yield f"### `{table.name}`\n"
        yield f"{table.comment}\n"
        yield "| column | type | |\n|---|---|---|"
        for column in table.columns:
            kind = "BIGINT[]" if isinstance(column.type, sa.ARRAY) else str(column.type)
            kind += ", key" if column.primary_key else ""
            kind += ", may be NULL" if column.nullable else ""
            yield f"| `{column.name}` | {kind} | {column.comment} |"
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
