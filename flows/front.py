"""`run`: the loop from Python, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.generations.policies import require_first
from flows.iterate import iterate
from flows.loop.plan import require_fit
from flows.progress import Watch
from planners.errors import InvalidInput
from warehouse.store import Warehouse


def run(
    experiment: Experiment | str = "quickstart",
    changes: Sequence[str] = (),
    *,
    warehouse: Path | str = "posterity.duckdb",
    watch: Watch | None = None,
    **settings: object,
) -> Warehouse:
    """Run an experiment to its last generation, and return its warehouse, open for reading.

    `experiment` is a preset's name, a TOML file, or an Experiment. `changes` are what `--set` takes
    (`training.steps=200`), `settings` are top-level settings (`generations=1`). A second call
    resumes. Close the warehouse, or use it in a `with` block.

    Raises InvalidInput, before anything is written, where a setting is wrong or a base is missing.
    """
    if not isinstance(experiment, Experiment):
        experiment = load_experiment(experiment, list(changes), settings)
    elif changes or settings:
        raise InvalidInput(
            "changes and settings are for presets and files; give them to Experiment"
        )
    if experiment.workers is not None and experiment.workers.address is None:
        raise InvalidInput(
            "workers have to be started first: name their cluster (workers.address), or use "
            "`posterity run`, which starts them"
        )
    require_first(experiment)
    require_fit(experiment)
    with Warehouse(warehouse) as store, store.working_on(experiment.id):
        iterate(store, experiment, watch or Watch())
    return Warehouse(warehouse, read_only=True)
