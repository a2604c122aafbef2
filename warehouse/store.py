"""The warehouse as stages use it: they ask what is missing and write their work, mark last."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from curation.curators import CURATORS, nothing_kept
from planners.errors import PosterityError
from warehouse import schema
from warehouse.choice.decide import choose, decide
from warehouse.choice.rules import RULES
from warehouse.findings import Alternative, Figure, Forgotten, Reward
from warehouse.load import Rows, amend, erase, insert, supersede
from warehouse.places.connect import Place, connect, explained, place_of
from warehouse.places.lease import Lease
from warehouse.reading import Reader
from warehouse.records import Domain, Feedback, Mark, Promotion, Record, Task
from warehouse.schema import TABLES

if TYPE_CHECKING:
    import pandas as pd

ASKED_ALONE = "randomised"
"""A question of its own command, whose answer other audits leave as it is."""
FORGOTTEN = "forgotten"
"""In place of the hash of a user who gave feedback: it is nobody else's, not even who asked's."""
EMPTIED: dict[sa.Table, dict[str, Any]] = {
    schema.traces: {"text": "", "token_ids": [], "turn_characters": None, "turn_tokens": None},
    schema.requests: {"prompt": "", "metadata": None, "user_hash": None, "session_hash": None},
    schema.judgements: {"plan": None, "detail": ""},
    schema.feedback: {"comment": None, "user_hash": FORGOTTEN},
    schema.unjudged: {"reason": ""},
    schema.selections: {"reason": FORGOTTEN},
}
"""The columns that are emptied of a trace that is forgotten."""
FOUND = (schema.judgements, schema.unjudged, schema.opinions)
"""The tables of what is found of a trace's text."""
AUDITED = (schema.audits, schema.rewards, schema.alternatives)
"""The tables that an audit fills."""


