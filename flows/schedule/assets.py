"""What generations leave to each other, as assets of Prefect: its server is told of which traces,
which selection and whose weights a generation is made. Keys alone; what they name is in the
warehouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.experiments.experiment import Experiment
from flows.generations.lineage import ancestors, start_of
from warehouse.store import Warehouse


class Made(NamedTuple):
    """An asset that a stage makes, and those that it is made of."""

    key: str
    of: Sequence[str]


def made_by(
    stage: str, warehouse: Warehouse, experiment: Experiment, generation: int
) -> Made | None:
    """What a stage makes of a generation; None where that is no asset."""

    def key(what: str, number: int = generation) -> str:
        return f"posterity://{experiment.id}/generation-{number}/{what}"

    if stage == "deploy":
        return Made(key("traces"), [key("weights")])
    if stage == "curate":
        pool = ancestors(warehouse, experiment, generation)
        return Made(key("selection"), [key("traces", number) for number in pool])
    if stage == "train":
        start = start_of(warehouse, experiment, generation)
        return Made(key("weights"), [key("selection"), key("weights", start)])
    return None
