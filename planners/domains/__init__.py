"""The planning domains, each with its PDDL and a task generator graded by size and horizon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from random import Random

from planners.domains import blocksworld, walking
from planners.domains.worlds import WORLDS, World
from planners.errors import require_one_of
from planners.pddl import read_domain
from planners.records import Plan, Problem

Solved = Callable[[int, int, Random], tuple[Problem, Plan] | None]
"""From (size, horizon, rng) to a problem and its plan, or None if no such problem was found."""


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """A domain of the registry. `size` and `horizon` say in words what these grades count."""

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
        """A problem of this size and horizon, or None if none was found."""
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
            "actions of a plan without redundant actions",
            partial(_walked, name, world),
        )
        for name, world in WORLDS.items()
    },
}


def domain_named(name: str) -> DomainEntry:
    """A domain of the registry. Raises InvalidInput if there is none of this name."""
    require_one_of("domain", name, DOMAINS)
    return DOMAINS[name]


def pddl_of(domain: str) -> str:
    """The PDDL of a domain of the registry by its name; a text with brackets is PDDL already.
    Raises InvalidInput if there is none of this name.
    """
    return domain if "(" in domain else domain_named(domain.strip()).text


def name_of(text: str) -> str | None:
    """The name of the domain of ours that has this PDDL, which may call it otherwise; None for
    another's.
    """
    return next((name for name, entry in DOMAINS.items() if entry.text == text), None)
