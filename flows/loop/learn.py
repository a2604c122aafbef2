"""From a generation's traces to the next generation: the stages curate and train."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from planners.training.loop import Facts
from warehouse.choice.rules import RULES
from warehouse.pool import lessons_of
from warehouse.records import Generation, Mark
from warehouse.store import Warehouse

OnStep = Callable[[int, float], None]
"""Is told each step of a training, and its loss."""


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
    training = experiment.training
    taught = lessons_of(warehouse, experiment.id, generation)
    lessons = as_lessons(taught, experiment.model.prompt)
    checkpoint = f"{experiment.id}/generation-{generation:03d}"
    folder = warehouse.checkpoints / checkpoint
    seed = _seed(experiment, generation)
    steps = training.count(len(hold_back(lessons, training.validation, seed)[0]))
    with watch.bar(f"generation {generation}: train", steps) as advance:
        on_step = stepping(warehouse, advance, steps)
        facts, _ = _tuned(warehouse, experiment, generation, lessons, folder, on_step)
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


def _seed(experiment: Experiment, generation: int) -> int:
    return derive_seed(experiment.seed, generation, "train")


def _tuned(
    warehouse: Warehouse, experiment: Experiment, generation: int, lessons: Sequence[Lesson],
    folder: Path, on_step: OnStep = lambda step, loss: None,
) -> tuple[Facts, Checkpoint]:  # fmt: skip
    """Fine-tune on these lessons from what the generation starts from, and write to `folder`."""
    use_machine(experiment)
    start = checkpoint_of(warehouse, experiment, start_of(warehouse, experiment, generation))
    training = experiment.training
    several = training.processes > 1
    make = partial(fine_tune_in, training.processes) if several else fine_tune
    facts = make(
        start.folder,
        lessons,
        training,
        folder,
        prompt=experiment.model.prompt,
        seed=_seed(experiment, generation),
        on_step=on_step,
        base=start.base,
    )
    return facts, Checkpoint(folder, "", start.base)


def trained_again(
    warehouse: Warehouse, experiment: Experiment, generation: int, lessons: Sequence[Lesson],
    folder: Path,
) -> Checkpoint:  # fmt: skip
    """The weights that a generation would have if it had learned these lessons, in `folder`."""
    return _tuned(warehouse, experiment, generation, lessons, folder)[1]
