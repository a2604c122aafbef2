"""Which generation descends from which.

The last promoted generation is deployed, and is the parent of the next one. A generation learns
from its ancestors' traces only.
"""

from __future__ import annotations

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse.store import Warehouse

BY_HAND = "person"
"""Who decided on a generation, where no rule did."""


def deployed(warehouse: Warehouse, experiment: Experiment) -> int:
    """The deployed generation: the last one promoted, or the newest if none was promoted. Raises
    InvalidInput if there is no generation.
    """
    promoted = [one.generation for one in warehouse.promotions(experiment.id) if one.promoted]
    if promoted:
        return promoted[-1]
    reached = warehouse.generations(experiment.id)
    if not reached:
        raise InvalidInput(
            f"{experiment.id} has no generation yet; `posterity run {experiment.name}` makes the "
            "first (or with its file)"
        )
    return reached[-1].index


def parent_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """The parent of a generation: the recorded one, or the deployed one if none is recorded."""
    recorded = warehouse.generation(experiment.id, generation)
    if recorded is None or recorded.parent is None:
        return deployed(warehouse, experiment)
    return recorded.parent


def start_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """The generation whose weights training starts from: the base or the parent."""
    if experiment.training.start == "base":
        return 0
    return parent_of(warehouse, experiment, generation)


def ancestors(warehouse: Warehouse, experiment: Experiment, generation: int) -> list[int]:
    """The ancestors of a generation, from the base to its parent."""
    parents = {one.index: one.parent for one in warehouse.generations(experiment.id)}
    found = [parent_of(warehouse, experiment, generation)]
    while (older := parents.get(found[-1])) is not None:
        if older >= found[-1]:
            raise InvalidInput(
                f"{experiment.id}: generation {found[-1]} has generation {older} for a parent, "
                "which is no older: the warehouse was changed by other means than Posterity"
            )
        found.append(older)
    return found[::-1]


def decided(warehouse: Warehouse, experiment: Experiment) -> set[int]:
    """The generations with a promotion decision, yes or no: those that are finished."""
    return {one.generation for one in warehouse.promotions(experiment.id)}


def unfinished(warehouse: Warehouse, experiment: str) -> list[int]:
    """The generations of an experiment, by its id, that are half made: without a decision, or the
    next one once it is curated for, when it has no row yet.
    """
    made = {one.index for one in warehouse.generations(experiment)}
    following = max(made, default=-1) + 1
    begun = {following} if warehouse.done(experiment, following, "curate") else set()
    return sorted(made - {one.generation for one in warehouse.promotions(experiment)} | begun)


def next_generation(warehouse: Warehouse, experiment: Experiment) -> int | None:
    """The first generation that is missing or unfinished; None if all are finished."""
    made = decided(warehouse, experiment)
    return next((n for n in range(experiment.generations + 1) if n not in made), None)
