"""Estimates what an experiment costs before it starts, and whether it fits this machine.

Every completion is counted at its maximum length, so tokens and time are upper bounds. A model that
ends its answers early takes less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from rich.table import Table

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import require_base
from planners.domains import DOMAINS
from planners.domains.folder import read_folder
from planners.domains.task_sets import fresh_tasks
from planners.errors import InvalidInput
from planners.models.chat import encode_prompts
from planners.models.checkpoint import reading
from planners.models.costs import (
    Machine,
    Shape,
    sampling_memory,
    sampling_seconds,
    shape_of,
    this_machine,
    training_memory,
    training_seconds,
)
from planners.pddl import Task, read_task
from planners.pddl.printing import print_problem
from planners.prompts.formats import PROMPTS

LOOKED_AT = 24
"""Number of tasks whose prompts are measured."""
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of one generation. Tokens and seconds are upper bounds.

    `rows` are completions or training examples, `tokens` include prompts, and `memory` is the peak
    in bytes.
    """

    name: str
    rows: int
    tokens: float
    memory: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of an experiment on a machine; `longest` is the longest prompt, in tokens."""

    machine: Machine
    shape: Shape
    longest: int
    stages: tuple[Stage, ...]
    generations: int

    @property
    def seconds(self) -> float:
        """Of the whole run: the last generation is not deployed, and the base not trained."""
        deploy, evaluate, train = (stage.seconds for stage in self.stages)
        return self.generations * (deploy + train) + (self.generations + 1) * evaluate

    @property
    def too_large(self) -> list[Stage]:
        """The stages that do not fit in the machine's memory."""
        return [stage for stage in self.stages if stage.memory > self.machine.memory]


def estimate(experiment: Experiment, machine: Machine) -> Estimate:
    """Estimate the cost of an experiment on a machine.

    Raises InvalidInput where its model does not run here, its base is missing, or its prompts leave
    no room for an answer.
    """
    if experiment.model.policy != "local":
        raise InvalidInput(
            f"policy {experiment.model.policy!r} does not run a model here: there is nothing to "
            "estimate"
        )
    base = require_base(experiment, described=True)
    shape = shape_of(base)
    lengths = _prompt_lengths(experiment, base)
    _require_room(experiment, shape, lengths)
    known = experiment, machine, shape, lengths
    stages = (*_sampling(*known), _training(*known))
    return Estimate(machine, shape, max(lengths), stages, experiment.generations)


def require_fit(experiment: Experiment) -> None:
    """Raise InvalidInput where a stage of the experiment exceeds this machine's memory."""
    if experiment.model.policy != "local":
        return
    machine = this_machine(experiment.model.device, experiment.model.dtype)
    for stage in (found := estimate(experiment, machine)).too_large:
        raise InvalidInput(
            f"{experiment.name} does not fit: {stage.name} takes {stage.memory / GIB:.1f} GiB, "
            f"this machine has {found.machine.memory / GIB:.1f}; `posterity plan` shows what takes "
            "how much: try a smaller model.batch, training.micro, training.lora or max_new_tokens"
        )


def _prompt_lengths(experiment: Experiment, base: Path) -> list[int]:
    tokenizer, _ = reading(base)
    write = PROMPTS[experiment.model.prompt].write
    prompts = [write(task) for task in islice(_some_tasks(experiment), LOOKED_AT)]
    return [len(ids) for ids in encode_prompts(tokenizer, prompts)]


def _some_tasks(experiment: Experiment) -> Iterator[Task]:
    """Tasks like those that will be deployed, from each domain in turn."""
    if experiment.tasks.folder is not None:
        folder = read_folder(Path(experiment.tasks.folder))
        yield from (found.task for found in folder.splits["train"])
        return
    rng = Random(experiment.seed)
    streams = [
        (
            DOMAINS[name].text,
            islice(fresh_tasks(name, split.sizes, split.horizons, rng), split.count),
        )
        for name, grades in experiment.tasks.grades.items()
        if (split := grades.train) is not None
    ]
    # In turn, so that the few prompts that are measured include every domain's.
    while streams:
        for pair in list(streams):
            text, stream = pair
            if (found := next(stream, None)) is None:
                streams.remove(pair)
            else:
                yield read_task(text, print_problem(found.problem))


def _require_room(experiment: Experiment, shape: Shape, lengths: list[int]) -> None:
    for drawing in (experiment.deploy, experiment.evaluate):
        if max(lengths) + drawing.room > shape.context:
            raise InvalidInput(
                f"prompts of up to {max(lengths)} tokens with {drawing.room} to be "
                f"sampled exceed the model's context of {shape.context}; choose smaller tasks or a "
                "smaller max_new_tokens"
            )


def _counts(experiment: Experiment) -> tuple[int, int]:
    """Number of deployed tasks, and of all tasks."""
    if experiment.tasks.folder is not None:
        splits = read_folder(Path(experiment.tasks.folder)).splits
        return len(splits["train"]), sum(map(len, splits.values()))
    every = [grades.splits for grades in experiment.tasks.grades.values()]
    return (
        sum(splits["train"].count for splits in every),
        sum(split.count for splits in every for split in splits.values()),
    )


def _sampling(
    experiment: Experiment, machine: Machine, shape: Shape, lengths: list[int]
) -> Iterator[Stage]:
    mean = sum(lengths) / len(lengths)
    drawings = (experiment.deploy, experiment.evaluate)
    for name, drawing, tasks in zip(
        ("deploy", "evaluate"), drawings, _counts(experiment), strict=True
    ):
        rows, most = tasks * drawing.samples, drawing.room
        at_once = min(experiment.model.batch, rows)
        yield Stage(
            name,
            rows,
            rows * (mean + most),
            sampling_memory(shape, machine, at_once, max(lengths) + most),
            sampling_seconds(shape, machine, tasks, rows, mean, most, at_once),
        )


def _training(experiment: Experiment, machine: Machine, shape: Shape, lengths: list[int]) -> Stage:
    how, answer = experiment.training, experiment.deploy.room
    lessons, _ = _counts(experiment)  # one trace per task, if every task is solved
    rows = how.epochs * lessons if how.epochs else how.steps * how.batch
    tokens = rows * (sum(lengths) / len(lengths) + answer)
    at_once, checkpointing = min(how.micro or how.batch, lessons), how.checkpointing
    rank = how.lora.rank if how.lora else None
    return Stage(
        "train",
        rows,
        tokens,
        training_memory(shape, machine, at_once, max(lengths) + answer, rank, checkpointing),
        training_seconds(shape, machine, tokens, checkpointing),
    )


def plan_table(experiment: Experiment, found: Estimate) -> Table:
    """A table with one row per stage of a generation."""
    table = Table(title=f"{experiment.name}, per generation", title_justify="left")
    for heading in ("stage", "rows", "tokens, at most", "memory", "time, at most"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in found.stages:
        table.add_row(
            stage.name, str(stage.rows), f"{stage.tokens:,.0f}", f"{stage.memory / GIB:.2f} GiB",
            duration(stage.seconds),
        )  # fmt: skip
    return table


def duration(seconds: float) -> str:
    """Seconds as text in a suitable unit, such as `3 h`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
