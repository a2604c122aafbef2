"""The pages that are made from the code: `python -m tools.describe` writes docs/commands.md and
docs/schema.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
import typer
from typer.cli import get_docs_for_click

import flows.commands.main  # noqa: F401  which has every command
from flows.commands.terminal import app
from warehouse import Warehouse, schema
from warehouse.places.connect import VIEWS, view_grain

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = """\
<!-- written by `python -m tools.describe` -->

Exit codes of every command: 0 done (for `check`: valid), 1 the answer is no, 2 bad usage or input,
3 interrupted or failed.
"""
SCHEMA = """\
<!-- written by `python -m tools.describe` -->

A warehouse is one DuckDB file, or a lake. Ask it with `posterity query "SELECT ..."`, or open a
copy with any DuckDB 1.x client. The views come first: their columns do not change without a
migration and a line in the changelog. The sentences also stand in the database, as comments. A
*key* stands once in its table: every insert checks it, and `posterity verify` checks it again.
Keys have no index, which would take three times the room of the rows.
"""


def commands() -> str:
    """Every command with its arguments and options, in Markdown."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(
        obj=command, ctx=typer.Context(command), name="posterity", title="The command line"
    )
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{COMMANDS}{rest}"


def tables() -> str:
    """Every view and table with its columns, in Markdown."""
    with TemporaryDirectory() as folder, Warehouse(Path(folder) / "w.duckdb") as store:
        head = ["# The warehouse", "", SCHEMA]
        return "\n".join([*head, "## Views", "", *_views(store), "## Tables", "", *_tables()])


def _views(store: Warehouse) -> Iterator[str]:
    for name in sorted(VIEWS, key=lambda name: (name.startswith("stg_"), name)):
        yield f"### `{name}`\n"
        yield view_grain(name) + "\n"
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


PAGES = {"commands.md": commands, "schema.md": tables}
"""The pages, and what makes them."""

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), "utf-8")
