"""Opening the database file: create it, check its schema, and say clearly why it cannot be
opened.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from planners.errors import ComponentFailure, InvalidInput
from warehouse import schema
from warehouse.migrations import back_up, migrate

VIEWS = (
    "stg_evaluations",
    "stg_task_results",
    "coverage",
    "coverage_by_horizon",
    "plan_length",
    "verdicts",
    "curated",
    "decisions",
    "lineage",
    "progress",
    "disagreements",
)
"""In the order of creation: staging before marts."""

LOCKED = {"enable_external_access": "false", "lock_configuration": "true"}
"""For users' queries: no file, no network, no extension, and no way to switch that back on."""


SNAPSHOT = ".snapshot"
"""What a snapshot's name ends with: `posterity.duckdb.snapshot` beside `posterity.duckdb`."""


def snapshot_of(path: Path) -> Path:
    """Where the snapshot of a warehouse is."""
    return path.with_name(path.name + SNAPSHOT)


def connect(path: Path, read_only: bool = False) -> sa.Engine:
    """An engine on the warehouse file, its schema current. Raises InvalidInput with what to do.

    A file of an older schema is first copied to a backup beside it, then migrated.
    """
    if read_only and not path.is_file():
        raise InvalidInput(
            f"there is no warehouse at {path}; `posterity run` makes one, --warehouse FILE "
            "names another"
        )
    if not read_only:
        _make_folder(path)
    engine, version = _open(path, read_only)
    if version is not None and version < schema.SCHEMA_VERSION:
        engine.dispose()
        _open(path, read_only=False)[0].dispose()  # what a killed process left in the log goes in
        back_up(path, version)
        engine, version = _open(path, read_only=False)
        _create(engine, version)
        if read_only:
            engine.dispose()
            engine, version = _open(path, read_only)
    elif not read_only:
        _create(engine, version)
    return engine


def _open(path: Path, read_only: bool) -> tuple[sa.Engine, int | None]:
    """An engine, and the schema version of its file. Raises InvalidInput on a foreign or newer
    one.
    """
    arguments = {"read_only": read_only, "config": dict(LOCKED) if read_only else {}}
    engine = sa.create_engine(f"duckdb:///{path}", connect_args=arguments)
    try:
        with engine.connect() as connection:
            version = _version(connection)
    except DBAPIError as error:
        raise explain(error, path) from error
    try:
        _check_version(version, path)
    except BaseException:
        engine.dispose()
        raise
    return engine, version


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            f"the warehouse {path} cannot be written: {error.strerror}; name another with "
            "--warehouse FILE"
        ) from error


def _version(connection: sa.Connection) -> int | None:
    """The schema version of the file: None for a new, empty file, 0 for a foreign one."""
    tables = sa.inspect(connection).get_table_names()
    if "schema_version" in tables:
        return connection.execute(sa.select(schema.schema_version.c.version)).scalar_one()
    return 0 if tables else None


def _check_version(version: int | None, path: Path) -> None:
    if version == 0:
        raise InvalidInput(
            f"{path} is a DuckDB database, but not a warehouse of Posterity; name another file "
            "with --warehouse"
        )
    if version is not None and version > schema.SCHEMA_VERSION:
        raise InvalidInput(
            f"the warehouse {path} has schema {version}, newer than the {schema.SCHEMA_VERSION} "
            "that this "
            "version knows; upgrade with `pip install --upgrade posterity`, or use another "
            "--warehouse"
        )


def _create(engine: sa.Engine, version: int | None) -> None:
    """Create or migrate what is missing, in one transaction; views are replaced so that they match
    the code.
    """
    try:
        with engine.begin() as connection:
            schema.metadata.create_all(connection)
            if version is None:
                fresh = schema.schema_version.insert().values(version=schema.SCHEMA_VERSION)
                connection.execute(fresh)
            elif version < schema.SCHEMA_VERSION:
                migrate(connection, version)
            for name in VIEWS:
                connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {name} AS\n{view_sql(name)}")
    except BaseException:
        engine.dispose()
        raise


def view_sql(name: str) -> str:
    """The SELECT statement of a view."""
    return files("warehouse").joinpath("views", f"{name}.sql").read_text("utf-8")


def explain(error: DBAPIError, path: Path) -> InvalidInput | ComponentFailure:
    """A database error as one message: what, which file, what to do."""
    reason = str(error.orig).strip()
    holder = re.search(r"\(PID (\d+)\)", reason)
    if holder:
        snapshot = snapshot_of(path)
        instead = (
            f"read what it had after its last generation with --warehouse {snapshot}"
            if snapshot.is_file()
            else "work on another file with --warehouse FILE"
        )
        return InvalidInput(
            f"the warehouse {path} is open in another process (PID {holder[1]}); wait for it to "
            f"finish, or {instead}"
        )
    if "not a valid DuckDB database" in reason or "Serialization Error" in reason:
        return InvalidInput(f"{path} is not a DuckDB file; name another with --warehouse FILE")
    if "Cannot open file" in reason or "Permission" in reason or "directory" in reason.lower():
        return InvalidInput(
            f"the warehouse {path} cannot be opened: {reason.splitlines()[0]}; name another "
            "with --warehouse FILE"
        )
    return ComponentFailure(f"the warehouse {path} failed: {reason.splitlines()[0]}")
