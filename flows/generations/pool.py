"""The pool that a generation may learn from, and a curator's selection from it."""

from __future__ import annotations

import pandas as pd

from curation.curators import Options, Selection, curate
from curation.own import curator_named
from flows.experiments.experiment import Experiment
from flows.generations.eligibility import as_curated, barred
from flows.generations.lineage import ancestors
from flows.generations.matched_control import matched_count
from planners.records import derive_seed
from warehouse.pool import pooled
from warehouse.store import Warehouse


def select(
    warehouse: Warehouse, experiment: Experiment, generation: int, other: str | None = None,
    pool: pd.DataFrame | None = None,
) -> Selection:  # fmt: skip
    """The selection by the experiment's curator, or by the one named `other`, from the pool that
    `generation` is trained from. The `pool` is read if not given; nothing is written.
    """
    curation = experiment.curation
    curator = curator_named(other) if other else curator_named(curation.curator, curation.code)
    options = Options(
        count=matched_count(warehouse, experiment, generation),
        seed=derive_seed(experiment.seed, generation, "curate"),
        error_rate=curation.error_rate or 0.0,
        taste=curation.taste or "",
    )
    if pool is None:
        pool = pool_for(warehouse, experiment, generation, text=curator.reads_text)
    return curate(curator, pool, generation, curation.replay, options)


def pool_for(
    warehouse: Warehouse, experiment: Experiment, generation: int, text: bool = False
) -> pd.DataFrame:
    """The traces that a generation may be trained on: those of its ancestors and of the sources, as
    they were when it was curated.
    """
    sources = experiment.curation.sources or ()
    lineage = ancestors(warehouse, experiment, generation)
    pool = pooled(warehouse, experiment.id, lineage, sources, text)
    if not sources:
        return pool
    # Traces and feedback that came later must not change a selection already made.
    if warehouse.done(experiment.id, generation, "curate"):
        pool = as_curated(warehouse, experiment, generation, pool)
    return pool.assign(barred=barred(warehouse, experiment, pool))
