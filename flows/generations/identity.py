"""Ids of traces, canaries and training sets, which are content hashes, and seeds of traces."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from flows.experiments.experiment import Experiment
from planners.pddl.printing import print_problem
from planners.records import content_hash, derive_seed
from planners.training.lessons import Lesson
from warehouse.records import Taught

CODE_VERSION = version("posterity")
INGESTED_FORMAT = "ingested"
"""The prompt format that ingested traces name, which answer no prompt of ours."""


def trace_id(experiment: str, generation: int, purpose: str, task: str, sample: int) -> str:
    """The id of a sampled trace: who answered which task, and which sample it is."""
    return content_hash(experiment, str(generation), purpose, task, str(sample))


def ingested_id(source: str, task: str, model: str, text: str) -> str:
    """The id of an ingested trace."""
    return content_hash(source, task, model, text)


def trace_seed(
    experiment: Experiment, generation: int, purpose: str, task: str, sample: int
) -> int:
    """The seed of a trace's random draws."""
    return derive_seed(experiment.seed, generation, purpose, task, sample)


def canary_id(experiment: str, generation: int, task: str, kind: str, text: str) -> str:
    """The id of a canary."""
    return content_hash(experiment, str(generation), task, kind, text)


def training_set_hash(lessons: Sequence[Taught]) -> str:
    """Hash of what a generation learned: tasks, weights and completions, in any order."""
    return content_hash(*sorted(f"{one.task.key} {one.weight!r} {one.text}" for one in lessons))


def warm_up_hash(lessons: Sequence[Lesson]) -> str:
    """Hash of what a warm-up teaches: tasks and plans, in their order."""
    return content_hash(*(f"{print_problem(one.task.problem)} {one.completion}" for one in lessons))
