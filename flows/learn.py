"""From a generation's traces to the next generation: the stages curate and train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import pandas as pd

from curation.curators import CURATORS, Options, Selection
from curation.curators import curate as choose
from flows.checkpoints import checkpoint_of
from flows.elsewhere import as_curated, barred
from flows.experiment import Experiment
from flows.lessons import as_lessons
from flows.lineage import ancestors, parent_of, start_of
from flows.progress import Watch
from flows.twin import matched_count
from planners.checkpoint import weights_hash
from planners.data_parallel import fine_tune_in
from planners.fine_tuning import fine_tune
from planners.local import use_threads
from planners.records import content_hash, derive_seed
from warehouse import schema
from warehouse.pool import lessons_of, pooled
from warehouse.store import Row, Warehouse


def curate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Decide on every trace of the pool what `generation` is trained on."""
    if warehouse.done(experiment.id, generation, "curate"):
        return
    selection = select(warehouse, experiment, generation)
    decided = selection.frame.assign(experiment=experiment.id, generation=generation)
    warehouse.record({schema.selections: decided}, (experiment.id, generation, "curate", 0))


def select(
    warehouse: Warehouse, experiment: Experiment, generation: int, curator: str | None = None,
    pool: pd.DataFrame | None = None,
) -> Selection:  # fmt: skip
    """The decision of the experiment's curator, or of another, on the pool that `generation` is
    trained from, read where it is not given; writes nothing.
    """
    curation = experiment.curation
    name = curator or curation.curator
    options = Options(
        count=matched_count(warehouse, experiment, generation),
        seed=derive_seed(experiment.seed, generation, "curate"),
        error_rate=curation.error_rate or 0.0,
        taste=curation.taste or "",
    )
    if pool is None:
        pool = pool_for(warehouse, experiment, generation, text=CURATORS[name].needs == "taste")
    return choose(name, pool, generation, curation.replay, options)


def pool_for(
    warehouse: Warehouse, experiment: Experiment, generation: int, text: bool = False
) -> pd.DataFrame:
    """What a generation may be trained on: its ancestors' traces, and those of the sources, as far
    as they were there when it was curated.
    """
    sources = experiment.curation.sources or ()
    lineage = ancestors(warehouse, experiment, generation)
    pool = pooled(warehouse, experiment.id, lineage, sources, text)
    if not sources:
        return pool
    if warehouse.done(experiment.id, generation, "curate"):
        pool = as_curated(warehouse, experiment, generation, pool)
    return pool.assign(barred=barred(warehouse, experiment, pool))


def train(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Fine-tune `generation` on its selection, from the base or from its parent."""
    if warehouse.generation(experiment.id, generation) is not None:
        return
    use_threads(experiment.model.threads)
    rows = lessons_of(warehouse, experiment.id, generation)
    lessons = as_lessons(rows, experiment.model.prompt)
    seed = derive_seed(experiment.seed, generation, "train")
    settings = experiment.training.settings(experiment.model.prompt, seed)
    origin = checkpoint_of(warehouse, experiment, start_of(warehouse, experiment, generation))
    checkpoint = f"{experiment.id}/generation-{generation:03d}"
    steps = settings.count(len(lessons))
    processes = experiment.training.processes
    make = partial(fine_tune_in, processes) if processes else fine_tune

    def on_step(step: int, loss: float) -> None:
        advance(1, f"loss {loss:.3f}")
        if step == steps - 1:
            warehouse.require_lease()  # before the weights take their place

    with watch.bar(f"generation {generation}: train", steps) as advance:
        facts = make(
            origin.folder,
            lessons,
            settings,
            warehouse.checkpoints / checkpoint,
            on_step,
            origin.base,
        )
    row = {
        "experiment": experiment.id,
        "generation": generation,
        "parent": parent_of(warehouse, experiment, generation),
        "start": experiment.training.start,
        "checkpoint": checkpoint,
        "weights_hash": weights_hash(warehouse.checkpoints / checkpoint),
        "training_set_hash": training_set_hash(rows),
        "training": json.dumps(facts, sort_keys=True),
    }
    warehouse.record({schema.generations: [row]}, (experiment.id, generation, "train", 0))


def training_set_hash(lessons: Sequence[Row]) -> str:
    """Hash of what a generation learned: tasks, weights and completions, in any order."""
    learned = [f"{row['task']} {row['weight']!r} {row['text']}" for row in lessons]
    return content_hash(*sorted(learned))
