"""Many producers, one writer: workers land Parquet files, one process loads each exactly once.

A file holds rows of one table and is named after table and contents: `traces.<hash>.parquet`. It
appears whole (temporary name, fsync, rename), so any shared folder will do. Its rows and the record
that it was loaded are written in one transaction.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from planners.errors import InvalidInput
from planners.files import files_hash
from planners.pddl.printing import print_task
from warehouse import schema
from warehouse.load import Rows, amend, arrow_schema, as_arrow, insert, quoted
from warehouse.records import Domain, Experiment, Generation, Landed, Mark, Record, Task
from warehouse.schema import TABLES
from warehouse.store import Warehouse

ENDING = ".parquet"
OWN = ("ledger", "landed")
"""Tables of a warehouse that are about its own file."""
LANDED = {"traces", "judgements", "unjudged", "opinions", "tasks", "domains", "experiment_tasks"}
"""Tables in which a worker may have something to write: what it made, and decided nothing."""
TAKEN, CHUNK = 20_000, 1000
"""Rows of another warehouse in memory at a time."""


def land(folder: Path, kind: type[Record], rows: Sequence[Record]) -> Path:
    """Write records of one kind to a file that a loader finds; equal records get equal names."""
    table = TABLES[kind]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{uuid4().hex}.partial"
    with partial.open("wb") as stream:
        pq.write_table(as_arrow(table, rows), stream)
        stream.flush()
        os.fsync(stream.fileno())
    # Renamed last: a loader never sees a partial file under a final name.
    landed = folder / f"{table.name}.{files_hash([partial])}{ENDING}"
    partial.replace(landed)
    return landed


def require_landing(folder: Path) -> None:
    """Raise InvalidInput where there is no such folder."""
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder; name the one that workers land files in")


def load_landed(warehouse: Warehouse, folder: Path) -> dict[str, int]:
    """Load every landed file that is not loaded yet, and return the number of rows of each.

    Raises InvalidInput, naming the file, if its contents do not match its name. Files before it
    stay loaded.
    """
    require_landing(folder)
    known = {landed.file for landed in warehouse.every(Landed)}
    counts = {}
    for path in sorted(folder.glob(f"*{ENDING}")):
        if path.name in known:
            continue
        table, rows = read_landed(path)
        told = _as_records(table, rows)
        warehouse.record({table: told, schema.landed: [Landed(path.name, len(rows))]})
        counts[path.name] = len(rows)
    return counts


@contextmanager
def landing(warehouse: Warehouse, stage: str) -> Iterator[Path]:
    """A folder, empty at first, where workers land rows of a stage while the block runs.

    The warehouse is published first, so that workers can read it.
    """
    folder = warehouse.place.landing / stage
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    warehouse.publish()
    try:
        yield folder
    finally:
        _remove(warehouse, folder)


def take_left(warehouse: Warehouse, experiment: str) -> None:
    """Write what workers of an experiment landed for a process that was killed, then remove it.

    A damaged file is left out: its rows are made again.
    """
    for folder in sorted(warehouse.place.landing.glob(f"{experiment}-*")):
        for file in sorted(folder.glob(f"*{ENDING}")):
            with suppress(InvalidInput):
                take(warehouse, file)
        _remove(warehouse, folder)


def _remove(warehouse: Warehouse, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # the folder is missing, or other stages use it
        warehouse.place.landing.rmdir()


def take(warehouse: Warehouse, file: Path, mark: Mark | None = None) -> int:
    """Write a landed file's rows and its `mark` in one transaction; return the number of rows.

    Deletes the file and does not record it as loaded: only for files that no loader looks for.
    """
    table, rows = read_landed(file)
    warehouse.record({table: _as_records(table, rows)}, mark)
    file.unlink()
    return len(rows)


def _as_records(table: sa.Table, rows: pa.Table) -> Rows:
    """Tasks and domains as records, which restore what was erased here with one user's traces."""
    for kind in Task, Domain:
        if table is TABLES[kind]:
            columns = kind.columns()
            return [
                kind(**{name: row[column] for name, column in columns.items()})
                for row in rows.to_pylist()
            ]
    return rows


def read_landed(path: Path) -> tuple[sa.Table, pa.Table]:
    """A landed file's table and rows, checked against its name and the schema. Raises InvalidInput
    if they disagree.
    """
    name, digest, *_ = path.name.split(".")
    table = schema.metadata.tables.get(name)
    if table is None or name not in LANDED:
        raise InvalidInput(f"{path}: {name!r} is not a table of the warehouse to land in")
    try:
        found = files_hash([path])
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    if digest != found:
        raise InvalidInput(f"{path}: its contents do not have the hash in its name; land it again")
    try:
        rows = pq.read_table(path)
    except pa.ArrowException as error:
        raise InvalidInput(f"{path} is no Parquet file; land it again") from error
    if rows.schema.names != arrow_schema(table).names:
        raise InvalidInput(f"{path}: its columns are not those of {name} here; land it again")
    try:
        return table, rows.cast(arrow_schema(table))
    except (pa.ArrowException, ValueError) as error:
        raise InvalidInput(f"{path}: its values are not those of {name} here: {error}") from error


