"""A warehouse in one DuckDB file: opens it, locks it down for users' SQL, and copies it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from planners.errors import Busy, ComponentFailure, InvalidInput
from warehouse.load import quoted

DatabaseError = DBAPIError | duckdb.Error
DATABASE_ERRORS = (DBAPIError, duckdb.Error)
"""SQLAlchemy's error, and DuckDB's own, which escapes when DuckDB invalidates a database."""

LOCKING = threading.Lock()
"""For threads that open the same file at the same time."""
LOCKED = (
    "SET enable_external_access = false",
    "SET disabled_filesystems = 'LocalFileSystem'",
    "SET lock_configuration = true",
)
"""Statements for readers: no network, no extension, no file but the open one, and no way back.
Without the second line SQL could still write to the open file by its name.
"""

FETCHING_NOTHING = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""DuckDB would fetch what opens a file of another kind."""
SILENT = "PRAGMA disable_progress_bar"
"""In a process that some other started, DuckDB draws one as if somebody sat before it."""
MEMORY = "POSTERITY_MEMORY"
"""The environment variable that limits DuckDB's memory."""
SNAPSHOT = ".snapshot"
"""The ending of a snapshot's name: `posterity.duckdb.snapshot` beside `posterity.duckdb`."""


COPY = "import shutil, sys; shutil.copy2(sys.argv[1], sys.argv[2])"
"""Run in a process of its own: when a process closes a file, it loses all its locks on that file,
and DuckDB's lock keeps a second writer out.
"""
TURN = threading.RLock()
"""Makes threads write one after the other, so that each sees which keys exist."""


