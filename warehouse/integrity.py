"""What holds for all tables: no key stands twice, and what a row refers to is there."""

from __future__ import annotations

from warehouse import schema
from warehouse.store import Warehouse

REFERENCES = (
    ("tasks", "domain_hash", "domains"),
    ("experiment_tasks", "experiment", "experiments"),
    ("experiment_tasks", "task", "tasks"),
    ("generations", "experiment", "experiments"),
    ("traces", "experiment", "experiments"),
    ("traces", "task", "tasks"),
    ("judgements", "trace", "traces"),
    ("opinions", "trace", "traces"),
    ("selections", "trace", "traces"),
    ("canaries", "task", "tasks"),
)
"""Table, column, and the table in which it must be found."""


def repeated_keys(warehouse: Warehouse) -> tuple[int, list[str]]:
    """How many rows there are, and the keys that stand more than once, which the engine lets be."""
    rows, wrong = 0, []
    for table in schema.metadata.sorted_tables:
        key = ", ".join(column.name for column in table.primary_key)
        twice = f"SELECT {key} FROM {table.name} GROUP BY ALL HAVING count(*) > 1"
        for row in warehouse.frame(twice).to_dict("records"):
            wrong.append(f"{table.name}: {row} stands more than once")
        rows += warehouse.count(table)
    return rows, wrong


def lost_references(warehouse: Warehouse) -> tuple[int, list[str]]:
    """How many rows refer to others, and those that refer to what is not there."""
    rows, wrong = 0, []
    for table, column, other in REFERENCES:
        lost = warehouse.frame(
            f"SELECT DISTINCT {column} AS id FROM {table} ANTI JOIN {other} USING ({column})"
        )
        wrong += [f"{table}: {column} {value} is not in {other}" for value in lost["id"]]
        rows += warehouse.count(schema.metadata.tables[table])
    return rows, wrong
