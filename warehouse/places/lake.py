"""A warehouse on DuckLake: many machines share it, and DuckDB stays the engine.

The catalogue is a PostgreSQL database, the rows are Parquet files in a shared folder or on object
storage. DuckLake has no keys, so writers take turns under a lock in the catalogue, and
`warehouse.load` skips rows whose key exists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from planners.errors import ComponentFailure, InvalidInput
from warehouse.load import quoted
from warehouse.places.file import SILENT, DatabaseError, limited
from warehouse.places.lease import Lease, leased

PREFIX = "ducklake:"
NAME = "warehouse"
"""The lake's name in SQL."""
TAKE_TURN = """
SELECT *
FROM postgres_query(
    'catalogue', 'SELECT 1 AS mine FROM (SELECT pg_advisory_xact_lock(1886352244)) AS taken'
)
"""
"""Waits for the write lock, which PostgreSQL frees when this transaction ends. No other program
uses its number.
"""
REWRITE = (
    f"CALL ducklake_flush_inlined_data('{NAME}')",
    f"CALL ducklake_rewrite_data_files('{NAME}', delete_threshold => 0)",
    f"CALL ducklake_merge_adjacent_files('{NAME}')",
    f"CALL ducklake_expire_snapshots('{NAME}', older_than => now() + INTERVAL 1 DAY)",
    f"CALL ducklake_cleanup_old_files('{NAME}', cleanup_all => true)",
)
"""Rows kept in the catalogue go to files, files lose their deleted rows, older states are given up,
and then nothing needs the older files.
"""
NO_SAMPLES = """
DO $$ DECLARE sampled record; BEGIN
    FOR sampled IN
        SELECT format('%I.%I', schemaname, tablename) AS place, attname,
            (SELECT format_type(atttypid, atttypmod) FROM pg_attribute
             WHERE attrelid = format('%I.%I', schemaname, tablename)::regclass
               AND pg_attribute.attname = pg_stats.attname) AS kind
        FROM pg_stats WHERE starts_with(tablename, 'ducklake_')
    LOOP
        EXECUTE format(
            'ALTER TABLE %s ALTER COLUMN %I TYPE %s', sampled.place, sampled.attname, sampled.kind
        );
    END LOOP;
END $$
"""
"""PostgreSQL keeps samples of each column's values for its planner, even of values that are gone. A
column that is given a type, be it its own, loses them; a table's owner has no other way.
"""
PATIENCE = 60
"""Seconds that the catalogue's tables are waited for before they are written anew."""
EXTENSIONS = ("postgres_scanner", "ducklake")
EXAMPLE = "ducklake:postgres:host=db1 dbname=lake?data=/shared/lake"
BUCKET = r"s3://[A-Za-z0-9][A-Za-z0-9._/-]*"
"""Rows on object storage, as `&rows=` names them."""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SHOWN = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token")
"""Settings that a query can read."""
MANY_FILES = 100
"""Files of rows from which on small ones are joined."""


