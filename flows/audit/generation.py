"""The questions of an audit, asked of one trained generation."""

from __future__ import annotations

from collections.abc import Sequence

from curation.curators import CURATORS
from flows.audit.ledger import Audit, Trained
from flows.audit.questions import OF_TRACES, OF_WEIGHTS, Question
from flows.experiments.experiment import Experiment
from flows.generations.lineage import parent_of, start_of
from flows.generations.pool import pool_for, select
from flows.progress import Advance
from planners.errors import InvalidInput
from warehouse.pool import TRAITS, pool_traits
from warehouse.store import Warehouse


def empty(experiment: Experiment) -> Audit:
    return Audit(experiment, {**TRAITS, **experiment.audit.traits})


def _trained(
    warehouse: Warehouse, found: Audit, index: int, questions: Sequence[Question]
) -> Trained:
    """The generation as some questions need it: with traits, or with the choices of curators."""
    experiment = found.experiment
    traits = {} if questions is OF_WEIGHTS else found.traits
    pool = pool_traits(warehouse, experiment.id, traits, index)
    own = experiment.curation.curator
    if experiment.training.method != "sft":  # ask about what was reinforced
        pool = pool.assign(kept=pool["weight"] > 0, weight=pool["weight"].clip(lower=0))
    choices = {own: pool.loc[pool["kept"].astype(bool), "trace"].tolist()}
    whole = pool_for(warehouse, experiment, index, text=True)
    for name, curator in () if questions is OF_TRACES else CURATORS.items():
        if name != own and curator.needs is None and not curator.signed:
            try:
                choices[name] = select(warehouse, experiment, index, name, whole).kept
            except InvalidInput as error:
                found.note(index, "other-curator", name, {"both": None}, str(error))
    parent = parent_of(warehouse, experiment, index)
    start = start_of(warehouse, experiment, index)
    return Trained(warehouse, experiment, index, parent, start, pool, choices, whole)


def asked(
    warehouse: Warehouse, experiment: Experiment, index: int, questions: Sequence[Question],
    advance: Advance = lambda count: None,
) -> Audit:  # fmt: skip
    """Ask one part of the questions (`PARTS`) of one generation; `advance` hears of each one that
    is answered.
    """
    found = empty(experiment)
    trained = _trained(warehouse, found, index, questions)
    if questions is OF_TRACES:
        found.say(
            f"generation {index} learned {len(trained.kept)} of {len(trained.pool)} "
            f"traces with a plan ({int(trained.pool['valid'].sum())} valid), curator "
            f"{experiment.curation.curator}"
        )
    for question in questions:
        question(trained, found)
        advance(1)
    return found
