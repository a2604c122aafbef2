"""The pages that are made from the code: `python -m tools.describe` writes docs/commands.md,
docs/schema.md and docs/settings.md.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
import typer
from typer.cli import get_docs_for_click

import flows.commands.main  # noqa: F401  which has every command
from flows.commands.terminal import app
from flows.experiments.experiment import Experiment
from planners.records import Sampling
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
SETTINGS = """\
<!-- written by `python -m tools.describe` -->

An experiment is a file of TOML, a preset, or a preset with changes (`extends = "quickstart"`).
Each setting may also be given with `--set TABLE.NAME=VALUE`. A table that is left out has its
defaults, or what it is about does not happen. A setting without a default is unset.
[The loop](loop.md) says which settings make another experiment. Posterity fills in
`contents` and `code` by itself.
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


def settings() -> str:
    """Every setting of an experiment with its values and default, in Markdown."""
    schema = Experiment.model_json_schema()
    return "\n".join(["# Settings", "", SETTINGS, *_settings([], schema, schema["$defs"], set())])


def _settings(paths: list[str], table: Any, known: Any, told: set[str]) -> Iterator[str]:
    """A kind of table, which stands at some paths, and those inside it not told before."""
    inner = dict[str, list[str]]()
    yield f"## {', '.join(f'`[{path}]`' for path in paths) or 'At the top of the file'}\n"
    base = f"{inspect.getdoc(Sampling)}\n\n" if "top_p" in table["properties"] else ""
    yield f"{base}{table['description']}\n"
    yield "| setting | values | default |\n|---|---|---|"
    for name, one in table["properties"].items():
        values, of = _values(one)
        default = json.dumps(one.get("default"))
        shown = "" if default == "null" or of else f"`{default}`"
        required = name in table.get("required", ())
        yield f"| `{name}` | {values} | {'required' if required else shown} |"
        if of and of not in told:
            place = f"{paths[0]}.{name}" if paths else name
            inner.setdefault(of, []).append(place + ".NAME" * values.endswith("by name"))
    yield ""
    told |= inner.keys()
    for of, places in inner.items():
        yield from _settings(places, known[of], known, told)


def _values(one: Any) -> tuple[str, str]:
    """The values that a setting may have, in words, and the definition of its table or ""."""
    if "$ref" in one:
        return "a table", one["$ref"].split("/")[-1]
    if "anyOf" in one:
        some = [_values(part) for part in one["anyOf"] if part != {"type": "null"}]
        return " or ".join(words for words, _ in some), "".join(of for _, of in some)
    if "enum" in one:
        return " or ".join(f"`{json.dumps(value)}`" for value in one["enum"]), ""
    if one["type"] == "object":
        part = one.get("additionalProperties", {})
        return ("tables by name", _values(part)[1]) if "$ref" in part else ("SQL by name", "")
    if one["type"] == "array":
        of = "list of the lowest and the highest" if "prefixItems" in one else "list"
        return f"{of}, each: {_values(one.get('prefixItems', [one.get('items')])[0])[0]}", ""
    kinds = {"integer": "whole number", "boolean": "`true` or `false`", "string": "text"}
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
              "exclusiveMaximum": "below"}  # fmt: skip
    said = [f"{words} {one[limit]:,}" for limit, words in limits.items() if limit in one]
    return ", ".join([kinds.get(one["type"], one["type"]), *said]), ""


PAGES = {"commands.md": commands, "schema.md": tables, "settings.md": settings}
"""The pages, and what makes them."""

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), "utf-8")
