"""Where a generation's weights are, and that they are the ones recorded."""

from __future__ import annotations

from pathlib import Path

from flows.experiment import Experiment
from planners.base import embedded_base
from planners.errors import InvalidInput
from planners.fine_tuning import weights_hash
from planners.local import require_checkpoint
from warehouse.store import Warehouse


def require_base(experiment: Experiment) -> Path:
    """The folder of the weights that generation 0 has. Raises InvalidInput; writes nothing."""
    named = experiment.model.base
    domains = list(experiment.tasks.grades)
    return require_checkpoint(embedded_base(domains) if named == "embedded" else named)


def checkpoint_of(
    warehouse: Warehouse, experiment: Experiment, generation: int
) -> tuple[Path, str]:
    """Folder and weights hash of a generation, refused where the weights are not those recorded."""
    row = warehouse.generation(experiment.id, generation)
    if row is None:
        raise InvalidInput(
            f"{experiment.id} has no generation {generation}; run `posterity run` first"
        )
    folder = (
        require_base(experiment) if generation == 0 else warehouse.checkpoints / row["checkpoint"]
    )
    if not folder.is_dir():
        raise InvalidInput(
            f"the checkpoint of generation {generation} is missing at {folder}; put it back "
            "beside the "
            "warehouse, or start over in a new warehouse"
        )
    if weights_hash(folder) != row["weights_hash"]:
        raise InvalidInput(
            f"the weights in {folder} are not those that generation {generation} of "
            f"{experiment.id} was "
            "recorded with; restore them, or start a new experiment"
        )
    return folder, row["weights_hash"]
