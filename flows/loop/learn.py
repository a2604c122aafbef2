"""From a generation's traces to the next generation: the stages curate and train."""

from __future__ import annotations

import json
from functools import partial

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import checkpoint_of
from flows.generations.identity import training_set_hash
from flows.generations.lessons import as_lessons
from flows.generations.lineage import parent_of, start_of
from flows.generations.pool import select
from flows.progress import Watch
from planners.models.checkpoint import weights_hash
from planners.models.hardware import use_threads
from planners.records import derive_seed
from planners.training.distributed import fine_tune_in
from planners.training.fine_tuning import fine_tune
from warehouse import schema
from warehouse.pool import lessons_of
from warehouse.store import Warehouse


def curate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Decide on every trace of the pool what `generation` is trained on."""
    if warehouse.done(experiment.id, generation, "curate"):
        return
    selection = select(warehouse, experiment, generation)
    decided = selection.frame.assign(experiment=experiment.id, generation=generation)
    warehouse.record({schema.selections: decided}, (experiment.id, generation, "curate", 0))


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
