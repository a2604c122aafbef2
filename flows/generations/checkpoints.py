"""Finds a generation's weights, and checks that they are the recorded ones."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from planners.models.checkpoint import ADAPTER, described, load, require_checkpoint, weights_hash
from planners.models.embedded import embedded_base
from planners.models.hardware import Hardware, hardware, use_hardware, use_threads
from planners.models.hub import find_weights
from warehouse.store import Warehouse

UNKNOWN = "unknown"
"""Stands in for the hash of weights that only a server has."""


class Checkpoint(NamedTuple):
    """A generation's folder, the hash of its weights, and their base if they are an adapter."""

    folder: Path
    weights: str
    base: Path | None


def require_base(experiment: Experiment, described: bool = False) -> Path:
    """The folder of the base's weights; `described`: of a hub's model only its description.

    Raises InvalidInput if it is missing; writes nothing that belongs to the run.
    """
    if experiment.model.base != "embedded":
        return find_weights(experiment.model.base, described)
    return require_checkpoint(embedded_base(list(experiment.tasks.grades)))


def checkpoint_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> Checkpoint:
    """The checkpoint of a generation. Raises InvalidInput if its weights are not those recorded."""
    made = warehouse.generation(experiment.id, generation)
    if made is None:
        raise InvalidInput(
            f"{experiment.id} has no generation {generation}; run `posterity run` first"
        )
    own = generation > 0 or experiment.warmup is not None
    folder = warehouse.checkpoints / made.checkpoint if own else require_base(experiment)
    if not folder.is_dir():
        raise InvalidInput(
            f"the checkpoint of generation {generation} is missing at {folder}; put it back "
            "beside the warehouse, or start over in a new warehouse"
        )
    if made.weights_hash not in (UNKNOWN, weights_hash(folder)):
        raise InvalidInput(
            f"the weights in {folder} are not those that generation {generation} of "
            f"{experiment.id} was recorded with; restore them, or start a new experiment"
        )
    changed = _changed(folder, made.files)
    if changed:
        raise InvalidInput(
            f"{', '.join(changed)} in {folder}: not as recorded when generation {generation} of "
            f"{experiment.id} was made. What is read beside the weights changes what a model "
            "answers: restore the files, or start a new experiment"
        )
    adapter = generation > 0 and (folder / ADAPTER).is_file()
    base = checkpoint_of(warehouse, experiment, 0).folder if adapter else None
    return Checkpoint(folder, made.weights_hash, base)


def first_folder(warehouse: Warehouse, experiment: Experiment) -> Path:
    """The folder of generation 0: the base, or what its warm-up made of it."""
    made = warehouse.generation(experiment.id, 0)
    if experiment.warmup is None or made is None:
        return require_base(experiment)
    return warehouse.checkpoints / made.checkpoint


def files_of(folder: Path) -> str:
    """The hashes of the files beside a checkpoint's weights, as they are recorded."""
    return json.dumps(described(folder), sort_keys=True)


def _changed(folder: Path, recorded: str | None) -> list[str]:
    """Names of the files beside the weights that are changed, missing or new."""
    if recorded is None:  # by a version before the files were recorded
        return []
    before, now = json.loads(recorded), described(folder)
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def use_machine(experiment: Experiment) -> int:
    """Run this process's models as the experiment's settings say; return the number of threads."""
    use_hardware(experiment.model.device, experiment.model.dtype)
    return use_threads(experiment.model.threads)


def loaded(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Model and tokenizer of a checkpoint; the last is kept, since several stages use the same."""
    return _loaded(checkpoint, hardware())


@lru_cache(maxsize=1)
def _loaded(checkpoint: Checkpoint, used: Hardware) -> tuple[Any, Any]:
    return load(checkpoint.folder, checkpoint.base)
