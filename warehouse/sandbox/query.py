"""Users' SQL: one SELECT, run by a process that cannot write.

A query is untrusted. DuckDB's own parser reads it on a connection that can reach nothing. A child
process (`warehouse.sandbox.process`) runs it, which can neither write a file nor, for a warehouse
in a file, open a network connection.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from planners.errors import InvalidInput
from warehouse.places.connect import connect, place_of
from warehouse.places.lake import NAME

SOURCES = frozenset(
    ("range", "generate_series", "generate_subscripts", "unnest", "repeat", "repeat_row")
)
"""Table functions that a query may call."""
CATALOGUES = frozenset(
    ("duckdb_columns", "duckdb_constraints", "duckdb_tables", "duckdb_views", "pragma_table_info")
)
"""Those that describe tables: allowed on a file, whose process can reach nothing else."""
SETTINGS = {"current_setting", "pg_settings"}
"""A function and a view that tell how the database is set up."""
OWN_PLACES = {"", NAME, "main", "information_schema"}
"""Catalogs and schemas that a query on a lake may name."""
NOWHERE: Any = {"enable_external_access": "false", "lock_configuration": "true"}
"""The configuration of a connection that reaches no file and no network."""


@contextmanager
def ended_after(connection: Any, seconds: float) -> Iterator[None]:
    """Interrupt what a DuckDB connection does in the block once it takes longer."""
    timer = threading.Timer(seconds, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a query: seconds, memory as DuckDB writes it ("2GB"), rows of its result."""

    seconds: float = 60.0
    memory: str = "2GB"
    rows: int = 1_000_000


def ask(warehouse: Path | str, sql: str, limits: Limits | None = None) -> pa.Table:
    """The result of one SELECT. Raises InvalidInput on anything else, on wrong SQL, and on a query
    that exceeds its limits.
    """
    limits, place = limits or Limits(), place_of(warehouse)
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise InvalidInput("the SQL is not UTF-8 text") from None
    connect(place, read_only=True).dispose()  # migrates an old warehouse, which the child cannot
    return in_child({"place": str(place), "sql": sql}, limits)


def in_child(request: dict[str, Any], limits: Limits) -> pa.Table:
    """The result of a request (`warehouse.sandbox.process`), by a process that cannot write and is
    killed at its limits. Raises InvalidInput with what it says where it has no result.
    """
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "warehouse.sandbox.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        asked = json.dumps({**request, **asdict(limits)}).encode()
        found, said = child.communicate(asked, timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        raise InvalidInput(
            f"the query took longer than {limits.seconds:g} s and was stopped; ask for less, or "
            "give it more time with --timeout SECONDS"
        ) from None
    finally:  # also on Ctrl-C
        child.kill()
        child.communicate()
    if child.returncode == 0:
        return pa.ipc.open_stream(found).read_all()
    raise InvalidInput(_why(child.returncode, said, limits))


def _why(status: int, said: bytes, limits: Limits) -> str:
    """Why a child ended without a result: its own words, or a guess from its exit status."""
    lines = said.decode(errors="replace").splitlines() or [""]
    try:
        return str(json.loads(lines[-1])["refused"])
    except (ValueError, KeyError, TypeError):
        return (
            f"the query was stopped (exit {status}): it may need more memory than "
            f"{limits.memory}, which --memory changes. {lines[-1][:200]}"
        )


def require_select(sql: str, lake: bool = False) -> dict[str, Any]:
    """The tree of a single SELECT, as DuckDB's parser reads it. Raises InvalidInput on anything
    else, and on table functions that it may not call.
    """
    with duckdb.connect(config=NOWHERE) as parser:
        try:
            found = parser.execute("SELECT json_serialize_sql($1)", [sql]).fetchone()
            tree = json.loads(found[0] if found else "{}")
            nodes = list(_nodes(tree))
        except (duckdb.Error, ValueError, RecursionError) as error:
            raise InvalidInput(f"the SQL cannot be read: {error}") from error
    if tree.get("error", True):
        # What is SQL, but no SELECT, is "not implemented": that needs no second sentence.
        other = tree.get("error_type") == "not implemented"
        why = "" if other else f" ({tree.get('error_message', 'it cannot be read')})"
        if other and "pivot" in sql.lower():  # else DuckDB makes several statements of it
            why = "; PIVOT must name its columns: FROM (PIVOT t ON a IN ('x', 'y') USING max(b))"
        raise InvalidInput(
            "a query is one SELECT, and only reads: start with SELECT, FROM, WITH, SHOW, DESCRIBE "
            f"or SUMMARIZE{why}"
        )
    if len(tree["statements"]) != 1:
        raise InvalidInput(f"expected one SQL statement, found {len(tree['statements'])}")
    for node in nodes:
        _require_harmless(node, lake)
    return dict(tree["statements"][0]["node"])


SEVERAL = {"unnest", "unlist", "regexp_split_to_table", "generate_subscripts"}
"""Functions that make several rows of one."""


@lru_cache(maxsize=256)
def require_expression(sql: str) -> None:
    """Raise InvalidInput unless this is exactly one SQL expression over a row."""
    # The line break ends a `--` comment; the stricter rules of a lake apply.
    node = require_select(f"SELECT ({sql}\n) FROM trace", lake=True)
    source = node.get("from_table") or {}
    alone = node.get("type") == "SELECT_NODE" and len(node["select_list"]) == 1
    if not alone or source.get("type") != "BASE_TABLE" or source.get("table_name") != "trace":
        raise InvalidInput(f"expected one SQL expression, found {sql!r}")
    for part in _nodes(node["select_list"], stop="SUBQUERY"):
        if part.get("class") == "STAR" or part.get("function_name") in SEVERAL:
            raise InvalidInput(f"expected one value of a row, and {sql!r} may be several or none")


ITS_OWN = re.compile(r"(?!duckdb_)[^/\\*?:.\[\]]*", re.IGNORECASE)
"""Names of tables, views and subqueries of a query: no file, and nothing of DuckDB's own."""


def _require_harmless(node: dict[str, Any], lake: bool) -> None:
    kind, function = node.get("type"), node.get("function") or {}
    name = str(function.get("function_name", "")).lower()
    if kind == "TABLE_FUNCTION" and name not in (SOURCES if lake else SOURCES | CATALOGUES):
        raise InvalidInput(f"a query reads tables and views; the function {name} is refused")
    place = {str(node.get("catalog_name", "")), str(node.get("schema_name", ""))}
    if SETTINGS & {str(node.get(key, "")).lower() for key in ("function_name", "table_name")}:
        raise InvalidInput("a query cannot read the database's settings")
    if lake and kind == "BASE_TABLE" and not place <= OWN_PLACES:
        raise InvalidInput("a query on a lake reads its own tables and views, no other catalog")
    if lake and kind == "BASE_TABLE" and not ITS_OWN.fullmatch(str(node.get("table_name", ""))):
        raise InvalidInput("a query on a lake reads its own tables and views, no files")


def _nodes(tree: Any, stop: str = "") -> Iterator[dict[str, Any]]:
    """Every object of a JSON document, but for those of a class and what is in them."""
    if isinstance(tree, dict):
        if stop and tree.get("class") == stop:
            return
        yield tree
    for child in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from _nodes(child, stop)
