"""Sheets of figures: an experiment is one run of a tracker, and each of its generations is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.experiments.experiment import Experiment
from flows.experiments.reading import leaves, without_places
from flows.generations.checkpoints import checkpoint_of
from flows.progress import summary
from planners.errors import InvalidInput
from warehouse.pool import lessons_of
from warehouse.records import Generation
from warehouse.store import Warehouse


@dataclass(frozen=True, slots=True)
class Sheet:
    """One run of a tracker. `points` are its values by step, in order of steps: of an experiment,
    figures by generation, of a generation, the loss (nats per token) by training step.

    `key` is the same whenever the sheet is sent, so that a run is continued and not made twice.
    `texts` are files by name, `folder` holds those of the checkpoint; both are empty unless files
    were asked for.
    """

    key: str
    experiment: str
    title: str
    settings: dict[str, str]
    points: tuple[tuple[int, dict[str, float]], ...]
    texts: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None


def sheets(
    warehouse: Warehouse, experiment: Experiment, generation: int | None = None, files: bool = False
) -> Iterator[Sheet]:
    """The sheet of an experiment, and those of all its generations or of one.

    `files`: with checkpoints and training sets. Raises InvalidInput where there is no generation.
    """
    made = warehouse.generations(experiment.id)
    if generation is not None:
        made = [one for one in made if one.index == generation]
    if not made:
        raise InvalidInput(
            f"{experiment.id} has no generation {'' if generation is None else generation} to tell "
            "of; `posterity status` shows which it has"
        )
    yield Sheet(
        experiment.id,
        experiment.id,
        experiment.name,
        {
            name: one if isinstance(one, str) else json.dumps(one)
            for name, one in leaves(without_places(experiment))
        },
        tuple((row.generation, _numbers(asdict(row))) for row in summary(warehouse, experiment.id)),
    )
    for one in made:
        yield _of_generation(warehouse, experiment, one, files)


def _of_generation(
    warehouse: Warehouse, experiment: Experiment, made: Generation, files: bool
) -> Sheet:
    facts = json.loads(made.training) if made.training else {}
    losses = facts.pop("losses", [])
    origin = {
        "generation": made.index, "parent": made.parent, "start": made.start,
        "weights_hash": made.weights_hash, "training_set_hash": made.training_set_hash,
        "curator": experiment.curation.curator, **facts,
    }  # fmt: skip
    texts, folder = dict[str, str](), None
    if files:
        folder = checkpoint_of(warehouse, experiment, made.index).folder
        texts["training_set.jsonl"] = "".join(
            json.dumps(
                {"trace": t.trace, "task": t.task.key, "weight": t.weight, "completion": t.text}
            )
            + "\n"
            for t in lessons_of(warehouse, experiment.id, made.index)
        )
    return Sheet(
        f"{experiment.id}-generation-{made.index:03d}",
        experiment.id,
        f"{experiment.name} generation {made.index}",
        {name: str(value) for name, value in origin.items() if value is not None},
        tuple((step, {"loss": loss}) for step, loss in enumerate(losses)),
        texts,
        folder,
    )


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if value is not None and name != "generation"
    }
