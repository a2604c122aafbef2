"""The warehouse as the stages see it: what is missing, and writing what was done, mark last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from planners.errors import PosterityError
from warehouse import schema
from warehouse.connect import Place, connect, place_of
from warehouse.frames import read_frame
from warehouse.load import insert
from warehouse.places.file import DATABASE_ERRORS
from warehouse.places.lease import Lease
from warehouse.superseded import supersede

Row = dict[str, Any]
Table = sa.Table
Rows = dict[Table, list[Row]]
"""Rows by the table they belong to."""
Mark = tuple[str, int, str, int]
"""Experiment, generation, stage, part."""


class Warehouse:
    """One open warehouse. Close it, or use it as a context manager."""

    def __init__(self, place: Path | str | Place, read_only: bool = False) -> None:
        self.place = place_of(place)
        self._made_here = self.place.is_new
        self.engine = connect(self.place, read_only)
        self._lease: Lease | None = None

    def __enter__(self) -> Warehouse:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        left_empty = kind is not None and self._made_here and self._is_empty()
        self.close()
        if left_empty:
            self.place.remove()

    def _is_empty(self) -> bool:
        """Whether nothing is in it; not where the database gave up."""
        try:
            return not self.rows(sa.select(schema.experiments.c.experiment).limit(1))
        except PosterityError:
            return False

    def close(self) -> None:
        self.engine.dispose()

    @property
    def checkpoints(self) -> Path:
        """The folder that holds the weights of its generations."""
        return self.place.checkpoints

    def publish(self) -> None:
        """Let readers in other processes see what is written so far."""
        try:
            self.place.publish(self.engine)
        except DATABASE_ERRORS as error:
            raise self.place.explain(error) from error

    @contextmanager
    def working_on(self, experiment: str) -> Iterator[None]:
        """Nobody else who shares the warehouse works on the experiment while the block runs.

        Raises Busy where somebody does. Where another process took over all the same, since this
        one was held up, its next write raises LeaseLost and writes nothing.
        """
        try:
            with self.place.lease(self.engine, experiment) as self._lease:
                yield
        except DATABASE_ERRORS as error:
            raise self.place.explain(error) from error
        finally:
            self._lease = None

    def require_lease(self) -> None:
        """Raise LeaseLost where another process has taken over."""
        if self._lease is not None:
            with self.writing():
                pass

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: everything in it is written, or nothing."""
        try:
            with self.place.turn(self.engine), self.engine.begin() as connection:
                if self._lease is not None:
                    self._lease.require(connection)
                yield connection
        except DATABASE_ERRORS as error:
            raise self.place.explain(error) from error

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A connection whose errors are one message."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except DATABASE_ERRORS as error:
            raise self.place.explain(error) from error

    def frame(self, sql: str, **parameters: object) -> pd.DataFrame:
        """The result of a query as a frame; `:name` parameters. Whole numbers are int64, where some
        are missing float64.
        """
        with self._reading() as connection:
            return read_frame(connection, sql, parameters)

    def batches(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        """The result of a query in Arrow batches, at least one, however large it is."""
        with self._reading() as connection:
            raw = connection.connection.driver_connection
            reader = raw.execute(sql).to_arrow_reader(rows)  # type: ignore[union-attr]
            yield pa.RecordBatch.from_pylist([], reader.schema)
            yield from reader

    def rows(self, statement: sa.Select[Any]) -> list[Row]:
        """The result of a select as plain dictionaries."""
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def count(self, table: sa.Table) -> int:
        """How many rows a table has."""
        return int(self.rows(sa.select(sa.func.count().label("n")).select_from(table))[0]["n"])

    # ------------------------------------------------------------ marks

    def done(self, experiment: str, generation: int, stage: str) -> set[int]:
        """The parts of a stage that are complete."""
        m = schema.marks.c
        chosen = sa.select(m.part).where(
            m.experiment == experiment, m.generation == generation, m.stage == stage
        )
        return {row["part"] for row in self.rows(chosen)}

    def record(
        self,
        tables: Mapping[sa.Table, Sequence[Row] | pa.Table | pd.DataFrame],
        mark: Mark | None = None,
    ) -> None:
        """Write rows and, in the same transaction and last, the mark that they are complete.

        Where verdicts are among them, what other versions said of these traces is superseded.
        """
        with self.writing() as connection:
            for table, rows in tables.items():
                insert(connection, table, rows)
            supersede(connection, tables.get(schema.judgements, ()))
            if mark is not None:
                names = ("experiment", "generation", "stage", "part")
                insert(connection, schema.marks, [dict(zip(names, mark, strict=True))])

    def replace(self, experiment: str, tables: Rows, generation: int | None = None) -> None:
        """Write rows of an experiment, or of one generation, in place of those there were of it."""
        with self.writing() as connection:
            for table in tables:
                old = sa.delete(table).where(table.c.experiment == experiment)
                if generation is not None:
                    old = old.where(table.c.generation == generation)
                connection.execute(old)
            for table, rows in tables.items():
                insert(connection, table, rows)

    def regrade(self, tasks: Sequence[Row]) -> None:
        """Give tasks that came without a horizon, from elsewhere, the grade of these rows."""
        k = schema.tasks
        graded = {row["task"]: row for row in tasks if row["horizon"] is not None}
        with self.writing() as connection:
            ungraded = sa.select(k.c.task).where(k.c.horizon.is_(None))
            for key in connection.execute(ungraded).scalars().all():
                if key in graded:
                    grade = {name: graded[key][name] for name in ("size", "horizon")}
                    connection.execute(sa.update(k).where(k.c.task == key).values(grade))

    def decide(self, row: Row) -> Row:
        """Write a decision on promotion behind those there are, and return it with its position."""
        p = schema.promotions
        with self.writing() as connection:
            mine = sa.select(sa.func.count()).where(p.c.experiment == row["experiment"])
            placed = {**row, "position": connection.execute(mine).scalar_one()}
            insert(connection, p, [placed])
        return placed

    # ------------------------------------------------------------ what the stages read

    def settings(self, experiment: str) -> str | None:
        """The configuration of an experiment as it was recorded; None where there is none."""
        e = schema.experiments.c
        found = self.rows(sa.select(e.config).where(e.experiment == experiment))
        return found[0]["config"] if found else None

    def generation(self, experiment: str, index: int) -> Row | None:
        """The row of a generation, None where it does not exist yet."""
        g = schema.generations.c
        found = self.rows(
            sa.select(schema.generations).where(g.experiment == experiment, g.generation == index)
        )
        return found[0] if found else None

    def generations(self, experiment: str) -> list[int]:
        """The generations of an experiment that exist, in order."""
        return sorted(self.parents(experiment))

    def parents(self, experiment: str) -> dict[int, int | None]:
        """The generations of an experiment to those they were made from."""
        g = schema.generations.c
        found = self.rows(sa.select(g.generation, g.parent).where(g.experiment == experiment))
        return {row["generation"]: row["parent"] for row in found}

    def promotions(self, experiment: str) -> list[Row]:
        """The decisions on what is deployed, in order."""
        p = schema.promotions
        of = sa.select(p).where(p.c.experiment == experiment)
        return self.rows(of.order_by(p.c.position))

    def tasks(self, experiment: str, split: str | None = None) -> list[Row]:
        """Tasks of an experiment with their domain's PDDL, by split and position."""
        k, e, d = schema.tasks, schema.experiment_tasks, schema.domains
        chosen = (
            sa.select(k, e.c.split, e.c.position, d.c.pddl.label("domain_pddl"))
            .join(e, e.c.task == k.c.task)
            .join(d, d.c.domain_hash == k.c.domain_hash)
            .where(e.c.experiment == experiment)
            .order_by(e.c.split, e.c.position)
        )
        return self.rows(chosen if split is None else chosen.where(e.c.split == split))

    def task(self, key: str) -> Row | None:
        """A task with its domain's PDDL, None where it is not here."""
        k, d = schema.tasks, schema.domains
        joined = sa.select(k, d.c.pddl.label("domain_pddl")).join(
            d, d.c.domain_hash == k.c.domain_hash
        )
        found = self.rows(joined.where(k.c.task == key))
        return found[0] if found else None

    def unjudged(
        self, experiment: str, generation: int, checker: str, version: str,
        tasks: tuple[str, str] | None = None,
    ) -> list[Row]:  # fmt: skip
        """Traces of a generation without a verdict of this checker and version, grouped by task;
        of the tasks from one key to another, where these are given.
        """
        t, j = schema.traces.c, schema.judgements.c
        judged = sa.exists().where(
            j.trace == t.trace, j.checker == checker, j.checker_version == version
        )
        waiting = sa.select(
            t.trace, t.experiment, t.generation, t.purpose, t.task, t.text, t.finish_reason
        ).where(t.experiment == experiment, t.generation == generation, ~judged)
        if tasks is not None:
            waiting = waiting.where(t.task.between(*tasks))
        return self.rows(waiting.order_by(t.task, t.trace))

    def judged(self, experiment: str, generation: int, outcome: str, count: int) -> list[Row]:
        """The first deployed traces of a generation that hold a plan, by trace id: task, text.

        `outcome` is a pattern: "VALID", or "%" for any.
        """
        return self.frame(
            """
            SELECT t.trace, t.task, t.text
            FROM traces AS t
            JOIN stg_verdicts AS j ON j.trace = t.trace
            WHERE t.experiment = :experiment AND t.generation = :generation
                AND t.purpose = 'deploy' AND j.outcome LIKE :outcome AND j.plan_length IS NOT NULL
            ORDER BY t.trace
            LIMIT :count
            """,
            experiment=experiment,
            generation=generation,
            outcome=outcome,
            count=count,
        ).to_dict("records")
