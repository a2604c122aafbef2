"""The choice of another curator, and its preferences: an audit before anything is trained."""

from __future__ import annotations

from collections import Counter

from pydantic import ValidationError

from curation.own import code_of
from flows.audit.generation import empty
from flows.audit.ledger import Audit, Trained
from flows.audit.questions import what_is_preferred, what_nobody_listed
from flows.experiments.experiment import Experiment
from flows.experiments.reading import explained
from flows.generations.lineage import start_of
from flows.generations.pool import pool_for, select
from planners.errors import InvalidInput
from warehouse.pool import pool_traits
from warehouse.store import Warehouse

REASONS = 5
"""Reasons that are told, at most, the most frequent first."""


def supposed(warehouse: Warehouse, experiment: Experiment, curator: str) -> Audit:
    """The preferences of another curator in the pool of each trained generation; writes nothing.

    `curator` is a name, or a user's `module:function`. Its choice is made from the traces that the
    generation could learn from, with the experiment's other settings. Raises InvalidInput if it
    cannot be loaded, lacks a setting, or keeps nothing.
    """
    settings = experiment.model_dump(mode="json")
    code = code_of(curator) if ":" in curator else None
    settings["curation"] |= {"curator": curator, "code": code}
    try:
        found = empty(Experiment.model_validate(settings))
    except ValidationError as error:
        raise InvalidInput(f"--curator {curator}: {explained(error)}") from error
    for index in [one.index for one in warehouse.generations(experiment.id) if one.index > 0]:
        learned = pool_traits(warehouse, experiment.id, found.traits, index)
        whole = pool_for(warehouse, experiment, index, text=True)
        chosen = select(warehouse, experiment, index, curator, whole).frame
        kept = chosen[chosen["kept"].astype(bool)]
        before = set(learned.loc[learned["kept"].astype(bool), "trace"])
        found.say(
            f"generation {index} would learn {len(kept)} of {len(chosen)} traces by {curator}, of "
            f"{kept['task'].nunique()} tasks; {len(before & set(kept['trace']))} of them are among "
            f"the {len(before)} that {experiment.curation.curator} chose"
        )
        reasons = Counter(chosen.loc[~chosen["kept"].astype(bool), "reason"])
        for reason, count in reasons.most_common(REASONS):
            found.say(f"  {count} not: {reason}")
        by_trace = kept.set_index("trace")["weight"]
        pool = learned.assign(
            kept=learned["trace"].isin(kept["trace"]),
            weight=learned["trace"].map(by_trace).fillna(0.0),
        )
        start = start_of(warehouse, experiment, index)
        asked = Trained(warehouse, found.experiment, index, start, start, pool, {}, whole)
        what_is_preferred(asked, found)
        what_nobody_listed(asked, found)
    found.experiment = experiment
    return found
