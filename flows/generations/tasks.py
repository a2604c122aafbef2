"""The tasks of a sampling stage, in its order, and the parts in which they are done."""

from __future__ import annotations

from collections.abc import Sequence

from flows.experiments.experiment import Experiment
from planners.domains.folder import SPLITS
from warehouse.records import Task
from warehouse.store import Warehouse

PART = 500
"""Tasks in one part of a sampling stage: what a kill can cost."""


def tasks_for(warehouse: Warehouse, experiment: Experiment, purpose: str) -> list[Task]:
    """The tasks of a sampling stage, in its order."""
    splits = ("train",) if purpose == "deploy" else SPLITS
    return [task for split in splits for task in warehouse.tasks(experiment.id, split)]


def parts_of(tasks: Sequence[Task]) -> list[Sequence[Task]]:
    """The parts in which a sampling stage does its tasks."""
    return [tasks[i : i + PART] for i in range(0, len(tasks), PART)]
