"""Which traces of users and other sources may be learned from, and why the others may not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import first_folder
from flows.generations.lessons import as_lessons
from flows.generations.tasks import FRESH
from planners.errors import InvalidInput
from planners.models.chat import unknown_id
from planners.models.checkpoint import reading
from planners.pddl import read_task
from planners.pddl.isomorphism import shape
from planners.pddl.sexpr import parse, show
from planners.training.fine_tuning import encode
from warehouse.pool import completions_of
from warehouse.records import Task, Taught
from warehouse.store import Warehouse

FORGOTTEN = "forgotten: its user asked for it"
LEARNED = ("train", FRESH)
"""The splits whose tasks may be learned."""


def barred(warehouse: Warehouse, experiment: Experiment, pool: pd.DataFrame) -> pd.Series:
    """Why no curator may keep a trace, for each trace of a pool; None if one may.

    Held-out and larger tasks must not be learned, even with their objects renamed. Nor can a trace
    be learned whose task the prompt format cannot express, that is too long for the model, or that
    has words it does not know. Raises InvalidInput if a source has no traces.
    """
    require_sources(warehouse, experiment)
    tasks = warehouse.tasks(experiment.id)
    posed = {task.key for task in tasks if task.split in LEARNED}
    others = pool[(pool["purpose"] != "deploy") | ~pool["task"].isin(posed)]
    gone = dict.fromkeys(warehouse.forgotten(), FORGOTTEN)
    others = others[~others["trace"].isin(gone)]
    of_task = _barred_tasks(warehouse, tasks, others["task"].unique())
    reasons = gone | others.set_index("trace")["task"].map(of_task).dropna().to_dict()
    with_plan = others[others["plan_length"].notna()]
    rest = [trace for trace in with_plan["trace"] if trace not in reasons]
    folder = first_folder(warehouse, experiment)
    reasons |= _unlearnable(experiment, folder, completions_of(warehouse, rest))
    return pool["trace"].map(reasons).astype(object)


def _barred_tasks(
    warehouse: Warehouse, tasks: Sequence[Task], keys: Iterable[str]
) -> dict[str, str]:
    """Why tasks are barred, by task key, given an experiment's own; domains that differ only in
    layout are the same.
    """
    domains = {_bare(task.domain_pddl): task.domain_pddl for task in tasks}
    # Tasks that differ only in the names of their objects have the same shape.
    measured = {shape(task.parsed): task for task in tasks if task.split not in LEARNED}
    reasons: dict[str, str] = {}
    for key in keys:
        task = warehouse.task(key)
        assert task is not None  # the task of every trace is stored
        own = domains.get(_bare(task.domain_pddl))
        if own is None:
            reasons[key] = f"its domain {task.domain} is not among the experiment's domains"
        elif (same := measured.get(shape(read_task(own, task.pddl)))) is not None:
            reasons[key] = (
                f"reserved for evaluation: it equals {same.split} task {same.key} up to "
                "object names"
            )
    return reasons


def _unlearnable(experiment: Experiment, folder: Path, taught: Sequence[Taught]) -> dict[str, str]:
    """Why the experiment's model, in `folder`, cannot learn some traces, by their ids."""
    if not taught:
        return {}
    tokenizer, context = reading(folder)
    reasons: dict[str, str] = {}
    for one in taught:
        try:
            lessons = as_lessons([one], experiment.model.prompt)
            [(head, tail)] = encode(lessons, tokenizer, experiment.model.prompt)
        except InvalidInput as error:
            reasons[one.trace] = str(error)
            continue
        if len(head) + len(tail) > context:
            reasons[one.trace] = f"{len(head) + len(tail)} tokens, the model takes {context}"
        elif unknown_id(tokenizer) in [*head, *tail]:
            reasons[one.trace] = "the model has unknown tokens for it"
    return reasons


def as_curated(
    warehouse: Warehouse, experiment: Experiment, generation: int, pool: pd.DataFrame
) -> pd.DataFrame:
    """A pool as it was when a generation was curated: without traces of users and sources that came
    later, and with the feedback of that time.
    """
    then = warehouse.query("ingested_decisions", experiment=experiment.id, generation=generation)
    there = pool[(pool["purpose"] == "deploy") | pool["trace"].isin(then["trace"])]
    accepted = there["trace"].map(then.set_index("trace")["accepted"].astype(object))
    return there.assign(accepted=accepted.where(accepted.notna(), None))


def _bare(domain: str) -> str:
    """A domain's text without comments and layout."""
    return show(parse(domain))


def require_sources(warehouse: Warehouse, experiment: Experiment) -> None:
    """Raise InvalidInput if a source that the experiment learns from has no traces."""
    for source in experiment.curation.sources or ():
        if not warehouse.query("ingested_count", source=source)["traces"][0]:
            raise InvalidInput(
                f"curation.sources: {source!r} has no ingested traces in {warehouse.place}; "
                f"`posterity ingest FILE --source {source}` adds them"
            )
