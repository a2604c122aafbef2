"""A control and its twin: the same experiment with curation, whose numbers of traces it matches."""

from __future__ import annotations

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse.store import Warehouse


def require_twin(warehouse: Warehouse, experiment: Experiment) -> None:
    """Raise InvalidInput where a control is to be run, and its twin was not: before hours of work
    that end there.
    """
    twin = experiment.twin()
    if twin is None:
        return
    found = warehouse.frame("SELECT 1 FROM experiments WHERE hash = :hash", hash=twin.hash)
    if found.empty:
        raise _missing(warehouse, experiment, "")


def matched_count(warehouse: Warehouse, experiment: Experiment, generation: int) -> int | None:
    """How many traces the twin of a control kept, None where nothing is matched. Raises
    InvalidInput where it kept none.
    """
    twin = experiment.twin()
    if twin is None:
        return None
    kept = warehouse.frame(
        """
        SELECT count(*) AS traces
        FROM selections AS s
        JOIN experiments AS e ON e.experiment = s.experiment
        WHERE e.hash = :hash AND s.generation = :generation AND s.kept
        """,
        hash=twin.hash,
        generation=generation,
    )
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
