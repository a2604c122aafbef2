"""Writing an experiment down: its settings, its tasks, and generation 0."""

from __future__ import annotations

from importlib.metadata import version
from itertools import islice
from random import Random

from flows.checkpoints import require_base
from flows.experiment import Experiment, Split
from flows.progress import Watch
from planners.domains import DOMAINS
from planners.domains.task_sets import fresh_tasks
from planners.fine_tuning import weights_hash
from planners.pddl import print_problem
from planners.records import content_hash, derive_seed
from planners.shapes import require_no_leak
from warehouse import schema
from warehouse.store import Row, Warehouse

CODE_VERSION = version("posterity")
SPLITS = ("train", "heldout", "larger")


def prepare(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Write down the experiment, its tasks and generation 0, once."""
    if warehouse.done(experiment.id, 0, "prepare"):
        return
    entry = DOMAINS[experiment.tasks.domain]
    domain_row = {"domain_hash": content_hash(entry.text), "name": entry.name, "pddl": entry.text}
    task_rows, split_rows = _task_rows(experiment, domain_row, watch)
    base = require_base(experiment)
    generation = {
        "experiment": experiment.id,
        "generation": 0,
        "parent": None,
        "start": "none",
        "checkpoint": experiment.model.base,
        "weights_hash": weights_hash(base),
        "training_set_hash": None,
        "training": None,
    }
    described = {
        "experiment": experiment.id,
        "hash": experiment.hash,
        "name": experiment.name,
        "seed": experiment.seed,
        "config": experiment.canonical(),
        "code_version": CODE_VERSION,
    }
    warehouse.record(
        {
            schema.experiments: [described],
            schema.domains: [domain_row],
            schema.tasks: task_rows,
            schema.experiment_tasks: split_rows,
            schema.generations: [generation],
        },
        mark=(experiment.id, 0, "prepare", 0),
    )


def _task_rows(experiment: Experiment, domain: Row, watch: Watch) -> tuple[list[Row], list[Row]]:
    """The tasks of all splits, no two the same even under other object names."""
    seen: set[str] = set()
    tasks: list[Row] = []
    places: list[Row] = []
    shapes: dict[str, list[tuple[str, str]]] = {}
    for split_name in SPLITS:
        split: Split = getattr(experiment.tasks, split_name)
        rng = Random(derive_seed(experiment.seed, "tasks", split_name))
        source = fresh_tasks(domain["name"], split.sizes, split.horizons, rng, seen)
        with watch.bar(f"{split_name} tasks", split.count) as advance:
            for position, task in enumerate(islice(source, split.count)):
                place = {"experiment": experiment.id, "split": split_name, "position": position}
                tasks.append(
                    {
                        "task": task.key,
                        "domain_hash": domain["domain_hash"],
                        "domain": domain["name"],
                        "size": task.size,
                        "horizon": task.horizon,
                        "pddl": print_problem(task.problem),
                    }
                )
                places.append({**place, "task": task.key})
                shapes.setdefault(split_name, []).append((task.key, task.shape))
                advance(1)
    require_no_leak(shapes)
    return tasks, places
