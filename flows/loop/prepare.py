"""The stage prepare: writes an experiment's settings, its tasks, and generation 0, unless that is
made by a warm-up. Later generations may get fresh tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from flows.experiments.experiment import Experiment
from flows.generations.eligibility import require_sources
from flows.generations.identity import CODE_VERSION
from flows.generations.lineage import next_generation
from flows.generations.matched_control import require_matched
from flows.generations.policies import first_weights
from flows.generations.tasks import FRESH
from flows.progress import Watch
from planners.domains import DOMAINS
from planners.domains.folder import HELD_OUT, canonical_text, read_folder
from planners.domains.task_sets import GradedTask, fresh_tasks
from planners.errors import InvalidInput
from planners.pddl import read_domain
from planners.pddl.isomorphism import require_no_leak, shape
from planners.pddl.printing import print_problem
from planners.records import derive_seed
from warehouse import records
from warehouse.landing import adopt_order
from warehouse.records import Domain, Generation, Mark, Place, Task
from warehouse.store import Warehouse


def prepare(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Write the experiment, its tasks and generation 0, unless they are written already."""
    # What is missing is told before hours of sampling.
    if experiment.generations and next_generation(warehouse, experiment) is not None:
        require_sources(warehouse, experiment)
    if warehouse.done(experiment.id, 0, "prepare"):
        return
    known = warehouse.experiment(experiment.id)
    if known is not None and known.config == records.NO_SETTINGS:
        raise InvalidInput(
            f"{experiment.id} is the name of ingested traces in {warehouse.place}; use another "
            "warehouse, or another name"
        )
    require_matched(warehouse, experiment)
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
    _adopt(warehouse, tasks, watch)
    warehouse.regrade(tasks)
    warehouse.write([begun, *domains, *tasks, *places, *first], Mark(experiment.id, 0, "prepare"))


def _adopt(warehouse: Warehouse, tasks: list[Task], watch: Watch) -> None:
    if kept := adopt_order(warehouse, tasks):
        watch.say(
            f"{len(kept)} tasks, for example {kept[0]}, are here with their objects in another "
            "order, which traces rest on: their prompts are not those of another warehouse"
        )


Tasks = tuple[list[Domain], list[Task], list[Place]]
"""Domains, their tasks, and the tasks' places in the experiment's splits."""


def _generated_tasks(experiment: Experiment, watch: Watch) -> Tasks:
    """Tasks from the domains' generators, no two the same even with objects renamed.

    Raises InvalidInput if there are not that many, fresh ones for all generations included.
    """
    domains, tasks, places = list[Domain](), list[Task](), list[Place]()
    position = Counter[str]()
    later = max(experiment.generations - 1, 0) if experiment.tasks.fresh else 0
    for name, grades in experiment.tasks.grades.items():
        domain = Domain.of(name, DOMAINS[name].text)
        domains.append(domain)
        seen: set[str] = set()  # for all splits, so that none shares a task with another
        shapes: dict[str, list[tuple[str, str]]] = {}
        for split, wanted in grades.splits.items():
            rng = Random(derive_seed(experiment.seed, "tasks", split))
            source = fresh_tasks(name, wanted.sizes, wanted.horizons, rng, seen)
            for one in _drawn(source, wanted.count, f"{split} {name} tasks", watch):
                tasks.append(_task_of(domain, one))
                places.append(
                    Place(experiment.id, one.key, split, position[split], horizon=one.horizon)
                )
                position[split] += 1
                shapes.setdefault(split, []).append((one.key, one.shape))
        require_no_leak(shapes)
        if later and (train := grades.train) is not None:
            # Drawn once to see that there are enough, before anything is sampled.
            rng = Random(derive_seed(experiment.seed, "tasks", FRESH))
            source = fresh_tasks(name, train.sizes, train.horizons, rng, seen)
            list(_drawn(source, later * train.count, f"fresh {name} tasks, as a trial", watch))
    return domains, tasks, places


def _drawn(
    source: Iterator[GradedTask], count: int, label: str, watch: Watch
) -> Iterator[GradedTask]:
    """The first tasks of a stream, with a bar."""
    with watch.bar(label, count) as advance:
        for one in islice(source, count):
            yield one
            advance(1)


def _task_of(domain: Domain, one: GradedTask) -> Task:
    return Task.of(domain, one.key, one.size, one.horizon, print_problem(one.problem))


def _folder_tasks(experiment: Experiment, watch: Watch) -> Tasks:
    """Tasks from a user's folder. A renamed copy within a split is left out and reported."""
    folder = read_folder(Path(experiment.tasks.folder or ""))
    domain = Domain.of(read_domain(folder.domain).name, folder.domain)
    for copy, other in folder.copies:
        watch.say(f"{copy} is {other} under other object names: left out")
    if not folder.splits["heldout"]:
        watch.say(
            "no held-out problems, so how far a plan carries over is not measured; put some in "
            f"heldout/ (of {HELD_OUT} or more beside domain.pddl every {HELD_OUT}th is held out)"
        )
    tasks, places = list[Task](), list[Place]()
    for split, found in folder.splits.items():
        for position, one in enumerate(found):
            key, size = one.task.key, len(one.task.problem.objects)
            tasks.append(Task.of(domain, key, size, None, canonical_text(one)))
            places.append(Place(experiment.id, key, split, position))
    return [domain], tasks, places


def pose_fresh(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Write the tasks that a generation alone is put to work on, if the experiment has such tasks.
    None is like another of the experiment, even with objects renamed.

    Raises InvalidInput if there are no such tasks left.
    """
    settings = experiment.tasks
    if not settings.fresh or not generation or warehouse.done(experiment.id, generation, FRESH):
        return
    before = warehouse.tasks(experiment.id)
    tasks, places = list[Task](), list[Place]()
    first = sum(task.split == FRESH for task in before)
    found = warehouse.query("valid_by_horizon", experiment=experiment.id, generation=generation)
    valid = found.set_index(["domain", "horizon"])["pass_at_1"].to_dict()
    # Of all domains: one that was ingested first keeps the name that its PDDL has.
    seen = {shape(task.parsed) for task in before}
    stored = {task.domain_pddl: task.domain for task in before}
    for name, grades in settings.grades.items():
        wanted = grades.train
        assert wanted is not None  # checked with the settings
        domain = Domain.of(name, DOMAINS[name].text)
        rng = Random(derive_seed(experiment.seed, "tasks", FRESH, name, generation))
        low, high = wanted.horizons
        known = stored.get(domain.pddl, name)
        solved = [valid.get((known, horizon), 0.0) for horizon in range(low, high + 1)]
        shares = _teaching(solved) if settings.curriculum else None
        source = fresh_tasks(name, wanted.sizes, wanted.horizons, rng, seen, shares)
        label = f"generation {generation}: fresh {name} tasks"
        for one in _drawn(source, wanted.count, label, watch):
            position = first + len(tasks)
            places.append(Place(experiment.id, one.key, FRESH, position, generation, one.horizon))
            tasks.append(_task_of(domain, one))
    _adopt(warehouse, tasks, watch)
    warehouse.regrade(tasks)
    warehouse.write([*tasks, *places], Mark(experiment.id, generation, FRESH))


def _teaching(solved: Sequence[float]) -> list[float]:
    """Relative frequency of each horizon in a curriculum, given its share p of valid samples: half
    of them equal, half in proportion to p (1 - p), the variance of success (Sampling for
    Learnability, arXiv 2408.15099).
    """
    varied = [share * (1 - share) for share in solved]
    total = sum(varied)
    return [1 / len(varied) + (one / total if total else 0.0) for one in varied]
