"""From a generation's traces to the next generation: the stages curate and train."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from curation.curators import window
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import Checkpoint, checkpoint_of, files_of, use_machine
from flows.generations.identity import training_set_hash
from flows.generations.lessons import as_lessons
from flows.generations.lineage import ancestors, parent_of, start_of
from flows.generations.pool import select
from flows.loop.forecast import foretell
from flows.loop.warmup import stepping, warm_up
from flows.progress import Watch
from planners.models.checkpoint import weights_hash
from planners.records import derive_seed
from planners.training.distributed import fine_tune_in
from planners.training.fine_tuning import fine_tune, hold_back
from planners.training.lessons import Lesson
from warehouse.choice.rules import RULES
from warehouse.pool import lessons_of
from warehouse.records import Generation, Mark
from warehouse.store import Warehouse


def curate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Keep or drop every trace of the pool for the training of `generation`.

    The warehouse does so itself by a curator that is SQL too, so that a pool of millions need not
    fit into memory.
    """
    if warehouse.done(experiment.id, generation, "curate"):
        return
    mark, curation = Mark(experiment.id, generation, "curate"), experiment.curation
    outside = curation.sources or curation.match or curation.crossing or experiment.deployment
    if curation.curator in RULES and not outside:
        lineage = ancestors(warehouse, experiment, generation)
        warehouse.decide_by(curation.curator, window(lineage, curation.replay), mark)
        return
    warehouse.decide(select(warehouse, experiment, generation).frame, mark)


def train(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Fine-tune `generation` on its selection, from the base or from its parent. What is expected
    of it is written down first.
    """
    if warehouse.generation(experiment.id, generation) is not None:
        return
    if generation == 0:
        warm_up(warehouse, experiment, watch)
        return
    foretell(warehouse, experiment, generation)
    use_machine(experiment)
    training, prompt = experiment.training, experiment.model.prompt
    taught = lessons_of(warehouse, experiment.id, generation)
    lessons = as_lessons(taught, prompt)
    origin = checkpoint_of(warehouse, experiment, start_of(warehouse, experiment, generation))
    checkpoint = f"{experiment.id}/generation-{generation:03d}"
    seed = derive_seed(experiment.seed, generation, "train")
    folder = warehouse.checkpoints / checkpoint
    steps = training.count(len(hold_back(lessons, training.validation, seed)[0]))
    several = training.processes > 1
    make = partial(fine_tune_in, training.processes) if several else fine_tune

    with watch.bar(f"generation {generation}: train", steps) as advance:
        facts = make(
            origin.folder,
            lessons,
            training,
            folder,
            prompt=prompt,
            seed=seed,
            on_step=stepping(warehouse, advance, steps),
            base=origin.base,
        )
    # The row is written after the weights: where a generation is recorded, its weights exist.
    made = Generation(
        experiment.id,
        generation,
        parent_of(warehouse, experiment, generation),
        training.start,
        checkpoint,
        weights_hash(folder),
        training_set_hash(taught),
        json.dumps(facts, sort_keys=True),
        files_of(folder),
    )
    warehouse.write([made], Mark(experiment.id, generation, "train"))


def trained_again(
    warehouse: Warehouse, experiment: Experiment, generation: int, lessons: Sequence[Lesson],
    folder: Path,
) -> Checkpoint:  # fmt: skip
    """The weights that a generation would have if it had learned these lessons, in `folder`."""
    start = checkpoint_of(warehouse, experiment, start_of(warehouse, experiment, generation))
    use_machine(experiment)
    fine_tune(
        start.folder,
        lessons,
        experiment.training,
        folder,
        prompt=experiment.model.prompt,
        seed=derive_seed(experiment.seed, generation, "train"),
        base=start.base,
    )
    return Checkpoint(folder, "", start.base)