@dataclass(frozen=True, slots=True)
class Lake:
    """A DuckLake with its catalogue in PostgreSQL: several processes write it at once, in turns.

    Weights and what lands are in the folder `data`, and so are the rows, unless `bucket` says where
    on object storage they are.
    """

    catalogue: str
    data: Path
    bucket: str = ""

    @classmethod
    def at(cls, url: str) -> Lake:
        """The lake that a URL like EXAMPLE names. Raises InvalidInput on any other URL."""
        form = r"ducklake:postgres:(?P<catalogue>[^?]+)\?data=(?P<data>/[^&]*)(&rows=(?P<rows>.*))?"
        found = re.fullmatch(form, url)
        if found is None:
            raise InvalidInput(f"the warehouse {url!r} is not of the form {EXAMPLE!r}")
        bucket = (found["rows"] or "").rstrip("/")
        if found["rows"] is not None and not re.fullmatch(BUCKET, bucket):
            raise InvalidInput(
                f"rows={bucket!r} is no place on object storage such as rows=s3://bucket/lake"
            )
        if re.search(r"password\s*=|://", found["catalogue"]):
            raise InvalidInput(
                "the catalogue is named in keywords such as host=db1 dbname=lake, without a "
                "password; give that in PGPASSWORD or in ~/.pgpass"
            )
        return cls(found["catalogue"].strip(), Path(found["data"]), bucket)

    def __str__(self) -> str:
        rows = f"&rows={self.bucket}" if self.bucket else ""
        return f"{PREFIX}postgres:{self.catalogue}?data={self.data}{rows}"

    def absolute(self) -> Lake:
        """Itself: a lake is the same from everywhere."""
        return self

    @property
    def checkpoints(self) -> Path:
        """The folder beside the rows that holds the weights of its generations."""
        return self.data / "checkpoints"

    @property
    def landing(self) -> Path:
        """The folder beside the rows where workers land new rows."""
        return self.data / "landing"

    @property
    def written(self) -> str:
        """Empty: other machines may write at any time."""
        return ""

    def require_own(self) -> None:
        """Anybody may write to a lake."""

    @property
    def is_new(self) -> bool:
        """Always False: a failed command must not remove what others may be using."""
        return False

    def rewrite(self, engine: sa.Engine) -> None:
        """Write the files anew without what was deleted or changed, and give up every older state
        of the lake. What PostgreSQL keeps to recover from a crash is overwritten in its own time.
        """
        with self.turn(engine):
            raw: Any = engine.raw_connection().driver_connection
            for statement in REWRITE:
                raw.execute(statement)
        engine.dispose()  # its connections would make the catalogue wait
        with closing(duckdb.connect()) as fresh:
            fresh.execute(f"LOAD {quoted(_extension('postgres_scanner'))}")
            patient = f"{self.catalogue} options='-c lock_timeout={PATIENCE}s'"
            fresh.execute(f"ATTACH {quoted(patient)} AS catalogue (TYPE postgres)")
            for statement in (NO_SAMPLES, "VACUUM FULL"):
                fresh.execute(
                    "CALL postgres_execute('catalogue', ?, use_transaction => false)", [statement]
                )

    def remove(self) -> None:
        """Does nothing: others may be using the lake."""

    def engine(self, read_only: bool, memory: str | None = None) -> sa.Engine:
        """An engine whose connections have the lake attached and in use. With a `memory` limit they
        do not spill to disk.
        """
        if read_only and not self.data.is_dir():
            raise InvalidInput(
                f"there is no folder {self.data} for the warehouse {self}; `posterity run` makes it"
            )
        if self.bucket and not read_only:  # where rows are files, DuckLake makes it
            self.data.mkdir(parents=True, exist_ok=True)
        key = blake2b(f"{self} {read_only} {memory}".encode(), digest_size=8).hexdigest()
        engine = sa.create_engine(
            f"duckdb:///:memory:{key}",
            poolclass=QueuePool,
            connect_args={"config": limited(memory, read_only)},
        )
        sa.event.listen(engine, "connect", lambda raw, _: self._attach(raw, read_only))
        return engine

    def _attach(self, raw: Any, read_only: bool) -> None:
        # Connections share one in-memory database, so only the first attaches the lake.
        attached = f"SELECT count(*) FROM duckdb_databases() WHERE database_name = '{NAME}'"
        if not raw.execute(attached).fetchone()[0]:
            for name in (*EXTENSIONS, *(["httpfs"] if self.bucket else [])):
                raw.execute(f"LOAD {quoted(_extension(name))}")
            if self.bucket:
                raw.execute(_secret())
                for name in SHOWN:  # httpfs copies the keys to where any query could read them
                    raw.execute(f"SET {name} = ''")
            rows = quoted(self.bucket or self.data / "rows")
            options = f"DATA_PATH {rows}{', READ_ONLY' if read_only else ''}"
            attach = f"ATTACH {quoted(f'ducklake:postgres:{self.catalogue}')} AS {NAME} ({options})"
            if read_only:
                raw.execute(attach)
                raw.execute(f"SET allowed_directories = [{rows}]")
                raw.execute("SET enable_external_access = false")
                raw.execute("SET lock_configuration = true")
            else:
                raw.execute(f"ATTACH {quoted(self.catalogue)} AS catalogue (TYPE postgres)")
                with closing(raw.cursor()) as other:  # the first process makes the lake's tables
                    other.execute("BEGIN")
                    other.execute(TAKE_TURN)
                    other.fetchall()
                    raw.execute(attach)
                    other.execute("COMMIT")
        raw.execute(f"USE {NAME}")
        raw.execute(SILENT)

    def lease(self, engine: sa.Engine, experiment: str) -> AbstractContextManager[Lease]:
        """Hold the lease of an experiment while a block runs. Raises Busy if another has it."""
        return leased(engine, experiment)

    @contextmanager
    def turn(self, engine: sa.Engine) -> Iterator[None]:
        """Hold the write lock while the block runs; it is freed even if the process dies."""
        with engine.begin() as connection:
            connection.exec_driver_sql(TAKE_TURN).fetchall()
            yield

    def back_up(self, version: int) -> None:
        """Does nothing: DuckLake keeps every change as a snapshot that can be read again."""

    def backups(self) -> list[Path]:
        """None: see `back_up`."""
        return []

    @property
    def published(self) -> Lake:
        """Itself: readers open the lake directly."""
        return self

    def publish(self, engine: sa.Engine) -> None:
        """Join small files once there are many. Readers see every committed transaction anyway, and
        go on reading the old files.
        """
        counted = f"SELECT sum(file_count) FROM ducklake_table_info('{NAME}')"
        with engine.connect() as connection:
            files = connection.exec_driver_sql(counted).scalar()
        if (files or 0) < MANY_FILES:
            return
        with self.turn(engine):
            raw: Any = engine.raw_connection().driver_connection
            raw.execute(f"CALL ducklake_merge_adjacent_files('{NAME}')")

    def explain(self, error: DatabaseError) -> InvalidInput | ComponentFailure:
        """A database error as one message: what, which lake, what to do."""
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        if re.search(r"unable to connect|connection to server|does not exist", reason, re.I):
            return InvalidInput(
                f"the catalogue of the warehouse {self} cannot be reached: {reason}; start "
                "PostgreSQL there, or make the database with `createdb`"
            )
        if self.bucket and re.search(r"HTTP|s3://|curl", reason):
            return ComponentFailure(
                f"the object storage of the warehouse {self} failed: {reason}; see that "
                "AWS_ENDPOINT_URL, AWS_REGION and the keys are right, and the bucket is there"
            )
        if "DATA_PATH" in reason:
            return InvalidInput(
                f"the warehouse {self} was made with another data folder; correct ?data=: {reason}"
            )
        return ComponentFailure(f"the warehouse {self} failed: {reason}")


