"""Writing an experiment down: its settings, its tasks, and generation 0."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

from flows.experiments.experiment import Experiment
from flows.generations.identity import CODE_VERSION
from flows.generations.matched_control import require_twin
from flows.generations.policies import first_weights
from flows.progress import Watch
from planners.domains import DOMAINS
from planners.domains.folder import canonical_text, read_folder
from planners.domains.task_sets import fresh_tasks
from planners.pddl import read_domain
from planners.pddl.isomorphism import require_no_leak
from planners.pddl.printing import print_problem
from planners.records import content_hash, derive_seed
from warehouse import schema
from warehouse.store import Row, Warehouse


def prepare(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Write down the experiment, its tasks and generation 0, once."""
    if warehouse.done(experiment.id, 0, "prepare"):
        return
    require_twin(warehouse, experiment)
    source = _folder_tasks if experiment.tasks.folder else _generated_tasks
    domain_rows, task_rows, split_rows = source(experiment, watch)
    weights = first_weights(experiment)
    generation = {
        "experiment": experiment.id,
        "generation": 0,
        "parent": None,
        "start": "none",
        "checkpoint": experiment.model.base,
        "weights_hash": weights,
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
    warehouse.regrade(task_rows)
    warehouse.record(
        {
            schema.experiments: [described],
            schema.domains: domain_rows,
            schema.tasks: task_rows,
            schema.experiment_tasks: split_rows,
            schema.generations: [generation],
        },
        mark=(experiment.id, 0, "prepare", 0),
    )


Rows = tuple[list[Row], list[Row], list[Row]]
"""The rows of domains, those of tasks, and those of their places in the experiment's splits."""


def _generated_tasks(experiment: Experiment, watch: Watch) -> Rows:
    """Tasks made by the domains' generators, no two the same even under other object names."""
    domains, tasks, places = list[Row](), list[Row](), list[Row]()
    position = Counter[str]()
    for domain, grades in experiment.tasks.grades.items():
        entry = DOMAINS[domain]
        domains.append(domain_row(entry.name, entry.text))
        seen: set[str] = set()
        shapes: dict[str, list[tuple[str, str]]] = {}
        for name, split in grades.splits.items():
            rng = Random(derive_seed(experiment.seed, "tasks", name))
            source = fresh_tasks(domain, split.sizes, split.horizons, rng, seen)
            with watch.bar(f"{name} {domain} tasks", split.count) as advance:
                for task in islice(source, split.count):
                    text = print_problem(task.problem)
                    tasks.append(task_row(domains[-1], task.key, task.size, task.horizon, text))
                    places.append(_place(experiment, task.key, name, position[name]))
                    position[name] += 1
                    shapes.setdefault(name, []).append((task.key, task.shape))
                    advance(1)
        require_no_leak(shapes)
    return domains, tasks, places


def _folder_tasks(experiment: Experiment, watch: Watch) -> Rows:
    """Tasks of a user's folder; a copy of another task in its split is left out and named."""
    folder = read_folder(Path(experiment.tasks.folder or ""))
    domain = domain_row(read_domain(folder.domain).name, folder.domain)
    for copy, other in folder.copies:
        watch.say(f"{copy} is {other} under other object names: left out")
    tasks: list[Row] = []
    places: list[Row] = []
    for name, found in folder.splits.items():
        for position, task in enumerate(found):
            size = len(task.task.problem.objects)
            tasks.append(task_row(domain, task.task.key, size, None, canonical_text(task)))
            places.append(_place(experiment, task.task.key, name, position))
    return [domain], tasks, places


def domain_row(name: str, text: str) -> Row:
    """The row of a domain."""
    return {"domain_hash": content_hash(text), "name": name, "pddl": text}


def task_row(domain: Row, key: str, size: int, horizon: int | None, text: str) -> Row:
    """The row of a task of a domain, given by its row."""
    return {
        "task": key,
        "domain_hash": domain["domain_hash"],
        "domain": domain["name"],
        "size": size,
        "horizon": horizon,
        "pddl": text,
    }


def _place(experiment: Experiment, key: str, split: str, position: int) -> Row:
    return {"experiment": experiment.id, "task": key, "split": split, "position": position}
