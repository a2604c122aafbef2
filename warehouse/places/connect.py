"""Opening a warehouse: create it, check its schema, and say clearly why it cannot be opened."""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from planners.errors import Busy, InvalidInput
from warehouse import schema
from warehouse.load import open_ledger
from warehouse.migrations import migrate
from warehouse.places.file import DATABASE_ERRORS, File
from warehouse.places.lake import PREFIX, Lake

MOMENT, PATIENCE = ".for-a-moment", 60.0
"""The file that is locked while somebody has the warehouse for a moment, and how many seconds
others wait then.
"""
VIEWS = (
    "stg_decisions",
    "stg_verdicts",
    "stg_task_samples",
    "stg_task_results",
    "coverage",
    "coverage_by_horizon",
    "plan_length",
    "verdicts",
    "deployments",
    "tainted",
    "curated",
    "decisions",
    "lineage",
    "best_plans",
    "implicit_reward",
    "preferences",
    "between_tasks",
    "selection_differential",
    "progress",
    "disagreements",
    "forecasts",
    "shadows",
    "study_effects",
    "turns",
    "tool_calls",
)
"""The views in their order of creation: staging before marts."""

ADDRESS = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*:/")
"""How the address of a server begins; as a path it would lose a slash."""
MACROS = "SELECT DISTINCT function_name FROM system.main.duckdb_functions() WHERE NOT internal"
"""Functions that are not the database's own; qualified, so that none stands in for this one."""
Place = File | Lake
"""Where a warehouse is."""


def place_of(warehouse: Path | str | Place) -> Place:
    """The lake that a `ducklake:` URL names, or the file. Raises InvalidInput on a bad URL."""
    if isinstance(warehouse, File | Lake):
        return warehouse
    if str(warehouse).startswith(PREFIX):
        return Lake.at(str(warehouse))
    if ADDRESS.match(str(warehouse)):
        raise InvalidInput(
            f"{warehouse} is the address of a server: a warehouse is a file, or a lake, which is "
            f"named {PREFIX}postgres:...?data=FOLDER"
        )
    if str(warehouse) in ("", ".", ":memory:"):
        raise InvalidInput(f"{str(warehouse)!r} is no warehouse: it is kept in a file; name one")
    return File(Path(warehouse))


@contextmanager
def explained(place: Place, engine: sa.Engine | None = None) -> Iterator[None]:
    """Make of a database's errors one that says what to do; any error closes an `engine`."""
    try:
        yield
    except BaseException as error:
        if engine is not None:
            engine.dispose()
        if isinstance(error, DATABASE_ERRORS):
            raise place.explain(error) from error
        raise


_mine = False
"""Whether it is this process that has it for a moment, which waits for nobody."""


@contextmanager
def for_a_moment(place: Place) -> Iterator[None]:
    """While the block runs, others who want to open the warehouse wait for it, and do not fail."""
    global _mine
    place.landing.mkdir(parents=True, exist_ok=True)
    with (place.landing / MOMENT).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        _mine = True
        try:
            yield
        finally:
            _mine = False


def _held_for_a_moment(place: Place) -> bool:
    try:
        with (place.landing / MOMENT).open("r") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody ever did
        pass
    return False


def connect(place: Place, read_only: bool = False, memory: str | None = None) -> sa.Engine:
    """An engine on the warehouse, with the current schema. Raises InvalidInput with what to do.

    A file of an older schema is first copied to a backup beside it, then migrated, and published
    anew if it was; so is that of a published copy. `memory` limits what a reader's queries take, as
    DuckDB writes it ("2GB").
    """
    if isinstance(place, File) and place.is_new and not read_only and not place.published.is_new:
        raise InvalidInput(
            f"there is no {place}, but a copy of it, {place.published}. If the file was lost, "
            "rename the copy to it; if you removed it, remove the copy too"
        )
    until, refused = time.monotonic() + PATIENCE, 0
    while True:
        # Looked at first, as it may be let go between the two. It may also be taken there, so that
        # one refusal says nothing.
        waits = not _mine and time.monotonic() < until and _held_for_a_moment(place)
        try:
            engine, version = _open(place, read_only, memory)
            break
        except Busy:
            refused = 0 if waits else refused + 1
            if refused == 2 or _mine:
                raise
            time.sleep(0.1)
    if version is not None and version < schema.SCHEMA_VERSION:
        engine.dispose()
        origin = place.original if isinstance(place, File) else place
        with explained(origin):
            origin.back_up(version)
        # To migrate it needs a connection that writes, even if the caller only reads.
        engine, _ = _open(origin, read_only=False)
        _create(engine, origin)
        if isinstance(origin, File) and not origin.published.is_new:
            with explained(origin, engine):
                origin.publish(engine)
        if read_only:
            engine.dispose()
            engine, _ = _open(place, read_only, memory)
    elif not read_only:
        _create(engine, place)
    return engine


