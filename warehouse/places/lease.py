"""Leases: of the processes that share a lake, one at a time works on an experiment.

A lease is a row in the catalogue's PostgreSQL, and only that server's clock counts. Its holder
renews it; it expires when the holder is gone. Every write transaction checks the holder, so a
process that lost its lease finds out before its next write.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import sqlalchemy as sa

from planners.errors import Busy, LeaseLost
from warehouse.load import quoted
from warehouse.places.file import DATABASE_ERRORS

EXPIRES, EVERY = 60, 15
"""Seconds until a lease expires, and between renewals."""
TABLE = """
CREATE TABLE IF NOT EXISTS posterity_leases (
    experiment TEXT PRIMARY KEY, holder TEXT, expires TIMESTAMPTZ
)
"""
TAKE = """
INSERT INTO posterity_leases
VALUES ({experiment}, {holder}, clock_timestamp() + {seconds} * interval '1 second')
ON CONFLICT (experiment) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
WHERE posterity_leases.expires < clock_timestamp()
"""
RENEW = """
UPDATE posterity_leases
SET expires = clock_timestamp() + {seconds} * interval '1 second'
WHERE experiment = {experiment} AND holder = {holder}
"""
"""Apart from TAKE, so that a renewal never takes back a lease that was lost."""
GIVE_BACK = "DELETE FROM posterity_leases WHERE experiment = {experiment} AND holder = {holder}"
HELD = "SELECT holder FROM posterity_leases WHERE experiment = {experiment}"
TRIES = 5
"""Attempts: of two transactions that take a lease at once, PostgreSQL may abort one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of `holder` to work on an experiment in a lake."""

    experiment: str
    holder: str

    def require(self, connection: sa.Connection) -> None:
        """Raise LeaseLost if `holder` has lost it; reads in the connection's transaction."""
        if (holder := self.held_by(connection)) != self.holder:
            raise LeaseLost(
                f"{holder or 'nobody'} took the lease of {self.experiment}, which this process "
                f"did not renew for {EXPIRES} s; nothing was written since: see `posterity status`"
            )

    def held_by(self, connection: sa.Connection) -> str | None:
        """The current holder; None if nobody has the lease."""
        asked = f"SELECT holder FROM postgres_query('catalogue', {quoted(self._filled(HELD))})"
        return connection.exec_driver_sql(asked).scalar_one_or_none()

    def take(self, engine: sa.Engine) -> None:
        """Take the lease. Raises Busy if another process has it."""
        for tried in range(TRIES):
            try:
                with engine.begin() as connection:
                    _execute(connection, self._filled(TAKE))
                    holder = self.held_by(connection)
                break
            except DATABASE_ERRORS:
                if tried == TRIES - 1:
                    raise
        if holder != self.holder:
            raise Busy(
                f"{holder} is at work on {self.experiment}; wait for it to finish, or, if it is "
                f"gone, {EXPIRES} s until its lease expires"
            )

    def renew(self, engine: sa.Engine) -> None:
        """Extend the lease if it is still ours; if not, the next write raises LeaseLost."""
        with engine.begin() as connection:
            _execute(connection, self._filled(RENEW))

    def give_back(self, engine: sa.Engine) -> None:
        """Release the lease."""
        with engine.begin() as connection:
            _execute(connection, self._filled(GIVE_BACK))

    def _filled(self, sql: str) -> str:
        named = {"experiment": quoted(self.experiment), "holder": quoted(self.holder)}
        return sql.format(**named, seconds=EXPIRES)


@contextmanager
def leased(engine: sa.Engine, experiment: str) -> Iterator[Lease]:
    """Hold the lease of an experiment while the block runs. Raises Busy if it is taken."""
    holder = f"process {os.getpid()} of {socket.gethostname()} ({uuid4().hex[:8]})"
    lease, over = Lease(experiment, holder), threading.Event()
    with engine.begin() as connection:
        _execute(connection, TABLE)
    lease.take(engine)

    def renew() -> None:
        while not over.wait(EVERY):
            with suppress(*DATABASE_ERRORS):  # the catalogue may be back before it expires
                lease.renew(engine)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        with suppress(*DATABASE_ERRORS):  # without the catalogue, the lease expires by itself
            lease.give_back(engine)


def _execute(connection: sa.Connection, sql: str) -> None:
    connection.exec_driver_sql(f"CALL postgres_execute('catalogue', {quoted(sql)})")
