"""Tasks from random walks: facts at the end of a walk are goals that its start can reach.

A task's *horizon* here is the length of its plan in actions. The plan is the walk without actions
that the goals do not need, if a breadth-first search of SEARCHED states finds no shorter one. That
proves short horizons optimal; for long ones the horizon is an upper bound.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from planners.domains.worlds import World
from planners.pddl import Domain, Task
from planners.pddl.grounding import GroundAction, Grounded, reduced
from planners.records import Plan, Problem

SEARCHED = 300
"""States that are searched for a shorter plan before a walk's plan is accepted."""
WALKS = 6
"""Walks from one initial state before another one is drawn."""


def solved_example(
    world: World, domain: Domain, size: int, horizon: int, rng: Random, attempts: int = 12
) -> tuple[Problem, Plan] | None:
    """A problem of this size and horizon with a plan, or None if none was found."""
    for _ in range(attempts):
        room = Room(world, domain, size, rng)
        start = room.start(rng)
        for _ in range(WALKS):
            found = room.solved(start, horizon, rng)
            if found is not None:
                return found
    return None


class Room:
    """One random world of a given size, its ground actions, and tasks made by walks in it."""

    def __init__(self, world: World, domain: Domain, size: int, rng: Random) -> None:
        self.world, self.size = world, size
        self.problem = world.problem(size, rng)
        self.grounded = Grounded(task_of(domain, self.problem))
        kinds = dict(self.grounded.task.problem.objects)
        self._asked = self.grounded.mask_where(
            lambda atom: len(atom) > 1 and world.goals.get(atom[0]) == kinds[atom[1]]
        )

    def start(self, rng: Random) -> int:
        """A start state for a task: the world's initial state, or one a random walk later."""
        length = rng.choice((0, rng.randint(1, 3 * self.size)))
        path = walk(self.grounded, self.world, self.grounded.init, length, rng)
        return path[-1][1] if path else self.grounded.init

    def solved(self, start: int, horizon: int, rng: Random) -> tuple[Problem, Plan] | None:
        """A problem and a plan of exactly `horizon` actions from one random walk, or None."""
        path = walk(self.grounded, self.world, start, 2 * horizon + 4, rng)
        before = start
        for end, (_, after) in enumerate(path, 1):
            fresh = after & self._asked & ~start
            reached, before = fresh & ~before, after
            # Without a goal that the last action reached, that action would be redundant.
            if not reached or end < horizon:
                continue
            goal = self._some(fresh & ~reached, rng) | reached
            plan = reduced([step for step, _ in path[:end]], start, goal)
            if len(plan) != horizon:
                continue
            if self.grounded.shortest(start, goal, horizon, SEARCHED) is None:
                return self._problem(start, goal), Plan(tuple(step.action for step in plan))
        return None

    def aimless(self, start: int, length: int, rng: Random) -> tuple[Problem, Plan]:
        """A problem with an empty goal, and a random walk as its plan."""
        path = walk(self.grounded, self.world, start, length, rng)
        return self._problem(start, 0), Plan(tuple(step.action for step, _ in path))

    def _some(self, goal: int, rng: Random) -> int:
        """A random subset of a goal's bits, or all of them with probability one half."""
        if rng.random() < 0.5:
            return goal
        masks = [1 << bit for bit in self.grounded.bits.values()]
        asked = [place for place, mask in enumerate(masks) if mask & goal]
        drawn = rng.getrandbits(max(1, max(asked, default=-1) + 1))
        return sum(masks[place] for place in asked if drawn >> place & 1)

    def _problem(self, start: int, goal: int) -> Problem:
        init = (*self.grounded.static, *self.grounded.atoms(start))
        return replace(self.problem, init=init, goal=("and", *self.grounded.atoms(goal)))


def task_of(domain: Domain, problem: Problem) -> Task:
    """The task of a generated problem, without a key; correct by construction, so not re-read."""
    constants = tuple(c for c in domain.constants if c not in problem.objects)
    return Task(domain, replace(problem, objects=constants + problem.objects), (), None, "")


def walk(
    grounded: Grounded, world: World, start: int, length: int, rng: Random
) -> list[tuple[GroundAction, int]]:
    """A weighted random walk that enters no state twice, as (action, state after it) pairs."""
    state, seen = start, {start}
    path: list[tuple[GroundAction, int]] = []
    while len(path) < length:
        options = [option for option in grounded.successors(state) if option[1] not in seen]
        if not options:
            break
        weights = [world.weights.get(step.action[0], 1.0) for step, _ in options]
        path.append(rng.choices(options, weights)[0])
        state = path[-1][1]
        seen.add(state)
    return path