def take_in(warehouse: Warehouse, part: Path) -> None:
    """Write every row of another warehouse of ours that is not here yet, and move its weights here.
    Decisions of experiments that went on there take the place of those here, which they may end.

    Done again after a kill, it writes what is missing: weights come first and marks last, so that
    nothing counts as complete before it is. Raises InvalidInput, before it writes anything, where a
    generation has other weights here than there, a trace another text, or a task another order.
    """
    with Warehouse(part, read_only=True) as other, other.engine.connect() as reading:
        _require_same_weights(warehouse, other)
        _require_same_answers(warehouse, other)
        if other_order := adopt_order(warehouse, other.every_task(), refused=True):
            raise InvalidInput(
                f"the task {other_order[0]} is in {warehouse.place} with its objects or facts in "
                f"another order than in {other.place}, from which other prompts are written; use "
                "another warehouse"
            )
        for folder in sorted(other.checkpoints.glob("*/")) if other.checkpoints.is_dir() else ():
            shutil.copytree(folder, warehouse.checkpoints / folder.name, dirs_exist_ok=True)
        raw: Any = reading.connection.driver_connection
        _replace_decisions(warehouse, other, raw)
        kinds = sorted(TABLES, key=lambda kind: kind is Mark)
        for kind in kinds:
            table = TABLES[kind]
            if kind is Domain:  # as records, which restore what was erased here
                warehouse.write(other.every(Domain))
            elif kind is Task:
                warehouse.write(other.every_task())
                warehouse.regrade(other.every_task())
            elif table.name not in OWN:
                found = raw.execute(_rows_of(table)).to_arrow_reader(TAKEN)
                for batch in found:
                    rows = pa.Table.from_batches([batch]).cast(arrow_schema(table))
                    warehouse.record({table: rows})


def adopt_order(warehouse: Warehouse, tasks: Sequence[Task], refused: bool = False) -> list[str]:
    """Give stored tasks the text of these, which may list objects and facts in another order, where
    nothing but ingested traces that nobody learned rests on it: prompts are written in that order.
    Returns the keys of those that have another order and keep it; with `refused`, nothing is
    written where there is one.
    """
    k, t, s = schema.tasks, schema.traces, schema.selections
    wanted = {task.key: task for task in tasks if task.pddl}
    keys, kept, adopted = list(wanted), list[str](), list[Task]()
    for first in range(0, len(keys), CHUNK):
        told = sa.select(k.c.task, k.c.pddl).where(k.c.task.in_(keys[first : first + CHUNK]))
        for row in warehouse.rows(told.where(k.c.pddl != "")):
            own = wanted[row["task"]]
            before = replace(own, pddl=row["pddl"])
            if before == own or print_task(before.parsed) == print_task(own.parsed):
                continue
            asked = sa.select(t.c.trace).where(t.c.task == own.key, t.c.purpose != "ingest")
            learned = sa.select(s.c.trace).where(s.c.task == own.key, s.c.kept)
            if warehouse.rows(asked.limit(1)) or warehouse.rows(learned.limit(1)):
                kept.append(own.key)
                continue
            adopted.append(own)
    with warehouse.writing() as connection:
        for own in () if kept and refused else adopted:
            amend(connection, k, k.c.task == own.key, pddl=own.pddl)
    return kept


def _require_same_weights(warehouse: Warehouse, other: Warehouse) -> None:
    for made in other.every(Generation):
        here = warehouse.generation(made.experiment, made.index)
        if here is not None and here.weights_hash != made.weights_hash:
            raise InvalidInput(
                f"generation {made.index} of {made.experiment} has other weights in "
                f"{warehouse.place} than in {other.place}, so that their traces cannot be mixed; "
                "use another warehouse"
            )


def _require_same_answers(warehouse: Warehouse, other: Warehouse) -> None:
    """Equal weights may write otherwise on another machine, and a verdict is on one text alone."""
    here = {one.id for one in warehouse.every(Experiment)}
    for id in sorted(here & {one.id for one in other.every(Experiment)}):
        ours, theirs = (store.query("texts_of", experiment=id) for store in (warehouse, other))
        both = ours.merge(theirs, on="trace")
        if differing := sorted(both["trace"][both["text_x"] != both["text_y"]]):
            raise InvalidInput(
                f"the trace {differing[0]} of {id} has another text in {warehouse.place} than in "
                f"{other.place}, so that their verdicts cannot be mixed; use another warehouse"
            )


def _rows_of(table: sa.Table) -> str:
    """The query for all columns of a table, in our order."""
    return f"FROM {table.name} SELECT {', '.join(column.name for column in table.columns)}"


def _replace_decisions(warehouse: Warehouse, other: Warehouse, raw: Any) -> None:
    """Take over the decisions of experiments that are further there, each in one transaction."""
    table, here = schema.selections, {one.id for one in warehouse.every(Experiment)}
    for one in other.every(Experiment):
        ours, theirs = (
            max(store.marks(one.id, "curate"), default=(0, 0)) for store in (warehouse, other)
        )
        if one.id not in here or theirs <= ours:
            continue
        found = raw.execute(f"{_rows_of(table)} WHERE experiment = {quoted(one.id)}")
        rows = found.to_arrow_table().cast(arrow_schema(table))
        with warehouse.writing() as connection:
            amend(connection, table, table.c.experiment == one.id)
            insert(connection, table, rows)
