"""Training sets and traces as Parquet with a card, for `datasets.load_dataset` and pandas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from planners.files import new_folder, require_new
from planners.prompts.formats import READABLE
from warehouse.pool import lessons_in_parts
from warehouse.reading import query_sql
from warehouse.records import Domain, Taught
from warehouse.store import Warehouse

ROWS, LESSONS = 50_000, 10_000
"""Rows held in memory at a time; lessons, which are longer."""
DATA = "data.parquet"
AT_ONCE = 3_000_000
"""Traces, about, that are joined with their verdicts at once."""
CARD = """---
{license}tags:
- planning
- pddl
- posterity
size_categories:
- {size}
configs:
- config_name: training
  data_files: training/*.parquet
  default: true
- config_name: traces
  data_files: traces/*.parquet
- config_name: tasks
  data_files: tasks/*.parquet
---
# Planning traces of Posterity

Completions of language models that were put to work on planning tasks, each with the verdict of a
plan checker, and what the next generations were trained on.

| part | rows | one row for each |
|---|---|---|
| `training` | {training} | generation and trace that taught it: prompt and completion |
| `traces` | {traces} | trace and verdict, valid or not |
| `tasks` | {tasks} | planning task in PDDL, with its domain |

`load_dataset(FOLDER, "training")`, or `pandas.read_parquet(FOLDER / "training")`. The columns
`task` and `trace` join the parts.

## Where it is from

{origin}

## Before you train on it

- A verdict is the checker's: `VALID` means that the plan reaches the goal. It says nothing of style
  or cost.
- The training sets are what a curator chose. A model that learns them learns its taste too:
  `posterity audit` asks which.
- A completion with `turn_characters` has so many turns, of so many characters each. Every second
  one is what a tool said: it is to be read, and not learned.
- Tasks of the splits `heldout` and `larger` are for measuring. Whoever trains on their traces
  cannot measure on them.
{people}"""
ORIGIN = """| experiment | model | traces | valid |
|---|---|---|---|
{rows}

Domains: {domains}."""
PEOPLE = (
    "- {requests} traces are answers to users, and may hold what they wrote. Ask them before you "
    "publish it; `posterity forget` erases a user's.\n"
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"),
         (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))  # fmt: skip
"""How a hub names the size of a data set, up to these numbers of rows."""
TRAINING = pa.schema(
    [
        ("experiment", pa.string()),
        ("generation", pa.int64()),
        ("trace", pa.string()),
        ("task", pa.string()),
        ("weight", pa.float64()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("turn_characters", pa.list_(pa.int64())),
    ]
)


def export(warehouse: Warehouse, folder: Path, license: str | None = None) -> dict[str, int]:
    """Write a warehouse's training sets, traces and tasks to a new folder, whole or not at all.

    `license`: of the data, as a hub names it. Returns the number of rows of each part. Raises
    InvalidInput if the folder cannot be made or is not empty.
    """
    require_new(folder)
    parts = {
        "training": _training(warehouse),
        "traces": _traces(warehouse),
        "tasks": warehouse.batches("export_tasks", ROWS),
    }
    with new_folder(folder) as partial:
        counts = {name: _write(partial / name, batches) for name, batches in parts.items()}
        with duckdb.connect() as reading:
            file = {"file": str(partial / "traces" / DATA)}
            sources = reading.execute(query_sql("export_sources"), file).df()
        (partial / "README.md").write_text(_card(warehouse, sources, counts, license), "utf-8")
    return counts


def _card(
    warehouse: Warehouse, sources: pd.DataFrame, counts: dict[str, int], license: str | None
) -> str:
    """The card of a data set: its parts, who wrote the traces, and what to mind."""
    rows = [
        f"| `{_plain(one.experiment)}` | {_plain(one.policy)} | {one.traces} | {one.valid} |"
        for one in sources.itertuples()
    ]
    domains = sorted({_plain(one.name) for one in warehouse.every(Domain)})
    requests = int(sources["requests"].sum())
    return CARD.format(
        **counts,
        license=f"license: {json.dumps(license)}\n" if license else "",
        size=next((told for most, told in SIZES if counts["traces"] < most), "n>10M"),
        origin=ORIGIN.format(rows="\n".join(rows), domains=", ".join(domains) or "none"),
        people=PEOPLE.format(requests=requests) if requests else "",
    )


def _plain(text: str) -> str:
    """A name without what Markdown would read as markup."""
    return re.sub(r"[^\w .,:@/-]", " ", text)


def _traces(warehouse: Warehouse) -> Iterator[pa.RecordBatch]:
    """The traces with their verdicts, share by share, so that no join is large."""
    written = warehouse.query("generations_of_traces").itertuples(index=False, name=None)
    for experiment, generation, traces in [*written] or [("", 0, 0)]:
        of = {"experiment": experiment, "generation": generation}
        shares = 1 + traces // AT_ONCE
        for share in range(shares):
            yield from warehouse.batches("export_traces", ROWS, **of, share=share, shares=shares)


def _training(warehouse: Warehouse) -> Iterator[pa.RecordBatch]:
    """The traces of each trained generation, with the prompts as the model read them."""
    # The empty batch gives the Parquet file its columns even if nothing was trained.
    yield pa.RecordBatch.from_pylist([], TRAINING)
    for experiment, generation in warehouse.query("trained").itertuples(index=False, name=None):
        for lessons in lessons_in_parts(warehouse, experiment, generation, LESSONS):
            rows = [_lesson(experiment, generation, lesson) for lesson in lessons]
            yield pa.RecordBatch.from_pylist(rows, TRAINING)


def _lesson(experiment: str, generation: int, lesson: Taught) -> dict[str, Any]:
    # None for ingested traces, and where the prompt format has changed since.
    written = READABLE.get(lesson.prompt_format)
    return {
        "experiment": experiment,
        "generation": generation,
        "trace": lesson.trace,
        "task": lesson.task.key,
        "weight": lesson.weight,
        "prompt": written and written.write(lesson.task.parsed),
        "completion": lesson.text,
        "turn_characters": [one.characters for one in lesson.turns] or None,
    }


def _write(folder: Path, batches: Iterator[pa.RecordBatch]) -> int:
    """Write all batches to one Parquet file, and return its number of rows."""
    folder.mkdir(parents=True)
    first, rows = next(batches), 0
    with pq.ParquetWriter(folder / DATA, first.schema, compression="zstd") as writer:
        for batch in filter(len, chain([first], batches)):
            writer.write_batch(batch)
            rows += len(batch)
    return rows