def _open(place: Place, read_only: bool, memory: str | None = None) -> tuple[sa.Engine, int | None]:
    """An engine and the schema version that it found. Raises InvalidInput if that is foreign or
    newer.
    """
    engine = place.engine(read_only, memory)
    with explained(place, engine):
        with engine.connect() as connection:
            _require_no_macro(connection, place)
            version = _version(connection, _tables(connection))
        _check_version(version, place)
    return engine, version


_without_macro: dict[Place, list[int]] = {}
"""When files were written last that have none: to look takes 20 ms."""


def _require_no_macro(connection: sa.Connection, place: Place) -> None:
    written = []
    if isinstance(place, File):
        written = [one.stat().st_mtime_ns for one in (place.path, place.log) if one.exists()]
    if written and _without_macro.get(place) == written:
        return
    if macros := connection.exec_driver_sql(MACROS).scalars().all():
        raise InvalidInput(
            f"the warehouse defines {', '.join(map(repr, macros))} anew, with which figures may be "
            "computed otherwise: it was changed by other means than Posterity. See who did it, and "
            "DROP MACRO in DuckDB"
        )
    _without_macro[place] = written


def _tables(connection: sa.Connection) -> list[str]:
    return sa.inspect(connection).get_table_names()


def _version(connection: sa.Connection, tables: list[str]) -> int | None:
    """The schema version: None for a new, empty warehouse, 0 for a foreign database."""
    if "schema_version" in tables:
        versions = connection.execute(sa.select(schema.schema_version.c.version)).scalars().all()
        if len(versions) != 1 or not isinstance(versions[0], int):
            there = repr(versions[0]) if len(versions) == 1 else f"{len(versions)} rows"
            raise InvalidInput(
                f"the table schema_version holds {there} instead of one number: the warehouse was "
                "changed by other means than Posterity"
            )
        return versions[0]
    return 0 if tables else None


def _check_version(version: int | None, place: Place) -> None:
    if version == 0:
        raise InvalidInput(
            f"{place} is a database, but not a warehouse of Posterity; name another with "
            "--warehouse"
        )
    if version is not None and version > schema.SCHEMA_VERSION:
        raise InvalidInput(
            f"the warehouse {place} has schema {version}, newer than the {schema.SCHEMA_VERSION} "
            "that this version knows; upgrade with `pip install --upgrade posterity`, or use "
            "another --warehouse"
        )


def _create(engine: sa.Engine, place: Place) -> None:
    """Create missing tables or migrate, in one transaction; replace views to match the code."""
    with explained(place, engine), place.turn(engine), engine.begin() as connection:
        known, wanted = _tables(connection), schema.keyless()
        version = _version(connection, known)  # again: another process may have migrated it
        missing = [table for table in wanted.sorted_tables if table.name not in known]
        wanted.create_all(connection, missing, checkfirst=False)
        if version is None:
            fresh = schema.schema_version.insert().values(version=schema.SCHEMA_VERSION)
            connection.execute(fresh)
        elif version < schema.SCHEMA_VERSION:
            try:
                migrate(connection, version)
            except DATABASE_ERRORS as error:
                raise InvalidInput(
                    f"the warehouse {place} says that it has schema {version}, and is not as that "
                    f"schema was: it was changed by other means than Posterity ({error})"
                ) from error
        if version != schema.SCHEMA_VERSION:
            open_ledger(connection)
        views = (f"CREATE OR REPLACE VIEW {name} AS\n{view_sql(name)}\n;" for name in VIEWS)
        raw: Any = connection.connection.driver_connection
        raw.execute("\n".join(views))  # as one text: SQLAlchemy reads each statement for its kind


def view_grain(name: str) -> str:
    """The sentence on a view's rows: the first of its SQL's comment."""
    told = takewhile(lambda line: line.startswith("--"), view_sql(name).splitlines())
    return (
        " ".join(line.removeprefix("-- ") for line in told).split(". ")[0].removesuffix(".") + "."
    )


def view_sql(name: str) -> str:
    """The SELECT statement of a view."""
    return files("warehouse").joinpath("views", f"{name}.sql").read_text("utf-8")
