"""Controls: each keeps as many traces as the curated experiment that it matches."""

from __future__ import annotations

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse import records
from warehouse.store import Warehouse


def require_matched(warehouse: Warehouse, experiment: Experiment) -> None:
    """Raise InvalidInput if the experiment that a control matches was not run. Asked first, since
    the control would fail after hours of work.
    """
    matched = experiment.matched()
    if matched is not None and not warehouse.every(records.Experiment, hash=matched.hash):
        raise _missing(warehouse, experiment, "")


def matched_count(warehouse: Warehouse, experiment: Experiment, generation: int) -> int | None:
    """Number of traces that the matched experiment kept; None if nothing is matched. Raises
    InvalidInput if it kept none.
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
