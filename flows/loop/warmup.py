"""Generation 0 of an experiment with a warm-up: the base after short plans that are generated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import files_of, require_base, use_machine
from flows.generations.identity import warm_up_hash
from flows.generations.lessons import lessons_of_warm_up
from flows.progress import Advance, Watch
from planners.models.checkpoint import weights_hash
from planners.records import content_hash, derive_seed
from planners.training.fine_tuning import fine_tune
from planners.training.lessons import Lesson
from planners.training.loop import Facts
from planners.training.settings import Training
from warehouse.records import Generation, Mark
from warehouse.store import Warehouse


def warm_up(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Train generation 0 from the base, or take it from an experiment that made the same one: a
    control has its experiment's tasks, and so the same warm-up.
    """
    how, prompt = experiment.warmup, experiment.model.prompt
    assert how is not None
    use_machine(experiment)
    lessons = lessons_of_warm_up(warehouse, experiment, watch)
    learned, base = warm_up_hash(lessons), require_base(experiment)
    identity = content_hash(
        weights_hash(base), learned, how.model_dump_json(exclude_none=True), prompt,
        experiment.model.dtype, str(experiment.seed), length=12,
    )  # fmt: skip
    checkpoint = f"warm-ups/{identity}"
    folder = warehouse.checkpoints / checkpoint
    twins = warehouse.every(Generation, index=0, checkpoint=checkpoint)
    if twins and folder.is_dir():
        watch.say(f"generation 0: warmed up as {twins[0].experiment} was")
        made = replace(twins[0], experiment=experiment.id)
    else:
        facts = json.dumps(_trained(warehouse, experiment, lessons, folder, watch), sort_keys=True)
        hashed, files = weights_hash(folder), files_of(folder)
        made = Generation(experiment.id, 0, None, "base", checkpoint, hashed, learned, facts, files)
    warehouse.write([made], Mark(experiment.id, 0, "train"))


def stepping(warehouse: Warehouse, advance: Advance, steps: int) -> Callable[[int, float], None]:
    """To be told each step of a training and its loss, for a bar. Raises LeaseLost after the last
    one if another process has taken over, whose weights would be overwritten next.
    """

    def on_step(step: int, loss: float) -> None:
        advance(1, f"loss {loss:.3f}")
        if step == steps - 1:
            warehouse.require_lease()

    return on_step


def _trained(
    warehouse: Warehouse, experiment: Experiment, lessons: list[Lesson], folder: Path, watch: Watch
) -> Facts:
    """Train the base on the lessons, once each, and write it to `folder`, without its chat
    template; returns the facts of training.
    """
    how = experiment.warmup
    assert how is not None
    training = Training(
        steps=how.steps, batch=how.batch, learning_rate=how.learning_rate,
        micro=experiment.training.micro, checkpointing=experiment.training.checkpointing,
    )  # fmt: skip
    with watch.bar("generation 0: warm-up", how.steps) as advance:
        return fine_tune(
            require_base(experiment),
            lessons,
            training,
            folder,
            prompt=experiment.model.prompt,
            seed=derive_seed(experiment.seed, "warmup"),
            on_step=stepping(warehouse, advance, how.steps),
            plain=True,
        )
