"""A control keeps as many traces as the same experiment did with curation, which must be there."""

from __future__ import annotations

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse import records
from warehouse.store import Warehouse


def require_matched(warehouse: Warehouse, experiment: Experiment) -> None:
    """Raise InvalidInput where a control is to be run and the experiment that it matches was not,
    before hours of work that end there.
    """
    matched = experiment.matched()
    if matched is not None and not warehouse.every(records.Experiment, hash=matched.hash):
        raise _missing(warehouse, experiment, "")


def matched_count(warehouse: Warehouse, experiment: Experiment, generation: int) -> int | None:
    """How many traces the matched experiment kept, None where nothing is matched. Raises
    InvalidInput where it kept none.
    """
    matched = experiment.matched()
    if matched is None:
        return None
    kept = warehouse.query("kept_count", hash=matched.hash, generation=generation)
    count = int(kept["traces"][0])
    if not count:
        raise _missing(warehouse, experiment, f" for generation {generation}")
    return count


def _missing(warehouse: Warehouse, experiment: Experiment, what: str) -> InvalidInput:
    return InvalidInput(
        f"this control keeps as many traces as curator {experiment.curation.match!r} did{what}, "
        f"but that experiment is not in {warehouse.place}; run it there first, with the same "
        f"settings and seed (for example `posterity run quickstart --set seed={experiment.seed}`)"
    )
