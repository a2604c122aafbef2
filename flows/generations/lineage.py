"""Which generation descends from which. The last one that was promoted is deployed, and the parent
of the next; a generation learns from traces of its ancestors only.
"""

from __future__ import annotations

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse.store import Warehouse


def deployed(warehouse: Warehouse, experiment: Experiment) -> int:
    """The generation that is deployed: the last one promoted, or the newest where none was decided
    on. Raises InvalidInput where there is no generation.
    """
    promoted = [one.generation for one in warehouse.promotions(experiment.id) if one.promoted]
    if promoted:
        return promoted[-1]
    reached = warehouse.generations(experiment.id)
    if not reached:
        raise InvalidInput(f"{experiment.id} has no generation yet; run `posterity run` first")
    return reached[-1].index


def parent_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """The generation that another one was made from, or will be."""
    recorded = warehouse.generation(experiment.id, generation)
    if recorded is None or recorded.parent is None:
        return deployed(warehouse, experiment)
    return recorded.parent


def start_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """The generation whose weights the training of another starts from."""
    if experiment.training.start == "base":
        return 0
    return parent_of(warehouse, experiment, generation)


def ancestors(warehouse: Warehouse, experiment: Experiment, generation: int) -> list[int]:
    """Parent, grandparent and so on of a generation, the base first."""
    parents = {one.index: one.parent for one in warehouse.generations(experiment.id)}
    found = [parent_of(warehouse, experiment, generation)]
    while (older := parents.get(found[-1])) is not None:
        found.append(older)
    return found[::-1]


def decided(warehouse: Warehouse, experiment: Experiment) -> set[int]:
    """The generations that were promoted or not: those that are made."""
    return {one.generation for one in warehouse.promotions(experiment.id)}


def next_generation(warehouse: Warehouse, experiment: Experiment) -> int | None:
    """The generation that is to be made next, or finished; None where all are made."""
    missing = set(range(experiment.generations + 1)) - decided(warehouse, experiment)
    return min(missing, default=None)
