"""Integrity of the tables: no key occurs twice, and every reference has its row."""

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
"""A table, its column, and the table that must hold every value of that column."""


def repeated_keys(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of rows, and the keys that occur more than once: the database enforces no keys."""
    rows, wrong = 0, []
    for table in schema.metadata.sorted_tables:
        key = ", ".join(column.name for column in table.primary_key)
        twice = f"SELECT {key} FROM {table.name} GROUP BY ALL HAVING count(*) > 1"
        for row in warehouse.frame(twice).to_dict("records"):
            wrong.append(f"{table.name}: {row} occurs more than once")
        rows += warehouse.count(table)
    return rows, wrong


def lost_references(warehouse: Warehouse) -> tuple[int, list[str]]:
    """Number of rows that refer to other rows, and the references whose row is missing."""
    rows, wrong = 0, []
    for table, column, other in REFERENCES:
        lost = warehouse.frame(
            f"SELECT DISTINCT {column} AS id FROM {table} ANTI JOIN {other} USING ({column})"
        )
        wrong += [f"{table}: {column} {value} is not in {other}" for value in lost["id"]]
        rows += warehouse.count(schema.metadata.tables[table])
    return rows, wrong
