"""Writing an experiment down: its settings, its tasks, and generation 0."""

from __future__ import annotations

from importlib.metadata import version
from random import Random

from flows.checkpoints import require_base
from flows.experiment import Experiment, Split
from flows.progress import Watch
from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.fine_tuning import weights_hash
from planners.pddl import canonical, print_problem, read_task
from planners.records import content_hash, derive_seed
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
    """The tasks of all splits, no two alike: distinct by content hash across the splits."""
    seen: set[str] = set()
    tasks: list[Row] = []
    places: list[Row] = []
    for split_name in SPLITS:
        split: Split = getattr(experiment.tasks, split_name)
        rng = Random(derive_seed(experiment.seed, "tasks", split_name))
        with watch.bar(f"{split_name} tasks", split.count) as advance:
            for position in range(split.count):
                row = _fresh_task(split, domain, rng, seen)
                tasks.append(row)
                places.append(
                    {
                        "experiment": experiment.id,
                        "task": row["task"],
                        "split": split_name,
                        "position": position,
                    }
                )
                advance(1)
    return tasks, places


def _fresh_task(
    split: Split, domain: Row, rng: Random, seen: set[str], attempts: int = 1000
) -> Row:
    """One task of a split that no split has yet. Raises InvalidInput where none is found."""
    generate = DOMAINS[domain["name"]].generate
    for _ in range(attempts):
        horizon, size = rng.randint(*split.horizons), rng.randint(*split.sizes)
        problem = generate(size, horizon, rng)
        if problem is None:
            continue
        text = print_problem(canonical(problem))
        key = read_task(domain["pddl"], text).key
        if key not in seen:
            seen.add(key)
            return {
                "task": key,
                "domain_hash": domain["domain_hash"],
                "domain": domain["name"],
                "size": size,
                "horizon": horizon,
                "pddl": text,
            }
    raise InvalidInput(
        f"no new {domain['name']} task of sizes {split.sizes} and horizons {split.horizons} in "
        f"{attempts} "
        "attempts; ask for fewer tasks, or for wider ranges"
    )
