"""The pages of tasks, and the lists of traces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from flows.pages.experiments import require_experiment
from flows.pages.links import Row, link, rows_of
from flows.pages.source import Source
from planners.errors import InvalidInput, require_one_of
from planners.records import Outcome
from warehouse.records import Task
from warehouse.store import Warehouse

ROWS = 50
"""Rows of a page of a table."""
LARGEST = 1_000_000
"""Rows that can be asked for at once."""
FILTERS = ("split", "domain", "size", "horizon", "solved_since", "valid")
"""Columns of the table of tasks that can be filtered."""
NONE = "-"
"""It stands for no horizon, and for when a task was solved that was never measured."""
NEVER = "never"
"""The value of `solved_since` that stands for tasks that no generation solved."""
TRACE_SORTS = ("tokens", "logprob")
VERDICT_SORTS = ("actions", "step")
"""Columns that traces can be sorted by: all of them, and those of one outcome."""


@dataclass(frozen=True, slots=True)
class Table:
    """A page of a table: its rows, how many there are in all (None: unknown), where it begins,
    whether there are more, and the values that each filter may have.
    """

    rows: list[Row]
    total: int | None
    skip: int
    more: bool
    choices: dict[str, list[str]]


def tasks_of(source: Source, id: str) -> pd.DataFrame:
    """Every task of an experiment, with how it went."""

    def make(warehouse: Warehouse) -> pd.DataFrame:
        require_experiment(warehouse, id)
        return warehouse.query("page_tasks", experiment=id)

    return source.kept(("tasks", id), make)


def task_table(
    source: Source, id: str, chosen: dict[str, str], sort: str, down: bool, skip: int,
    most: int = ROWS,
) -> Table:  # fmt: skip
    """Tasks that have the `chosen` values, sorted."""
    frame = tasks_of(source, id)
    whole = frame[["valid", "samples", "longest"]].astype("Int64")
    since = frame["solved_since"].map(_whole, na_action=None).where(frame["samples"].notna(), NONE)
    horizon = frame["horizon"].map(_whole, na_action=None).where(frame["horizon"].notna(), NONE)
    shown = frame.assign(**whole, solved_since=since, horizon=horizon)
    choices = {
        name: sorted(map(str, shown[name].dropna().unique()), key=_numbers) for name in FILTERS
    }
    for name, value in chosen.items():
        if name in FILTERS and value:
            shown = shown[shown[name].astype(str) == value]
    if sort in frame.columns:
        order = frame.loc[shown.index].sort_values(sort, ascending=not down, kind="stable")
        shown = shown.loc[order.index]
    page = shown.iloc[skip : skip + most]
    return Table(rows_of(page), len(shown), skip, skip + most < len(shown), choices)


def _whole(value: float | None) -> str:
    return NEVER if value is None or value != value else str(int(value))


def _numbers(text: str) -> tuple[float, str]:
    return (float(text), text) if text.replace(".", "", 1).isdecimal() else (float("inf"), text)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the heat map: the share solved, and the tasks behind it."""

    share: float
    solved: int
    tasks: int
    href: str


def heat_map(source: Source, id: str, split: str) -> tuple[list[int], dict[int, list[Cell | None]]]:
    """Generations, and for each horizon a cell per generation; its link leads to the tasks."""
    found = source.kept(("heat", id), lambda store: store.query("page_heat", experiment=id))
    found = found[found["split"] == split]
    generations = sorted({int(g) for g in found["generation"]})
    rows: dict[int, list[Cell | None]] = {}
    for horizon, part in found.groupby("horizon"):
        by = {int(row.generation): row for row in part.itertuples()}
        href = link("experiments", id, "tasks", split=split, horizon=int(str(horizon)))
        rows[int(str(horizon))] = [
            Cell(by[g].solved / by[g].tasks, by[g].solved, by[g].tasks, href) if g in by else None
            for g in generations
        ]
    return generations, rows


@dataclass(frozen=True, slots=True)
class Asked:
    """Which traces are asked for; None lets all through."""

    generation: int | None = None
    purpose: str | None = None
    outcome: str | None = None
    task: str | None = None
    pool: int | None = None
    reason: str = ""
    sort: str = ""
    down: bool = False
    skip: int = 0


def trace_table(source: Source, id: str, asked: Asked, most: int = ROWS) -> Table:
    """Traces of an experiment. Raises InvalidInput on an outcome that there is not, and a sort that
    does not go with the filters.
    """
    known = [one.value for one in Outcome]
    if asked.outcome is not None:
        require_one_of("outcome", asked.outcome, known)
    sorts = sorts_of(asked)
    if asked.sort and asked.sort not in sorts:
        asked = replace(asked, sort="")
    shared: dict[str, Any] = {"experiment": id, "most": most + 1, "skip": asked.skip}
    which = {"generation": asked.generation, "purpose": asked.purpose, "task": asked.task}
    order = {"sort": asked.sort, "sign": -1 if asked.down else 1}
    with source.reading() as warehouse:
        require_experiment(warehouse, id)
        if asked.pool is not None:
            found = warehouse.query(
                "page_pool", **shared, pool=asked.pool, reason=asked.reason or ""
            )
        elif asked.outcome is not None:
            found = warehouse.query(
                "page_verdicts", **shared, **which, **order, outcome=asked.outcome
            )
        else:
            found = warehouse.query("page_traces", **shared, **which, **order)
        made = [str(one.index) for one in warehouse.generations(id)]
    rows = rows_of(found)
    choices = {
        "generation": made,
        "purpose": ["evaluate", "deploy", "request", "correction", "shadow", "ingest"],
        "outcome": known,
    }
    return Table(rows[:most], None, asked.skip, len(rows) > most, choices)


def sorts_of(asked: Asked) -> tuple[str, ...]:
    """Columns that the traces which are asked for can be sorted by."""
    if asked.pool is not None:
        return ()
    return VERDICT_SORTS if asked.outcome else TRACE_SORTS


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A task as its page shows it: where it is used, and every answer by generation."""

    task: Task
    homes: list[str]
    experiment: str
    answers: dict[tuple[int, str], list[Row]]
    beside: list[tuple[dict[str, Any], str]]


def task_page(source: Source, key: str, experiment: str | None, beside: list[str]) -> TaskPage:
    """A task's page; the texts of the traces `beside` stand side by side. Raises
    InvalidInput where there is no such task.
    """
    with source.reading() as warehouse:
        task = warehouse.task(key)
        if task is None:
            raise InvalidInput(f"there is no task {key!r} in this warehouse")
        found = warehouse.query("page_task_homes", task=key)
        homes = list(dict.fromkeys(found["experiment"]))
        home = str(experiment if experiment in homes else homes[0] if homes else "")
        answered = warehouse.query("page_siblings", task=key, experiment=home)
        texts = {
            trace: one.text
            for trace in beside[:6]
            for one in warehouse.traces_beginning(trace, most=1)
        }
    plain = rows_of(answered)
    answers: dict[tuple[int, str], list[Row]] = {}
    for row in plain:
        answers.setdefault((row["generation"], row["purpose"]), []).append(row)
    known = {row["trace"]: row for row in plain}
    shown = [(known[trace], text) for trace, text in texts.items() if trace in known]
    return TaskPage(task, homes, home, answers, shown)
