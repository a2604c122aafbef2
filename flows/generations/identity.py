"""What identifies a trace, a canary, a training set: hashes of contents, and seeds that follow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from flows.experiments.experiment import Experiment
from planners.records import content_hash, derive_seed
from warehouse.store import Row

CODE_VERSION = version("posterity")
FORMAT = "ingested"
"""Stands where sampled traces name their prompt format."""


NO_SETTINGS = "{}"
"""The configuration of a source of ingested traces."""


def ingested_id(source: str, task: str, model: str, text: str) -> str:
    """What identifies an ingested trace."""
    return content_hash(source, task, model, text)


def trace_id(experiment: str, generation: int, purpose: str, task: str, sample: int) -> str:
    """What identifies a trace: who answered what, and for the how-manieth time."""
    return content_hash(experiment, str(generation), purpose, task, str(sample))


def trace_seed(
    experiment: Experiment, generation: int, purpose: str, task: str, sample: int
) -> int:
    """The seed of a trace's random draws."""
    return derive_seed(experiment.seed, generation, purpose, task, sample)


def canary_id(experiment: str, generation: int, task: str, kind: str, text: str) -> str:
    """What identifies a canary."""
    return content_hash(experiment, str(generation), task, kind, text)


def training_set_hash(lessons: Sequence[Row]) -> str:
    """Hash of what a generation learned: tasks, weights and completions, in any order."""
    learned = [f"{row['task']} {row['weight']!r} {row['text']}" for row in lessons]
    return content_hash(*sorted(learned))
