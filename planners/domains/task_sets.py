"""Task sets: an endless stream of graded tasks, no two of them the same under other names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random

from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.files import new_folder, require_new
from planners.pddl import Task, canonical, read_task
from planners.pddl.isomorphism import shape
from planners.pddl.printing import print_problem
from planners.records import Plan, Problem, derive_seed

TRACES = "traces.jsonl"
ATTEMPTS = 1000
"""Draws that bring nothing new before a grade is given up as exhausted."""


@dataclass(frozen=True, slots=True)
class GradedTask:
    """A generated problem, everything in sorted order, with its grade, key and shape, and the plan
    that its generator knows.
    """

    problem: Problem
    plan: Plan
    size: int
    horizon: int
    key: str
    shape: str


def generate(domain: str, size: int, horizon: int, seed: int = 0) -> tuple[Task, Plan]:
    """A task of a domain of ours with a plan that solves it; the same seed gives the same task.

    What `size` and `horizon` count is in `DOMAINS`. Raises InvalidInput where there is no such
    domain, or no task of that grade is found.
    """
    if domain not in DOMAINS:
        raise InvalidInput(f"unknown domain {domain!r}; known: {', '.join(DOMAINS)}")
    rng = Random(derive_seed(seed, "tasks", domain))
    found = next(fresh_tasks(domain, (size, size), (horizon, horizon), rng))
    return read_task(DOMAINS[domain].text, print_problem(found.problem)), found.plan


def fresh_tasks(
    domain: str,
    sizes: tuple[int, int],
    horizons: tuple[int, int],
    rng: Random,
    seen: set[str] | None = None,
) -> Iterator[GradedTask]:
    """Tasks of sizes and horizons within these bounds (included), as many as are asked for.

    None has a shape in `seen`, which grows with each. Raises InvalidInput where no new one is
    found.
    """
    entry, seen = DOMAINS[domain], set() if seen is None else seen
    misses = 0
    while misses < ATTEMPTS:
        horizon, size = rng.randint(*horizons), rng.randint(*sizes)
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
    """Write domain.pddl and `count` problems into a new folder; the same seed, the same bytes.

    With `plans` also traces.jsonl, each problem with its generator's plan, which can be ingested.
    Raises InvalidInput where the folder is not empty or so many tasks are not found.
    """
    require_new(folder, " with --out")
    entry, rng = DOMAINS[domain], Random(derive_seed(seed, "tasks", domain))
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