class Warehouse(Reader):
    """One open warehouse. Close it, or use it as a context manager."""

    def __init__(
        self, place: Path | str | Place, read_only: bool = False, memory: str | None = None
    ) -> None:
        self.place, self.read_only = place_of(place), read_only
        self._made_here = self.place.is_new
        self.engine = connect(self.place, read_only, memory)
        self._lease: Lease | None = None

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A failed command should not leave behind an empty warehouse that it created.
        left_empty = kind is not None and self._made_here and self._is_empty()
        self.close()
        if left_empty:
            self.place.remove()

    def _is_empty(self) -> bool:
        """Whether no row was written into it; False if the database fails."""
        try:
            rows = sa.column("rows", sa.BigInteger)
            counted = sa.select(rows).select_from(sa.table("ledger", rows)).where(rows > 0)
            return not self.rows(counted.limit(1))
        except PosterityError:
            return False

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @property
    def checkpoints(self) -> Path:
        """The folder that holds the weights of its generations."""
        return self.place.checkpoints

    def publish(self) -> None:
        """Let readers in other processes see what is written so far."""
        with explained(self.place):
            self.place.publish(self.engine)

    @contextmanager
    def working_on(self, experiment: str) -> Iterator[None]:
        """Hold the sole right to work on the experiment while the block runs.

        Raises Busy if another process holds it. If this process stalls and another takes over, its
        next write raises LeaseLost and writes nothing.
        """
        before = self._lease
        try:
            with explained(self.place), self.place.lease(self.engine, experiment) as self._lease:
                yield
        finally:
            self._lease = before

    def require_lease(self) -> None:
        """Raise LeaseLost if another process has taken over."""
        if self._lease is not None:
            with self.writing():
                pass  # `writing` checks the lease

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: everything in it is written, or nothing."""
        with (
            explained(self.place), self.place.turn(self.engine), self.engine.begin() as connection
        ):  # fmt: skip
            if self._lease is not None:
                self._lease.require(connection)
            yield connection

    # ------------------------------------------------------------ writing

    def write(self, what: Iterable[Record], mark: Mark | None = None) -> dict[sa.Table, int]:
        """Write records of any kinds and, last in the same transaction, the mark that they are
        complete. Records whose key already exists are skipped. Returns the number of new rows by
        table.
        """
        return self.record(_by_table(what), mark)

    def record(
        self, tables: Mapping[sa.Table, Rows], mark: Mark | None = None
    ) -> dict[sa.Table, int]:
        """The same for rows by table.

        Verdicts among them supersede those of other checker versions on the same traces.
        """
        with self.writing() as connection:
            new = _add(connection, _without_forgotten(connection, tables))
            supersede(connection, tables.get(schema.judgements, ()))
            if mark is not None:
                insert(connection, schema.marks, [mark])
        return new

    def decide(self, decisions: pd.DataFrame, mark: Mark) -> None:
        """Write a curator's decisions for the generation of the mark: a frame with the columns of
        `curation.curators.SELECTED`.
        """
        with self.writing() as connection:
            decide(connection, mark.experiment, mark.generation, decisions)
            insert(connection, schema.marks, [mark])

    def decide_by(self, curator: str, generations: Sequence[int], mark: Mark) -> None:
        """Write the decisions of a curator of RULES on the deployed traces of some generations, for
        the generation of the mark. Raises InvalidInput if it keeps none; nothing is written then.
        """
        with self.writing() as connection:
            kept, of = choose(
                connection, mark.experiment, mark.generation, RULES[curator], generations
            )
            if not kept:
                raise nothing_kept(CURATORS[curator], of, mark.generation)
            insert(connection, schema.marks, [mark])

    def replace_audit(
        self, experiment: str, found: Iterable[Record], generation: int | None = None
    ) -> None:
        """Write what an audit found of an experiment, or of one generation, in place of earlier
        findings on the same generations: a run may have asked of a newer one meanwhile.
        """
        told = list(found)
        asked = {one.generation for one in told if isinstance(one, Figure | Reward | Alternative)}
        with self.writing() as connection:
            for table in AUDITED:
                old = table.c.experiment == experiment
                if table is schema.audits:
                    old &= table.c.question != ASKED_ALONE
                old &= table.c.generation.in_(asked if generation is None else {generation})
                amend(connection, table, old)
            _add(connection, _by_table(told))

    def replace_figures(
        self, experiment: str, generation: int, question: str, found: Iterable[Record]
    ) -> None:
        """Write what one question found of a generation, in place of earlier findings of it."""
        a = schema.audits
        old = (a.c.experiment == experiment) & (a.c.generation == generation)
        with self.writing() as connection:
            amend(connection, a, old & (a.c.question == question))
            _add(connection, _by_table(found))

    def hear(self, feedback: Sequence[Feedback], besides: Iterable[Record]) -> None:
        """Write users' feedback, in place of what was said of the same traces earlier, of which
        the first word stays, and other records in the same transaction.
        """
        f = schema.feedback.c
        with self.writing() as connection:
            _add(connection, _by_table(besides))
            said = sa.select(schema.feedback).where(f.trace.in_([one.trace for one in feedback]))
            rows = connection.execute(said).mappings().all() if feedback else ()
            known = {row["trace"]: Feedback(**row) for row in rows}
            now = dict(known)
            for one in feedback:
                old = now.get(one.trace)
                now[one.trace] = one if old is None else _joined(old, one)
            later = [one for trace, one in now.items() if one != known.get(trace)]
            if later:
                amend(connection, schema.feedback, f.trace.in_([one.trace for one in later]))
                insert(connection, schema.feedback, later)

    def forget(self, found: Sequence[Forgotten], said: Collection[str] = ()) -> None:
        """Erase the content of traces, with their requests, plans, comments and tasks, and write
        what is left of them; findings of audits go too, since they can name it. So does what a
        user said of other traces (`said`), but for whether they accepted them. The database file
        may hold the old bytes until `place.rewrite`.
        """
        ids = [one.trace for one in found]
        k, t, e = schema.tasks.c, schema.traces.c, schema.experiment_tasks.c
        gone = schema.forgotten.c
        # Who was forgotten before has no task any more either.
        others = sa.select(t.task).where(t.trace.not_in(ids), t.trace.not_in(sa.select(gone.trace)))
        named = k.task.in_([one.task for one in found]) | k.task.in_(sa.select(gone.task))
        own = named & k.task.not_in(others) & k.task.not_in(sa.select(e.task))
        with self.writing() as connection:
            erase(connection, schema.tasks, own, {"pddl": "", "domain": ""})
            d = schema.domains.c
            theirs = sa.select(k.domain_hash).where(named)
            used = sa.select(k.domain_hash).where(k.pddl != "")
            unused = d.domain_hash.in_(theirs) & d.domain_hash.not_in(used)
            erase(connection, schema.domains, unused, {"pddl": "", "name": ""})
            f, other = schema.feedback, [trace for trace in said if trace not in ids]
            erase(connection, f, f.c.trace.in_(other), EMPTIED[f])
            # Traits of the erased plans may name what is in them.
            p, a = schema.predictions, schema.audits
            judged = sa.select(t.experiment).where(t.trace.in_(said))  # figures name who did
            runs = {one.experiment for one in found} | {*connection.execute(judged).scalars()}
            amend(connection, p, p.c.experiment.in_(runs) & p.c.trait.contains("="))
            amend(connection, a, a.c.experiment.in_(runs))
            for table, values in EMPTIED.items():
                erase(connection, table, table.c.trace.in_(ids), values)
            insert(connection, schema.forgotten, found)

    def rewrite(self) -> None:
        """Write the file anew without what was erased, and its snapshot."""
        with explained(self.place):
            self.place.rewrite(self.engine)
        self.engine = connect(self.place)
        self.publish()

    def regrade(self, tasks: Sequence[Task]) -> None:
        """Copy size and horizon from `tasks` to the stored ones that have no horizon (ingested)."""
        k = schema.tasks
        graded = {task.key: task for task in tasks if task.horizon is not None}
        with self.writing() as connection:
            ungraded = sa.select(k.c.task).where(k.c.horizon.is_(None))
            for key in connection.execute(ungraded).scalars().all():
                if key in graded:
                    grade = {"size": graded[key].size, "horizon": graded[key].horizon}
                    amend(connection, k, k.c.task == key, **grade)

    def revoke(self, name: str, at: datetime) -> bool:
        """Let the key of this name open nothing any more; whether there was one that did."""
        k = schema.api_keys
        own = sa.select(k.c.key_hash).where(k.c.name == name, k.c.revoked_at.is_(None))
        with self.writing() as connection:
            found = connection.execute(own).scalars().all()
            erase(connection, k, k.c.key_hash.in_(found), {"revoked_at": at})
        return bool(found)

    def promote(self, decision: Promotion) -> Promotion:
        """Append a promotion decision; return it with its position."""
        p = schema.promotions
        with self.writing() as connection:
            mine = sa.select(sa.func.count()).where(p.c.experiment == decision.experiment)
            placed = replace(decision, position=connection.execute(mine).scalar_one())
            insert(connection, p, [placed])
        return placed


def _joined(said: Feedback, also: Feedback) -> Feedback:
    """That which is kept of two words on one trace: the later one, and which one was the first."""
    if replace(said, first_accepted=None, first_given_at=None) == also:
        return said  # the same line once more
    first_at = said.first_given_at or said.given_at
    accepted = said.accepted if said.first_accepted is None else said.first_accepted
    if _before(also.given_at, first_at):
        first_at, accepted = also.given_at, also.accepted
    last = said if _before(also.given_at, said.given_at) else also
    return replace(last, first_accepted=accepted, first_given_at=first_at)


def _before(time: datetime | None, other: datetime | None) -> bool:
    """Whether a time is before another; times that nobody knows are before and after none."""
    return time is not None and other is not None and time < other


def _add(connection: sa.Connection, tables: Mapping[sa.Table, Rows]) -> dict[sa.Table, int]:
    """Insert rows by table; the number of new ones of each."""
    new = {}
    for table, rows in tables.items():
        new[table] = insert(connection, table, rows)
        _restore(connection, table, rows)
    return new


def _without_forgotten(
    connection: sa.Connection, tables: Mapping[sa.Table, Rows]
) -> Mapping[sa.Table, Rows]:
    """Without what was found of traces that were forgotten meanwhile: plans are in it."""
    found = [table for table in FOUND if len(tables.get(table, ()))]
    if not found:
        return tables
    gone = set(connection.execute(sa.select(schema.forgotten.c.trace)).scalars())
    return {**tables, **{table: _but(tables[table], gone) for table in found}} if gone else tables


def _but(rows: Rows, gone: set[str]) -> Rows:
    """Rows about other traces than these."""
    if isinstance(rows, pa.Table):
        return rows.filter(pa.array([trace not in gone for trace in rows["trace"].to_pylist()]))
    by = (one["trace"] if isinstance(one, Mapping) else getattr(one, "trace", "") for one in rows)
    return [one for one, trace in zip(rows, by, strict=True) if trace not in gone]


def _restore(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Give a task or domain its text and name back that were erased with one user's, if another has
    it.
    """
    if table not in (schema.tasks, schema.domains):
        return
    [key], pddl = table.primary_key.columns, table.c.pddl
    told = {
        one.key if isinstance(one, Task) else one.hash: {"pddl": one.pddl}
        | ({"domain": one.domain} if isinstance(one, Task) else {"name": one.name})
        for one in rows
        if isinstance(one, Task | Domain) and one.pddl
    }
    erased = sa.select(key).where(key.in_(told), pddl == "")
    for own in connection.execute(erased).scalars().all() if told else ():
        amend(connection, table, (key == own) & (pddl == ""), **told[own])


def _by_table(what: Iterable[Record]) -> dict[sa.Table, list[Record]]:
    found: dict[sa.Table, list[Record]] = {}
    for one in what:
        found.setdefault(TABLES[type(one)], []).append(one)
    return found
