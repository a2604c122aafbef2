"""Training sets and traces as Parquet with a card, for `datasets.load_dataset` and pandas."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from planners.files import new_folder, require_new
from planners.prompts.formats import READABLE
from warehouse.pool import lessons_of
from warehouse.records import Experiment
from warehouse.store import Warehouse

ROWS = 50_000
"""Rows held in memory at a time."""
CARD = """---
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
`task` and `trace` join the parts. Experiments: {experiments}.
"""
TRAINING = pa.schema(
    [
        ("experiment", pa.string()),
        ("generation", pa.int64()),
        ("trace", pa.string()),
        ("task", pa.string()),
        ("weight", pa.float64()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
    ]
)


def export(warehouse: Warehouse, folder: Path) -> dict[str, int]:
    """Write a warehouse's training sets, traces and tasks to a new folder, whole or not at all.

    Returns the number of rows of each part. Raises InvalidInput if the folder cannot be made or is
    not empty.
    """
    require_new(folder)
    parts = {
        "training": _training(warehouse),
        "traces": warehouse.batches("export_traces", ROWS),
        "tasks": warehouse.batches("export_tasks", ROWS),
    }
    names = sorted(one.id for one in warehouse.every(Experiment))
    with new_folder(folder) as partial:
        counts = {name: _write(partial / name, batches) for name, batches in parts.items()}
        card = CARD.format(**counts, experiments=", ".join(f"`{name}`" for name in names) or "none")
        (partial / "README.md").write_text(card, "utf-8")
    return counts


def _training(warehouse: Warehouse) -> Iterator[pa.RecordBatch]:
    """One batch per trained generation: its traces, with the prompts as the model read them."""
    # The empty batch gives the Parquet file its columns even if nothing was trained.
    yield pa.RecordBatch.from_pylist([], TRAINING)
    for experiment, generation in warehouse.query("trained").itertuples(index=False, name=None):
        rows = []
        for lesson in lessons_of(warehouse, experiment, generation):
            # None for ingested traces, and where the prompt format has changed since.
            written = READABLE.get(lesson.prompt_format)
            rows.append(
                {
                    "experiment": experiment,
                    "generation": generation,
                    "trace": lesson.trace,
                    "task": lesson.task.key,
                    "weight": lesson.weight,
                    "prompt": written and written.write(lesson.task.parsed),
                    "completion": lesson.text,
                }
            )
        yield pa.RecordBatch.from_pylist(rows, TRAINING)


def _write(folder: Path, batches: Iterator[pa.RecordBatch]) -> int:
    """Write all batches to one Parquet file, and return its number of rows."""
    folder.mkdir(parents=True)
    first, rows = next(batches), 0
    with pq.ParquetWriter(folder / "data.parquet", first.schema, compression="zstd") as writer:
        for batch in filter(len, chain([first], batches)):
            writer.write_batch(batch)
            rows += len(batch)
    return rows
