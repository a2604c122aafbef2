"""Learning from traces made elsewhere: which may be learned, and which are left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from curation.curators import ELSEWHERE, NO_FEEDBACK
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import require_base
from flows.generations.lessons import as_lessons
from planners.errors import InvalidInput
from planners.models.checkpoint import reading
from planners.pddl import read_task
from planners.pddl.isomorphism import shape
from planners.pddl.sexpr import parse, show
from planners.training.fine_tuning import encode
from warehouse.pool import completions_of
from warehouse.store import Row, Warehouse


def barred(warehouse: Warehouse, experiment: Experiment, pool: pd.DataFrame) -> pd.Series:
    """Why a trace of a pool may not be learned from whatever it is like, None where it may.

    What is measured on must not be learned, under other object names neither; nor can be what the
    prompt cannot say or the model has no words or room for. Raises InvalidInput where a source has
    no traces.
    """
    _require_traces(warehouse, experiment)
    ingested = pool[pool["generation"] == ELSEWHERE]
    of_task = _barred_tasks(warehouse, experiment, ingested["task"].unique())
    reasons = ingested.set_index("trace")["task"].map(of_task).dropna().to_dict()
    with_plan = ingested[ingested["plan_length"].notna()]
    rest = [trace for trace in with_plan["trace"] if trace not in reasons]
    reasons |= _unlearnable(experiment, completions_of(warehouse, rest))
    return pool["trace"].map(reasons).astype(object)


def _barred_tasks(
    warehouse: Warehouse, experiment: Experiment, keys: Iterable[str]
) -> dict[str, str]:
    """Why tasks are barred, by their keys; domains are the same if they differ in layout alone."""
    tasks = warehouse.tasks(experiment.id)
    domains = {_bare(task["domain_pddl"]): task["domain_pddl"] for task in tasks}
    measured = {
        _shape(task["domain_pddl"], task): task for task in tasks if task["split"] != "train"
    }
    reasons: dict[str, str] = {}
    for key in keys:
        task = warehouse.task(key)
        assert task is not None  # a trace is of a task that is there
        own = domains.get(_bare(task["domain_pddl"]))
        if own is None:
            reasons[key] = f"its domain {task['domain']} is none of the experiment's"
        elif (twin := measured.get(_shape(own, task))) is not None:
            reasons[key] = f"measured on: it is {twin['split']} task {twin['task']}"
    return reasons


def _unlearnable(experiment: Experiment, rows: Sequence[Row]) -> dict[str, str]:
    """Why the experiment's model cannot learn some traces, by their ids."""
    if not rows:
        return {}
    tokenizer, context = reading(require_base(experiment))
    reasons: dict[str, str] = {}
    for row in rows:
        try:
            lessons = as_lessons([row], experiment.model.prompt)
            [(head, tail)] = encode(lessons, tokenizer, experiment.model.prompt)
        except InvalidInput as error:
            reasons[row["trace"]] = str(error)
            continue
        if len(head) + len(tail) > context:
            reasons[row["trace"]] = f"{len(head) + len(tail)} tokens, the model takes {context}"
        elif tokenizer.unk_token_id is not None and tokenizer.unk_token_id in [*head, *tail]:
            reasons[row["trace"]] = "the model does not know all of its words"
    return reasons


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


def _bare(domain: str) -> str:
    """A domain's text without comments and layout."""
    return show(parse(domain))


def _shape(domain: str, task: Row) -> str:
    return shape(read_task(domain, task["pddl"]))


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