def _secret() -> str:
    """The statement that lets a connection reach object storage, from the environment variables
    that tools for S3 share. Raises InvalidInput where a key is missing.
    """
    told = os.environ
    if missing := [name for name in KEYS if not told.get(name)]:
        raise InvalidInput(f"rows on object storage need {' and '.join(missing)} to be set")
    endpoint = urlsplit(told.get("AWS_ENDPOINT_URL_S3") or told.get("AWS_ENDPOINT_URL") or "")
    region = told.get("AWS_REGION") or told.get("AWS_DEFAULT_REGION") or "us-east-1"
    how = {"KEY_ID": told[KEYS[0]], "SECRET": told[KEYS[1]], "REGION": region}
    if token := told.get("AWS_SESSION_TOKEN"):
        how["SESSION_TOKEN"] = token
    if endpoint.netloc:
        encrypted = str(endpoint.scheme == "https").lower()
        how |= {"ENDPOINT": endpoint.netloc, "URL_STYLE": "path", "USE_SSL": encrypted}
    options = ", ".join(f"{name} {quoted(value)}" for name, value in how.items())
    return f"CREATE OR REPLACE SECRET rows (TYPE s3, {options})"


def _extension(name: str) -> Path:
    """The file of a DuckDB extension, from its installed wheel: nothing is downloaded."""
    try:
        package = resources.files(f"duckdb_extension_{name}")
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"a warehouse on DuckLake needs DuckDB's extension {name}; run `pip install "
            "'posterity[lake]'`"
        ) from error
    return Path(str(package / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"))
