"""Lessons for training: of the warehouse's traces, and of generation 0's warm-up."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from flows.experiments.experiment import Experiment
from flows.generations.identity import INGESTED_FORMAT
from flows.generations.judging import READING
from flows.generations.tasks import tasks_for
from flows.progress import Watch
from planners.pddl.isomorphism import shape
from planners.prompts.formats import PROMPTS
from planners.records import derive_seed
from planners.training.lessons import Lesson
from planners.training.warmup import warm_up_lessons
from warehouse.records import Taught
from warehouse.store import Warehouse


def as_lessons(taught: Iterable[Taught], prompt: str) -> list[Lesson]:
    """Traces as lessons in a prompt format. Raises InvalidInput if it cannot express a task.

    An ingested trace answers no prompt of ours; its plan is restated as an answer to this one.
    """
    return [_lesson(one, prompt) for one in taught]


def _lesson(taught: Taught, prompt: str) -> Lesson:
    task = taught.task.parsed
    # What was not asked in a format of ours is restated as an answer to it: another text, of which
    # no tokens and no log-probability are known.
    if (
        taught.prompt_format == INGESTED_FORMAT
        and (plan := READING.read(task, taught.text).plan) is not None
    ):
        text = PROMPTS[prompt].restate(task, taught.text, plan)
        turns = taught.turns if text == taught.text else ()
        return Lesson(task, text, taught.weight, turns=turns)
    return Lesson(task, taught.text, taught.weight, taught.logprob, taught.token_ids, taught.turns)


def lessons_of_warm_up(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> list[Lesson]:
    """The lessons of generation 0's warm-up: the same whenever they are asked for."""
    how = experiment.warmup
    assert how is not None
    barred = {shape(task.parsed) for task in tasks_for(warehouse, experiment, "evaluate")}
    count = how.steps * how.batch
    with watch.bar("warm-up: tasks and plans", count) as advance:
        return warm_up_lessons(
            list(experiment.tasks.grades), how.sizes, how.shares, count, barred,
            experiment.model.prompt, Random(derive_seed(experiment.seed, "warmup")), advance,
            how.calls or 0.0,
        )  # fmt: skip
