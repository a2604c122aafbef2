"""Learning from traces made elsewhere: which may be, and how their plans are found."""

from __future__ import annotations

import pandas as pd

from curation.curators import ELSEWHERE, NO_FEEDBACK
from flows.experiment import Experiment
from planners.errors import InvalidInput
from planners.pddl import read_task
from planners.prompts import PROMPTS
from planners.shapes import shape
from warehouse.store import Row, Warehouse

READING = PROMPTS["pddl"]
"""How a plan is found in an ingested completion: in the task's own names."""


def barred(warehouse: Warehouse, experiment: Experiment, pool: pd.DataFrame) -> pd.Series:
    """Why a trace of a pool may not be learned from whatever it is like, None where it may.

    What is measured on must not be learned, under other object names neither. Raises InvalidInput
    where a source has no traces.
    """
    _require_traces(warehouse, experiment)
    tasks = warehouse.tasks(experiment.id)
    domains = {task["domain_hash"] for task in tasks}
    measured = {_shape(task): task for task in tasks if task["split"] != "train"}
    reasons: dict[str, str] = {}
    for key in pool.loc[pool["generation"] == ELSEWHERE, "task"].unique():
        task = warehouse.task(key)
        assert task is not None  # a trace is of a task that is there
        if task["domain_hash"] not in domains:
            reasons[key] = f"of a domain {task['domain']} that the experiment does not have"
        elif (twin := measured.get(_shape(task))) is not None:
            reasons[key] = f"measured on: it is {twin['split']} task {twin['task']}"
    elsewhere = pool["generation"] == ELSEWHERE
    return (
        pool["task"].map(reasons).where(elsewhere).astype(object).where(lambda r: r.notna(), None)
    )


def as_curated(
    warehouse: Warehouse, experiment: Experiment, generation: int, pool: pd.DataFrame
) -> pd.DataFrame:
    """A pool as it was when a generation was curated: without traces that were ingested later, and
    without feedback that came later.
    """
    decided = warehouse.frame(
        "SELECT trace, reason FROM selections WHERE experiment = :experiment "
        "AND generation = :generation AND from_generation = :elsewhere",
        experiment=experiment.id,
        generation=generation,
        elsewhere=ELSEWHERE,
    )
    there = pool[(pool["generation"] != ELSEWHERE) | pool["trace"].isin(decided["trace"])]
    silent = there["trace"].isin(decided.loc[decided["reason"] == NO_FEEDBACK, "trace"])
    return there.assign(accepted=there["accepted"].mask(silent, None))


def _shape(task: Row) -> str:
    return shape(read_task(task["domain_pddl"], task["pddl"]))


def _require_traces(warehouse: Warehouse, experiment: Experiment) -> None:
    for source in experiment.curation.sources or ():
        found = warehouse.frame(
            "SELECT count(*) AS traces FROM traces "
            "WHERE purpose = 'ingest' AND experiment = :source",
            source=source,
        )
        if not found["traces"][0]:
            raise InvalidInput(
                f"curation.sources: {source!r} has no ingested traces in {warehouse.place}; "
                f"`posterity ingest FILE --source {source}` adds them"
            )
