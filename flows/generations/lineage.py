"""Which generation descends from which. The last one that was promoted is deployed, and the parent
of the next; a generation learns from traces of its ancestors only.
"""

from __future__ import annotations

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse.store import Warehouse


def deployed(warehouse: Warehouse, experiment: Experiment) -> int:
    """The generation that is at work: the last one promoted, or the newest where none was decided
    on.
    """
    promoted = [row["generation"] for row in warehouse.promotions(experiment.id) if row["promoted"]]
    if promoted:
        return int(promoted[-1])
    reached = warehouse.generations(experiment.id)
    if not reached:
        raise InvalidInput(f"{experiment.id} has no generation yet; run `posterity run` first")
    return reached[-1]


def parent_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """The generation that another one was made from, or will be."""
    recorded = warehouse.parents(experiment.id).get(generation)
    return deployed(warehouse, experiment) if recorded is None else recorded


def start_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """The generation whose weights the training of another starts from."""
    if experiment.training.start == "base":
        return 0
    return parent_of(warehouse, experiment, generation)


def ancestors(warehouse: Warehouse, experiment: Experiment, generation: int) -> list[int]:
    """Parent, grandparent and so on of a generation, the base first."""
    parents = warehouse.parents(experiment.id)
    found = [parent_of(warehouse, experiment, generation)]
    while (older := parents.get(found[-1])) is not None:
        found.append(older)
    return found[::-1]


def decided(warehouse: Warehouse, experiment: Experiment) -> set[int]:
    """The generations that were promoted or not: those that are made."""
    return {row["generation"] for row in warehouse.promotions(experiment.id)}


def next_generation(warehouse: Warehouse, experiment: Experiment) -> int | None:
    """The generation that is to be made next, or finished; None where all are made."""
    missing = set(range(experiment.generations + 1)) - decided(warehouse, experiment)
    return min(missing, default=None)
