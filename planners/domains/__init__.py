"""The planning domains: for each, its PDDL and a generator graded by size and horizon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from random import Random

from planners.domains import blocksworld, walking
from planners.domains.worlds import WORLDS, World
from planners.pddl import read_domain
from planners.records import Plan, Problem

Solved = Callable[[int, int, Random], tuple[Problem, Plan] | None]
"""(size, horizon, rng) to a problem with a plan, or None where none of that grade was found."""


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """A domain of the registry: what `size` counts, what `horizon` counts, and the generator."""

    name: str
    size: str
    smallest: int
    horizon: str
    solved_example: Solved

    @property
    def text(self) -> str:
        """The domain's PDDL."""
        return _pddl(self.name)

    def generate(self, size: int, horizon: int, rng: Random) -> Problem | None:
        """A problem of that grade, or None where none was found."""
        found = self.solved_example(size, horizon, rng)
        return found[0] if found else None


@cache
def _pddl(name: str) -> str:
    return files("planners.domains").joinpath(f"{name}.pddl").read_text("utf-8")


def _walked(
    name: str, world: World, size: int, horizon: int, rng: Random
) -> tuple[Problem, Plan] | None:
    return walking.solved_example(world, read_domain(_pddl(name)), size, horizon, rng)


DOMAINS = {
    "blocksworld": DomainEntry(
        "blocksworld",
        "blocks",
        2,
        "moves of an optimal plan (two actions each)",
        blocksworld.solved_example,
    ),
    **{
        name: DomainEntry(
            name,
            world.size,
            world.smallest,
            "actions of a plan without a redundant one",
            partial(_walked, name, world),
        )
        for name, world in WORLDS.items()
    },
}