@dataclass(frozen=True, slots=True)
class File:
    """A DuckDB file: one process writes it, or several read it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def absolute(self) -> File:
        """The same file, with an absolute path, whatever links lead to it."""
        return File(self.path.resolve())

    @property
    def checkpoints(self) -> Path:
        """The folder beside the file that holds the weights of its generations."""
        return self.path.with_name(self.path.name.removesuffix(SNAPSHOT) + ".checkpoints")

    @property
    def landing(self) -> Path:
        """The folder beside the file where workers land rows."""
        return self.path.with_name(self.path.name.removesuffix(SNAPSHOT) + ".landing")

    @property
    def written(self) -> str:
        """When the file was written last, in UTC."""
        at = datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        return f"{at:%Y-%m-%d %H:%M} UTC"

    @property
    def is_new(self) -> bool:
        """Whether opening it for writing creates it."""
        return not self.path.exists()

    @property
    def log(self) -> Path:
        """The file beside it in which DuckDB keeps what it has not written into it yet."""
        return self.path.with_name(self.path.name + ".wal")

    def remove(self) -> None:
        """Delete the file, when the command that created it failed."""
        self.path.unlink(missing_ok=True)

    def engine(self, read_only: bool, memory: str | None = None) -> sa.Engine:
        """An engine on the file, which is neither opened nor checked yet. A read-only one reaches
        nothing else. With a `memory` limit it does not spill to disk either.
        """
        if read_only and not self.path.is_file():
            raise InvalidInput(
                f"there is no warehouse at {self}; `posterity run` makes one, --warehouse FILE "
                "names another"
            )
        if not read_only:
            self.require_own()
        config = {**limited(memory, read_only), **FETCHING_NOTHING}
        arguments = {"read_only": read_only, "config": config}
        # In full, and as a field: to DuckDB `:memory:x` is no file, `a:x` one of another kind, and
        # a `?` ends a name.
        place = sa.URL.create("duckdb", database=str(self.path.absolute()))
        engine = sa.create_engine(place, connect_args=arguments)
        sa.event.listen(engine, "connect", lambda raw, _: raw.execute(SILENT))
        if read_only:
            sa.event.listen(engine, "connect", lambda raw, _: _lock(raw))
        return engine

    def require_own(self) -> None:
        """Raise InvalidInput where nobody may write to it: a copy, or in a folder that is not."""
        if self.path.name.endswith(SNAPSHOT):
            raise InvalidInput(
                f"{self} is a copy that a run publishes, and will be replaced: write to "
                f"{str(self).removesuffix(SNAPSHOT)}"
            )
        if not (folder := self.path.parent).is_dir():
            raise InvalidInput(
                f"the warehouse {self} cannot be made: there is no folder {folder}; make it, or "
                "name another warehouse with --warehouse FILE"
            )

    def rewrite(self, engine: sa.Engine) -> None:
        """Write the database anew, without the bytes of what was deleted or changed. Nobody may
        have a connection.
        """
        fresh = self.path.with_name(self.path.name + ".rewritten")
        fresh.unlink(missing_ok=True)
        # Without a transaction around it, since DuckDB detaches nothing within one.
        raw: Any = engine.raw_connection().driver_connection
        [(name,)] = raw.execute("SELECT current_database()").fetchall()
        raw.execute("CHECKPOINT")  # its log is gone then
        own, other = (one.replace('"', '""') for one in (name, f"{name} rewritten"))
        raw.execute(f'ATTACH {quoted(fresh.absolute())} AS "{other}"')
        raw.execute(f'COPY FROM DATABASE "{own}" TO "{other}"')
        raw.execute(f'DETACH "{other}"')
        fresh.replace(self.path)
        engine.dispose()  # only now: nobody else writes to the old file before it is replaced

    def lease(self, engine: sa.Engine, experiment: str) -> AbstractContextManager[None]:
        """No lease is needed: the process that writes the file has it alone."""
        return nullcontext()

    def turn(self, engine: sa.Engine) -> AbstractContextManager[object]:
        """Wait for other threads that write; DuckDB itself keeps out other processes."""
        return TURN

    def back_up(self, version: int) -> None:
        """Copy a file that nobody has open to `FILE.schema-N.backup`, whole or not at all."""
        engine = self.engine(read_only=False)  # applies the log of a killed process
        engine.connect().close()
        engine.dispose()
        self._copy(f".schema-{version}.backup")

    def backups(self) -> list[Path]:
        """Its copies from before it was migrated."""
        return sorted(self.path.parent.glob(f"{self.path.name}.schema-*.backup"))

    @property
    def snapshot(self) -> Path:
        """The path of its snapshot."""
        return self.path.with_name(self.path.name + SNAPSHOT)

    @property
    def original(self) -> File:
        """The file that it is a snapshot of, if it is one. Raises InvalidInput if that is gone."""
        if not self.path.name.endswith(SNAPSHOT):
            return self
        origin = File(self.path.with_name(self.path.name.removesuffix(SNAPSHOT)))
        if origin.is_new:
            raise InvalidInput(
                f"{self} was published by an older version from {origin}, which is gone: rename it "
                "to that, and it is brought up to date"
            )
        return origin

    @property
    def published(self) -> File:
        """The snapshot, which readers open while a run holds the file."""
        return File(self.snapshot)

    def publish(self, engine: sa.Engine) -> None:
        """Copy what is written so far to the snapshot, for readers while a run has the file open.

        The new copy replaces the old one atomically.
        """
        with engine.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")
            copy = self.snapshot
            # A copy keeps the file's time stamp: where they are equal, nothing has changed.
            if not copy.exists() or copy.stat().st_mtime_ns != self.path.stat().st_mtime_ns:
                self._copy(SNAPSHOT)

    def _copy(self, ending: str) -> None:
        target = self.path.with_name(self.path.name + ending)
        partial = target.with_name(target.name + ".partial")
        copied = subprocess.run(
            [sys.executable, "-I", "-S", "-c", COPY, str(self.path), str(partial)],
            capture_output=True,
            text=True,
        )
        if copied.returncode:
            partial.unlink(missing_ok=True)
            reason = (copied.stderr.strip().splitlines() or ["it was stopped"])[-1]
            raise ComponentFailure(
                f"the copy {target} cannot be written: {reason}; free some space there and run the "
                "same command again"
            )
        partial.replace(target)

    def explain(self, error: DatabaseError) -> InvalidInput | ComponentFailure:
        """A database error as one message: what, which file, what to do."""
        reason = str(getattr(error, "orig", error)).strip()
        holder = re.search(r"\(PID (\d+)\)", reason)
        if holder:
            instead = (
                "read what it had after its last generation with --warehouse "
                + shlex.quote(str(self.snapshot))
                if self.snapshot.is_file()
                else "work on another file with --warehouse FILE"
            )
            return Busy(
                f"the warehouse {self} is open in another process (PID {holder[1]}); wait for it "
                f"to finish, or {instead}"
            )
        if re.search(
            "not a valid DuckDB database|Serialization Error|Extension .* not found", reason
        ):
            return InvalidInput(f"{self} is not a DuckDB file; name another with --warehouse FILE")
        if re.search("No space left|File too large|quota", reason):
            return ComponentFailure(
                f"no space left for {self}; nothing finished is lost: free some and run "
                "the same command again"
            )
        if "Out of Memory" in reason:
            return ComponentFailure(
                f"the warehouse {self} needs more memory than there is, or than {MEMORY} allows: "
                f"{reason.splitlines()[0]}"
            )
        if "Cannot open file" in reason or "Permission" in reason or "directory" in reason.lower():
            return InvalidInput(
                f"the warehouse {self} cannot be opened: {reason.splitlines()[0]}; name another "
                "with --warehouse FILE"
            )
        return ComponentFailure(f"the warehouse {self} failed: {reason.splitlines()[0]}")


@dataclass(frozen=True, slots=True)
class Still(File):
    """A file as it is when it is opened first: its readers keep it, even when another takes its
    name, and do not share it with other readers in this process.
    """

    def engine(self, read_only: bool, memory: str | None = None) -> sa.Engine:
        """An engine for readers on a database of its own, to which the file is attached."""
        if not read_only or not self.path.is_file():
            return File(self.path).engine(read_only, memory)
        engine = sa.create_engine(
            f"duckdb:///:memory:{uuid4().hex}", poolclass=sa.QueuePool,
            connect_args={"config": limited(memory, read_only)},
        )  # fmt: skip

        def attach(raw: Any, _: object) -> None:
            known = "SELECT count(*) FROM duckdb_databases() WHERE database_name = 'posterity'"
            # With IF NOT EXISTS, DuckDB waits forever where another reader of the file is closed.
            with LOCKING:
                if not raw.execute(known).fetchone()[0]:
                    raw.execute(f"ATTACH {quoted(self.path.absolute())} AS posterity (READ_ONLY)")
            raw.execute("USE posterity")
            raw.execute(SILENT)
            _lock(raw)

        sa.event.listen(engine, "connect", attach)
        return engine


def limited(memory: str | None, read_only: bool) -> dict[str, str]:
    """DuckDB's settings for a limit on its memory, by default that of POSTERITY_MEMORY; only that
    may be exceeded on disk, by writers. Raises InvalidInput if it is no size.
    """
    told = os.environ.get(MEMORY)
    if memory is None and told:
        if not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", told):
            raise InvalidInput(f"{MEMORY}={told!r}: expected a size such as 2GB or 512MiB")
        if not read_only:
            return {"memory_limit": told}
    size = memory or told
    return {"memory_limit": size, "temp_directory": ""} if size else {}


def _lock(raw: Any) -> None:
    """Lock the database down; once one connection has, the setting holds for all of this process
    that have the file open.
    """
    with LOCKING:
        if not raw.execute("SELECT current_setting('lock_configuration')").fetchone()[0]:
            for statement in LOCKED:
                raw.execute(statement)
