"""Turns traces of the warehouse into lessons for training."""

from __future__ import annotations

from collections.abc import Iterable

from flows.generations.judging import READING
from planners.prompts.formats import PROMPTS
from planners.training.fine_tuning import Lesson
from warehouse.records import Taught


def as_lessons(taught: Iterable[Taught], prompt: str) -> list[Lesson]:
    """Traces as lessons in a prompt format. Raises InvalidInput if it cannot express a task.

    An ingested trace answers no prompt of ours; its plan is restated as an answer to this one.
    """
    return [_lesson(one, prompt) for one in taught]


def _lesson(taught: Taught, prompt: str) -> Lesson:
    task, text, ids = taught.task.parsed, taught.text, taught.token_ids
    if taught.purpose == "ingest" and (plan := READING.read(task, text).plan) is not None:
        text, ids = PROMPTS[prompt].restate(task, text, plan), ()
    return Lesson(task, text, taught.weight, taught.logprob, ids)
