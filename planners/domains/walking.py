"""Tasks from walks: what holds at the end of a random walk can be reached from its start.

A task's *horizon* here is the length of its plan in actions: the walk, less every action that its
goals can do without, and no shorter plan found by a breadth-first search of SEARCHED states. That
proves short horizons optimal; for long ones it is an upper bound.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from planners.domains.worlds import World
from planners.grounding import GroundAction, Grounded, reduced
from planners.pddl import Domain, Task
from planners.records import Atom, Plan, Problem

SEARCHED = 300
"""States that are searched for a shorter plan before a walk's is believed."""
WALKS = 6
"""Walks from one initial state, before another one is drawn."""


def solved_example(
    world: World, domain: Domain, size: int, horizon: int, rng: Random, attempts: int = 12
) -> tuple[Problem, Plan] | None:
    """A problem of that size and horizon with a plan, or None where none was found."""
    for _ in range(attempts):
        problem = world.problem(size, rng)
        grounded = Grounded(task_of(domain, problem))
        start = _settle(grounded, world, size, rng)
        for _ in range(WALKS):
            found = _walked(grounded, world, start, horizon, rng)
            if found is not None:
                goal, plan = found
                init = [*grounded.static, *grounded.atoms(start)]
                return replace(problem, init=tuple(init), goal=("and", *goal)), plan
    return None


def task_of(domain: Domain, problem: Problem) -> Task:
    """The task of a problem that a generator made: right by construction, so not read again."""
    constants = tuple(c for c in domain.constants if c not in problem.objects)
    return Task(domain, replace(problem, objects=constants + problem.objects), (), None, "")


def walk(
    grounded: Grounded, world: World, start: int, length: int, rng: Random
) -> list[tuple[GroundAction, int]]:
    """A weighted random walk that enters no state twice: its actions, each with the state after."""
    state, seen = start, {start}
    path: list[tuple[GroundAction, int]] = []
    while len(path) < length:
        options = [
            (step, after)
            for step in grounded.applicable(state)
            if (after := state & ~step.deletes | step.adds) not in seen
        ]
        if not options:
            break
        weights = [world.weights.get(step.action[0], 1.0) for step, _ in options]
        path.append(rng.choices(options, weights)[0])
        state = path[-1][1]
        seen.add(state)
    return path


def _settle(grounded: Grounded, world: World, size: int, rng: Random) -> int:
    """Where a task starts: the world's initial state, or one a few actions on."""
    path = walk(grounded, world, grounded.init, rng.choice((0, rng.randint(1, 3 * size))), rng)
    return path[-1][1] if path else grounded.init


def _walked(
    grounded: Grounded, world: World, start: int, horizon: int, rng: Random
) -> tuple[list[Atom], Plan] | None:
    """Goals on a walk from `start` whose plan has exactly `horizon` actions, or None."""
    path = walk(grounded, world, start, 2 * horizon + 4, rng)
    kinds = dict(grounded.task.problem.objects)
    asked = grounded.mask_where(lambda a: len(a) > 1 and world.goals.get(a[0]) == kinds[a[1]])
    before = start
    for end, (_, after) in enumerate(path, 1):
        fresh = after & asked & ~start
        reached, before = fresh & ~before, after
        if not reached or end < horizon:
            continue
        goal = _some(fresh & ~reached, rng) | reached
        plan = reduced([step for step, _ in path[:end]], start, goal)
        if len(plan) == horizon and grounded.shortest(start, goal, horizon, SEARCHED) is None:
            return grounded.atoms(goal), Plan(tuple(step.action for step in plan))
    return None


def _some(bits: int, rng: Random) -> int:
    """A random part of some bits; all of them half of the time."""
    return bits if rng.random() < 0.5 else bits & rng.getrandbits(max(1, bits.bit_length()))
