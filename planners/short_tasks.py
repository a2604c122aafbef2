"""What bases are pretrained on: short tasks with a plan each, and aimless walks.

A base is to know how the world moves, at every size, and to plan a few actions ahead, nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from planners.domains import DOMAINS, blocksworld, walking
from planners.domains.worlds import WORLDS
from planners.pddl import Task, read_domain
from planners.prompts import OBJECT_NAMES, rename, shuffle
from planners.records import Plan, Problem

Example = tuple[Problem, Plan]
PER_ROOM = 8
"""Examples drawn from one random world, since grounding it costs more than walking in it."""
TRIES = 20
"""Walks for a task of one horizon, before another is drawn."""
SIZES = {
    "blocksworld": (3, 12),
    "childsnack": (1, 4),
    "ferry": (1, 6),
    "floortile": (2, 4),
    "miconic": (1, 6),
    "rovers": (2, 6),
    "satellite": (1, 6),
    "sokoban": (4, 5),
    "spanner": (1, 5),
    "transport": (1, 4),
}
"""The sizes that a base sees in each domain."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What determines a base. `tail`: chance of each further move (in Blocksworld) or action.

    `walks`: share of aimless walks, in tasks that want nothing; `lost`: share of walks as aimless
    in tasks that want something far away; `names`: how many object names there are.
    """

    domains: tuple[str, ...] = ("blocksworld",)
    seed: int = 0
    steps: int = 5000
    batch: int = 64
    learning_rate: float = 2e-3
    tail: float = 0.25
    walks: float = 0.15
    lost: float = 0.35
    far: tuple[int, int] = (4, 10)
    longest_walk: int = 12
    names: int = 24

    @property
    def object_names(self) -> tuple[str, ...]:
        return OBJECT_NAMES[: self.names]


def examples(settings: Pretraining, rng: Random) -> Iterator[tuple[Task, Plan]]:
    """Tasks with plans, the domains in turn, objects under random names, all in random order."""
    streams = [
        _blocks(settings, rng) if name == "blocksworld" else _rooms(name, settings, rng)
        for name in settings.domains
    ]
    while True:
        for name, stream in zip(settings.domains, streams, strict=True):
            yield _mixed(name, *next(stream), settings, rng)


def _mixed(
    domain_name: str, problem: Problem, plan: Plan, settings: Pretraining, rng: Random
) -> tuple[Task, Plan]:
    domain = read_domain(DOMAINS[domain_name].text)
    own = [name for name, _ in problem.objects if name not in dict(domain.constants)]
    table = dict(zip(own, rng.sample(settings.object_names, len(own)), strict=True))
    problem = shuffle(rename(problem, table), rng)
    actions = tuple((schema, *(table.get(o, o) for o in rest)) for schema, *rest in plan.actions)
    return walking.task_of(domain, problem), Plan(actions)


def _blocks(settings: Pretraining, rng: Random) -> Iterator[Example]:
    low, high = SIZES["blocksworld"]
    while True:
        size, kind = rng.choice(range(low, high + 1)), rng.random()
        length = rng.randint(1, settings.longest_walk)
        if kind < settings.walks:
            yield _aimless_blocks(size, rng, length)
        elif kind < settings.walks + settings.lost:
            found = blocksworld.solved_example(size, rng.randint(*settings.far), rng, attempts=5)
            if found is not None:
                yield _lost_blocks(found[0], rng, length)
        else:
            yield _short_blocks(size, rng, settings.tail)


def _short_blocks(size: int, rng: Random, tail: float) -> Example:
    """A task with an optimal plan of one move, one more with probability `tail`, and so on."""
    while True:
        found = blocksworld.solved_example(size, min(_horizon(tail, rng), size), rng, attempts=20)
        if found is not None:
            return found


def _aimless_blocks(size: int, rng: Random, length: int) -> Example:
    """A task that wants nothing, and a walk that is possible in it."""
    init = blocksworld.random_state([f"b{i + 1}" for i in range(size)], rng)
    _, path = blocksworld.walk(init, length, rng)
    return blocksworld.problem_of(init, None, rng), blocksworld.plan_of(init, path)


def _lost_blocks(problem: Problem, rng: Random, length: int) -> Example:
    """A task, and a walk that is possible in it and does not care for its goals."""
    init = blocksworld.state_of(problem)
    _, path = blocksworld.walk(init, length, rng)
    return problem, blocksworld.plan_of(init, path)


def _rooms(name: str, settings: Pretraining, rng: Random) -> Iterator[Example]:
    """Examples of a domain whose tasks come from walks over ground actions."""
    world, domain = WORLDS[name], read_domain(DOMAINS[name].text)
    while True:
        room = walking.Room(world, domain, rng.randint(*SIZES[name]), rng)
        for _ in range(PER_ROOM):
            kind, length = rng.random(), rng.randint(1, settings.longest_walk)
            if kind < settings.walks:
                yield room.aimless(room.start(rng), length, rng)
                continue
            lost = kind < settings.walks + settings.lost
            horizon = rng.randint(*settings.far) if lost else _horizon(settings.tail, rng)
            for start in (room.start(rng) for _ in range(TRIES)):
                found = room.solved(start, horizon, rng)
                if found is not None:
                    yield (found[0], room.aimless(start, length, rng)[1]) if lost else found
                    break


def _horizon(tail: float, rng: Random) -> int:
    horizon = 1
    while rng.random() < tail:
        horizon += 1
    return horizon
