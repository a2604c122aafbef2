"""The questions of an audit, asked of one trained generation."""

from __future__ import annotations

from curation.curators import CURATORS
from flows.audit.ledger import Audit, Trained
from flows.audit.questions import QUESTIONS
from flows.experiments.experiment import Experiment
from flows.generations.lineage import parent_of, start_of
from flows.generations.pool import pool_for, select
from flows.progress import Advance
from planners.errors import InvalidInput
from warehouse.pool import TRAITS, pool_traits
from warehouse.store import Warehouse


def empty(experiment: Experiment) -> Audit:
    return Audit(experiment, {**TRAITS, **experiment.audit.traits})


def _trained(warehouse: Warehouse, found: Audit, index: int) -> Trained:
    experiment = found.experiment
    pool = pool_traits(warehouse, experiment.id, found.traits, index)
    own = experiment.curation.curator
    if experiment.training.method != "sft":  # ask about what was reinforced
        pool = pool.assign(kept=pool["weight"] > 0, weight=pool["weight"].clip(lower=0))
    choices = {own: pool.loc[pool["kept"].astype(bool), "trace"].tolist()}
    whole = pool_for(warehouse, experiment, index, text=True)
    for name, curator in CURATORS.items():
        if name != own and curator.needs is None and not curator.signed:
            try:
                choices[name] = select(warehouse, experiment, index, name, whole).kept
            except InvalidInput as error:
                found.note(index, "other-curator", name, {"both": None}, str(error))
    parent = parent_of(warehouse, experiment, index)
    start = start_of(warehouse, experiment, index)
    return Trained(warehouse, experiment, index, parent, start, pool, choices, whole)


def asked(
    warehouse: Warehouse, experiment: Experiment, index: int, advance: Advance = lambda count: None
) -> Audit:
    """Ask every question of one generation; `advance` hears of each one that is answered."""
    found = empty(experiment)
    trained = _trained(warehouse, found, index)
    found.say(
        f"generation {index} learned {len(trained.kept)} of {len(trained.pool)} "
        f"traces with a plan ({int(trained.pool['valid'].sum())} valid), curator "
        f"{experiment.curation.curator}"
    )
    for question in QUESTIONS:
        question(trained, found)
        advance(1)
    found.require_asked(index)
    return found
