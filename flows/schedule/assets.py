"""Traces, selections and weights as Prefect assets, which show what each generation is made from.

Prefect's server gets keys alone; the data that they name stay in the warehouse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.experiments.experiment import Experiment
from flows.generations.lineage import ancestors, start_of
from warehouse.store import Warehouse


class Made(NamedTuple):
    """The key of an asset that a stage makes, and the keys of those it is made from."""

    key: str
    of: Sequence[str]


def made_by(
    stage: str, warehouse: Warehouse, experiment: Experiment, generation: int
) -> Made | None:
    """The asset that a stage makes for a generation; None where it makes none."""

    def key(what: str, number: int = generation) -> str:
        return f"posterity://{experiment.id}/generation-{number}/{what}"

    if stage == "deploy":
        return Made(key("traces"), [key("weights")])
    if stage == "curate":
        pool = ancestors(warehouse, experiment, generation)
        return Made(key("selection"), [key("traces", number) for number in pool])
    if stage == "train" and generation == 0:  # warmed up, on what no generation wrote
        return Made(key("weights"), [])
    if stage == "train":
        start = start_of(warehouse, experiment, generation)
        return Made(key("weights"), [key("selection"), key("weights", start)])
    return None
