"""Task sets: streams of generated tasks, no two of which are equal up to their objects' names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

from planners.domains import domain_named
from planners.errors import InvalidInput
from planners.files import new_folder, require_new
from planners.pddl import Task, canonical, read_task
from planners.pddl.isomorphism import shape
from planners.pddl.printing import print_problem
from planners.records import Plan, Problem, derive_seed

LARGEST = 1000
"""Sizes and horizons of tasks that are drawn, at most: larger ones would take hours."""
TRACES = "traces.jsonl"
ATTEMPTS = 1000
"""Draws in a row without a new task after which the sizes and horizons count as exhausted."""


@dataclass(frozen=True, slots=True)
class GradedTask:
    """A generated problem in sorted order, its generator's plan, its grade, key and shape."""

    problem: Problem
    plan: Plan
    size: int
    horizon: int
    key: str
    shape: str


def generate(domain: str, size: int, horizon: int, seed: int = 0) -> tuple[Task, Plan]:
    """A task of a registered domain and a plan that solves it; the same seed gives the same task.

    `DOMAINS` says what `size` and `horizon` count. Raises InvalidInput if there is no such domain
    or no task of that size and horizon is found.
    """
    text, rng = domain_named(domain).text, Random(derive_seed(seed, "tasks", domain))
    found = next(fresh_tasks(domain, (size, size), (horizon, horizon), rng))
    return read_task(text, print_problem(found.problem)), found.plan


def fresh_tasks(
    domain: str,
    sizes: tuple[int, int],
    horizons: tuple[int, int],
    rng: Random,
    seen: set[str] | None = None,
    shares: Sequence[float] | None = None,
) -> Iterator[GradedTask]:
    """An endless stream of tasks with sizes and horizons within these inclusive bounds.

    `shares` are the relative frequencies of the horizons, by default equal. No task has a shape in
    `seen`, to which each new shape is added. Raises InvalidInput if there is no such domain, bounds
    are out of order or below 1, or ATTEMPTS draws in a row bring no new task.
    """
    entry, seen = domain_named(domain), set() if seen is None else seen
    if not (1 <= sizes[0] <= sizes[1] and 1 <= horizons[0] <= horizons[1]):
        raise InvalidInput(
            f"sizes {sizes} and horizons {horizons} of {domain}: give the smaller one first, from 1"
        )
    if max(sizes[1], horizons[1]) > LARGEST:
        raise InvalidInput(
            f"sizes {sizes} and horizons {horizons} of {domain}: tasks up to {LARGEST} are drawn"
        )
    graded = range(horizons[0], horizons[1] + 1)
    misses = 0
    while misses < ATTEMPTS:
        # Two ways to draw: equal frequencies give the tasks that they always gave.
        horizon = rng.choices(graded, shares)[0] if shares else rng.randint(*horizons)
        size = rng.randint(*sizes)
        found = entry.solved_example(size, horizon, rng)
        misses += 1
        if found is None:
            continue
        problem = canonical(found[0])
        task = read_task(entry.text, print_problem(problem))
        key = shape(task)
        if key in seen:
            continue
        seen.add(key)
        misses = 0
        yield GradedTask(problem, found[1], size, horizon, task.key, key)
    raise InvalidInput(
        f"no new {domain} task of sizes {sizes} and horizons {horizons} in {ATTEMPTS} attempts; "
        f"ask for fewer tasks, or for wider ranges (size counts {entry.size}, horizon "
        f"{entry.horizon})"
    )


def write_tasks(
    folder: Path,
    domain: str,
    sizes: tuple[int, int],
    horizons: tuple[int, int],
    count: int,
    seed: int,
    on_task: Callable[[int], None] = lambda tasks: None,
    plans: bool = False,
) -> None:
    """Write domain.pddl and `count` problems into a new folder; the same seed gives the same bytes.

    `plans` adds traces.jsonl, each problem with its generator's plan, which can be ingested.
    Raises InvalidInput if the folder is not empty, or for what `fresh_tasks` does.
    """
    require_new(folder, " with --out")
    entry, rng = domain_named(domain), Random(derive_seed(seed, "tasks", domain))
    files = {"domain.pddl": entry.text}
    traces: list[dict[str, str]] = []
    digits = max(2, len(str(count)))
    for number, task in enumerate(islice(fresh_tasks(domain, sizes, horizons, rng), count), 1):
        name = f"p{number:0{digits}d}"
        grade = f"; size {task.size} ({entry.size}), horizon {task.horizon} ({entry.horizon})\n"
        problem = print_problem(replace(task.problem, name=name))
        files[f"{name}.pddl"] = grade + problem
        traces.append({"domain": domain, "problem": problem, "completion": str(task.plan)})
        on_task(1)
    if plans:
        files[TRACES] = "".join(json.dumps(trace) + "\n" for trace in traces)
    with new_folder(folder) as partial:
        for name, text in files.items():
            (partial / name).write_text(text, "utf-8")
