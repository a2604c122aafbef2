"""What the warehouse has to learn from, for training."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from flows.generations.judging import READING
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS
from planners.training.fine_tuning import Lesson
from warehouse.store import Row


def as_lessons(rows: Sequence[Row], prompt: str) -> list[Lesson]:
    """Rows of the warehouse as lessons of a prompt format. Raises InvalidInput where that cannot
    write a task.

    What was ingested answers no prompt of ours, and is restated as an answer to this one.
    """
    lessons = []
    for row in rows:
        task, text = read_task(row["domain_pddl"], row["pddl"]), row["text"]
        if row["purpose"] == "ingest" and (plan := READING.read(task, text).plan) is not None:
            text = PROMPTS[prompt].restate(task, text, plan)
        likely = None if pd.isna(row["logprob"]) else row["logprob"]
        lessons.append(Lesson(task, text, row["weight"], likely))
    return lessons
