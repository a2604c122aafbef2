"""The tasks of a sampling stage, in order, and the parts that it finishes one by one."""

from __future__ import annotations

from collections.abc import Sequence

from flows.experiments.experiment import Experiment
from planners import pddl as planning
from planners.domains import name_of
from planners.domains.folder import SPLITS
from warehouse.records import Domain, Task
from warehouse.store import Warehouse

PART = 500
"""Tasks per part of a sampling stage. Batches are formed within a part."""


FRESH = "fresh"
"""The split of tasks that one generation alone is put to work on."""


def brought(domain: str, parsed: planning.Task, problem: str) -> tuple[Domain, Task]:
    """The domain and the task that somebody else brings, as PDDL and parsed. A domain of ours has
    our name; the task has no horizon until a generator makes the same one.
    """
    own = Domain.of(name_of(domain) or parsed.domain.name, domain)
    return own, Task.of(own, parsed.key, len(parsed.problem.objects), None, problem)


def tasks_for(
    warehouse: Warehouse, experiment: Experiment, purpose: str, generation: int = 0
) -> list[Task]:
    """The tasks of a sampling stage, in order: deployment takes the training split only, or a
    generation's fresh tasks.
    """
    if purpose == "deploy" and experiment.tasks.fresh and generation > 0:
        return warehouse.tasks(experiment.id, FRESH, generation)
    splits = ("train",) if purpose == "deploy" else SPLITS
    return [task for split in splits for task in warehouse.tasks(experiment.id, split)]


def is_whole(warehouse: Warehouse, experiment: Experiment, purpose: str, generation: int) -> bool:
    """Whether every part of a sampling stage is complete; one without tasks has not begun."""
    parts = parts_of(tasks_for(warehouse, experiment, purpose, generation))
    done = warehouse.done(experiment.id, generation, purpose)
    return bool(parts) and done >= set(range(len(parts)))


def parts_of(tasks: Sequence[Task]) -> list[Sequence[Task]]:
    """The tasks of a sampling stage, cut into parts."""
    return [tasks[i : i + PART] for i in range(0, len(tasks), PART)]
