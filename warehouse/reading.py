"""Reading a warehouse: records, and the named queries in `warehouse/queries`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import sqlalchemy as sa

from planners.errors import InvalidInput
from warehouse import records, schema
from warehouse.load import read_frame
from warehouse.places.connect import Place, explained
from warehouse.places.file import DATABASE_ERRORS
from warehouse.records import Answer, Generation, Promotion, Record, Task, Trace
from warehouse.sandbox.query import ended_after
from warehouse.schema import TABLES
from warehouse.verdicts import Judgement

if TYPE_CHECKING:
    import pandas as pd

ANSWER = [field.name for field in fields(Answer)]
SPAN = 200_000
"""Traces that are sorted at a time."""
R = TypeVar("R", bound=Record)


class Reader:
    """The read operations of an open warehouse."""

    place: Place
    engine: sa.Engine

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """A connection; database errors become one PosterityError that says what to do."""
        with explained(self.place), self.engine.connect() as connection:
            yield connection

    # ------------------------------------------------------------ queries

    def frame(self, sql: str, **parameters: object) -> pd.DataFrame:
        """The result of a query with `:name` parameters, as a frame. Integers are int64, or float64
        if some are missing.
        """
        with self._reading() as connection:
            return read_frame(connection, sql, parameters)

    def frame_within(self, seconds: float, sql: str, **parameters: object) -> pd.DataFrame:
        """The same, stopped if it takes longer: for SQL that users wrote. Raises InvalidInput where
        it fails.
        """
        with self._reading() as connection:
            try:
                with ended_after(connection.connection.driver_connection, seconds):
                    return read_frame(connection, sql, parameters)
            except DATABASE_ERRORS as error:  # the statement's, which may repeat what a model wrote
                told = str(getattr(error, "orig", error)).strip()
                raise InvalidInput([*told.splitlines(), "it fails"][0]) from error

    def query(self, name: str, **parameters: object) -> pd.DataFrame:
        """The result of a named query, which is a file in `warehouse/queries`."""
        return self.frame(query_sql(name), **parameters)

    def batches(self, name: str, rows: int, **parameters: object) -> Iterator[pa.RecordBatch]:
        """The result of a named query, streamed in Arrow batches; the first is empty. DuckDB itself
        reads its parameters, as `$name`.
        """
        with self._reading() as connection:
            raw: Any = connection.connection.driver_connection
            reader = raw.execute(query_sql(name), parameters or None).to_arrow_reader(rows)
            yield pa.RecordBatch.from_pylist([], reader.schema)  # an empty result has columns too
            yield from reader

    def rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        """The result of a select as plain dictionaries."""
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def every(self, kind: type[R], **where: object) -> list[R]:
        """All records of a kind whose fields have these values; of a list, one of them."""
        table, columns = TABLES[kind], kind.columns()
        chosen = sa.select(*(table.c[column] for column in columns.values()))
        for name, value in where.items():
            column = table.c[columns[name]]
            chosen = chosen.where(column.in_(value) if isinstance(value, list) else column == value)
        with self._reading() as connection:
            return [
                kind(**dict(zip(columns, row, strict=True))) for row in connection.execute(chosen)
            ]

    def count(self, table: sa.Table) -> int:
        """How many rows a table has."""
        return int(self.rows(sa.select(sa.func.count().label("n")).select_from(table))[0]["n"])

    # ------------------------------------------------------------ progress of a run

    def done(self, experiment: str, generation: int, stage: str) -> set[int]:
        """The parts of a stage that are complete."""
        return {part for of, part in self.marks(experiment, stage) if of == generation}

    def marks(self, experiment: str, stage: str) -> set[tuple[int, int]]:
        """The complete parts of a stage, as pairs of generation and part."""
        m = schema.marks.c
        chosen = sa.select(m.generation, m.part).where(m.experiment == experiment, m.stage == stage)
        return {(row["generation"], row["part"]) for row in self.rows(chosen)}

    def trace_ids(self, experiment: str, generation: int, purpose: str) -> set[str]:
        """The ids of the traces that a stage has written so far."""
        t = schema.traces.c
        chosen = sa.select(t.trace).where(
            t.experiment == experiment, t.generation == generation, t.purpose == purpose
        )
        return {row["trace"] for row in self.rows(chosen)}

    # ------------------------------------------------------------ records

    def experiment(self, id: str) -> records.Experiment | None:
        """An experiment or source as it was recorded; None where there is none."""
        return next(iter(self.every(records.Experiment, id=id)), None)

    def generation(self, experiment: str, index: int) -> Generation | None:
        """A generation, None where it does not exist yet."""
        return next(iter(self.every(Generation, experiment=experiment, index=index)), None)

    def generations(self, experiment: str) -> list[Generation]:
        """The generations of an experiment that exist, in order."""
        return sorted(self.every(Generation, experiment=experiment), key=lambda one: one.index)

    def promotions(self, experiment: str) -> list[Promotion]:
        """The promotion decisions of an experiment, in order."""
        return sorted(self.every(Promotion, experiment=experiment), key=lambda one: one.position)

    def tasks(
        self, experiment: str, split: str | None = None, generation: int | None = None
    ) -> list[Task]:
        """Tasks of an experiment, of one split, or the fresh ones of one generation; sorted by
        split and position.
        """
        e = schema.experiment_tasks.c
        chosen = _tasks(e.split, e.position, e.horizon).join(
            schema.experiment_tasks, e.task == schema.tasks.c.task
        )
        chosen = chosen.where(e.experiment == experiment).order_by(e.split, e.position)
        for column, wanted in ((e.split, split), (e.generation, generation)):
            chosen = chosen if wanted is None else chosen.where(column == wanted)
        return self._tasks(chosen)

    def task(self, key: str) -> Task | None:
        """A task, None where it is not here."""
        found = self._tasks(_tasks().where(schema.tasks.c.task == key))
        return found[0] if found else None

    def every_task(self) -> list[Task]:
        """All tasks of all experiments and sources."""
        return self._tasks(_tasks())

    def tasks_of_traces(self, experiment: str) -> list[Task]:
        """The tasks for which an experiment or source has traces."""
        t = schema.traces.c
        answered = sa.select(t.task).where(t.experiment == experiment)
        return self._tasks(_tasks().where(schema.tasks.c.task.in_(answered)))

    def _tasks(self, chosen: sa.Select[Any]) -> list[Task]:
        return [Task(key=row.pop("task"), **row) for row in self.rows(chosen)]

    def unjudged(
        self, experiment: str, generation: int, checker: str, version: str,
        tasks: tuple[str, str] | None = None,
    ) -> list[Answer]:  # fmt: skip
        """Traces of a generation that this version of the checker has not seen, sorted by task,
        without those that were forgotten.

        `tasks` limits them to the tasks from one key to another, both included.
        """
        t = schema.traces.c
        chosen: list[sa.ColumnElement[bool]] = [
            t.experiment == experiment,
            t.generation == generation,
            ~sa.exists().where(schema.forgotten.c.trace == t.trace),
        ]
        for table in (schema.judgements, schema.unjudged):
            seen = table.c.trace == t.trace, table.c.checker == checker
            chosen.append(~sa.exists().where(*seen, table.c.checker_version == version))
        between = () if tasks is None else (t.task.between(*tasks),)
        return self._answers(_answers().where(*chosen, *between).order_by(t.task, t.trace))

    def judged(
        self, experiment: str, checker: str, version: str
    ) -> Iterator[tuple[Answer, Judgement | None]]:
        """Stream every trace of an experiment or source, by task, with the verdict of this version
        of the checker on it, or None.
        """
        t, j, count = schema.traces.c, schema.judgements.c, len(ANSWER)
        own = (j.trace == t.trace) & (j.checker == checker) & (j.checker_version == version)
        told = [j[column] for column in Judgement.columns().values()]
        chosen = _answers().add_columns(*told).outerjoin(schema.judgements, own)
        chosen = chosen.where(t.experiment == experiment).order_by(t.task, t.trace)
        names = list(Judgement.columns())
        for first, last in self._spans(experiment):
            with self._reading() as connection:
                for row in connection.execute(chosen.where(t.task.between(first, last))):
                    verdict = None
                    if row[count] is not None:
                        verdict = Judgement(**dict(zip(names, row[count:], strict=True)))
                    yield Answer(*row[:count]), verdict

    def _spans(self, experiment: str) -> Iterator[tuple[str, str]]:
        """The tasks of an experiment's traces, as first and last of spans with about SPAN traces
        each: DuckDB holds in memory what it sorts.
        """
        t = schema.traces.c
        counted = sa.select(t.task, sa.func.count().label("traces"))
        counted = counted.where(t.experiment == experiment).group_by(t.task).order_by(t.task)
        some, span = 0, list[str]()
        for row in self.rows(counted):
            span.append(row["task"])
            some += row["traces"]
            if some >= SPAN:
                yield span[0], span[-1]
                some, span = 0, []
        if span:
            yield span[0], span[-1]

    def _answers(self, chosen: sa.Select[Any]) -> list[Answer]:
        with self._reading() as connection:
            found = connection.execute(chosen)
            return [Answer(*row) for row in found]

    def with_plans(
        self, experiment: str, generation: int, count: int, purpose: str,
        outcome: str | None = None,
    ) -> list[Answer]:  # fmt: skip
        """The first `count` traces of a generation and purpose that hold a plan, by trace id; only
        those with `outcome`, if given.
        """
        t, j = schema.traces.c, schema.judgements.c
        chosen = (
            _answers()
            .join(schema.judgements, j.trace == t.trace)
            .where(t.experiment == experiment, t.generation == generation)
            .where(t.purpose == purpose, j.superseded.is_not(True), j.plan_length.is_not(None))
        )
        if outcome is not None:
            chosen = chosen.where(j.outcome == outcome)
        return self._answers(chosen.order_by(t.trace).limit(count))

    def forgotten(self) -> set[str]:
        """The ids of the traces whose content was erased."""
        return {row["trace"] for row in self.rows(sa.select(schema.forgotten.c.trace))}

    def traces(self, experiment: str) -> Iterator[Trace]:
        """Stream every trace of an experiment or source, unordered, 2,000 in memory at a time."""
        return self._traces(schema.traces.c.experiment == experiment)

    def traces_beginning(self, start: str, most: int = 3) -> list[Trace]:
        """At most `most` traces whose id begins with `start`."""
        return list(self._traces(sa.func.starts_with(schema.traces.c.trace, start), most))

    def _traces(self, where: sa.ColumnElement[bool], most: int | None = None) -> Iterator[Trace]:
        columns = Trace.columns()
        chosen = sa.select(*(schema.traces.c[column] for column in columns.values())).where(where)
        with self._reading() as connection:
            streamed = connection.execution_options(yield_per=2000)
            for row in streamed.execute(chosen.limit(most)):
                told = dict(zip(columns, row, strict=True))
                lists = {name: tuple(one) for name, one in told.items() if isinstance(one, list)}
                yield Trace(**{**told, **lists})


def _answers() -> sa.Select[Any]:
    return sa.select(*(schema.traces.c[Trace.columns()[name]] for name in ANSWER))


def _tasks(*besides: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """The select of tasks with their domain's PDDL, and columns besides or instead."""
    k, d = schema.tasks, schema.domains
    own = [column for column in k.c if column.name not in {other.name for other in besides}]
    return (
        sa.select(*own, d.c.pddl.label("domain_pddl"), *besides)
        .select_from(k)
        .join(d, d.c.domain_hash == k.c.domain_hash)
    )


@cache
def query_sql(name: str) -> str:
    """The SQL text of a named query."""
    return files("warehouse").joinpath("queries", f"{name}.sql").read_text("utf-8")
