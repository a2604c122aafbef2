"""The stage prepare: writes an experiment's settings, its tasks, and generation 0, unless that is
made by a warm-up.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

from flows.experiments.experiment import Experiment
from flows.generations.eligibility import require_sources
from flows.generations.identity import CODE_VERSION
from flows.generations.matched_control import require_matched
from flows.generations.policies import first_weights
from flows.progress import Watch
from planners.domains import DOMAINS
from planners.domains.folder import canonical_text, read_folder
from planners.domains.task_sets import fresh_tasks
from planners.pddl import read_domain
from planners.pddl.isomorphism import require_no_leak
from planners.pddl.printing import print_problem
from planners.records import derive_seed
from warehouse import records
from warehouse.records import Domain, Generation, Mark, Place, Task
from warehouse.store import Warehouse


def prepare(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Write the experiment, its tasks and generation 0, unless they are written already."""
    if warehouse.done(experiment.id, 0, "prepare"):
        return
    # What is missing is told before hours of sampling.
    require_matched(warehouse, experiment)
    if experiment.generations:
        require_sources(warehouse, experiment)
    source = _folder_tasks if experiment.tasks.folder else _generated_tasks
    domains, tasks, places = source(experiment, watch)
    first = list[Generation]()
    if experiment.warmup is None:
        weights, files = first_weights(experiment)
        base = experiment.model.base
        first = [Generation(experiment.id, 0, None, "none", base, weights, files=files)]
    begun = records.Experiment(
        experiment.id,
        experiment.hash,
        experiment.name,
        experiment.seed,
        experiment.canonical(),
        CODE_VERSION,
    )
    # Tasks that were ingested have no horizon until a generator makes the same ones.
    warehouse.regrade(tasks)
    warehouse.write([begun, *domains, *tasks, *places, *first], Mark(experiment.id, 0, "prepare"))


Tasks = tuple[list[Domain], list[Task], list[Place]]
"""Domains, their tasks, and the tasks' places in the experiment's splits."""


def _generated_tasks(experiment: Experiment, watch: Watch) -> Tasks:
    """Tasks from the domains' generators, no two the same even with objects renamed."""
    domains, tasks, places = list[Domain](), list[Task](), list[Place]()
    position = Counter[str]()
    for name, grades in experiment.tasks.grades.items():
        domain = Domain.of(name, DOMAINS[name].text)
        domains.append(domain)
        seen: set[str] = set()  # for all splits, so that none shares a task with another
        shapes: dict[str, list[tuple[str, str]]] = {}
        for split, wanted in grades.splits.items():
            rng = Random(derive_seed(experiment.seed, "tasks", split))
            source = fresh_tasks(name, wanted.sizes, wanted.horizons, rng, seen)
            with watch.bar(f"{split} {name} tasks", wanted.count) as advance:
                for task in islice(source, wanted.count):
                    text = print_problem(task.problem)
                    tasks.append(Task.of(domain, task.key, task.size, task.horizon, text))
                    places.append(Place(experiment.id, task.key, split, position[split]))
                    position[split] += 1
                    shapes.setdefault(split, []).append((task.key, task.shape))
                    advance(1)
        require_no_leak(shapes)
    return domains, tasks, places


def _folder_tasks(experiment: Experiment, watch: Watch) -> Tasks:
    """Tasks from a user's folder. A renamed copy within a split is left out and reported."""
    folder = read_folder(Path(experiment.tasks.folder or ""))
    domain = Domain.of(read_domain(folder.domain).name, folder.domain)
    for copy, other in folder.copies:
        watch.say(f"{copy} is {other} under other object names: left out")
    tasks, places = list[Task](), list[Place]()
    for split, found in folder.splits.items():
        for position, one in enumerate(found):
            key, size = one.task.key, len(one.task.problem.objects)
            tasks.append(Task.of(domain, key, size, None, canonical_text(one)))
            places.append(Place(experiment.id, key, split, position))
    return [domain], tasks, places
