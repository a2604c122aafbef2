"""The planning domains: for each, its PDDL and a generator graded by size and horizon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from random import Random

from planners.domains import blocksworld
from planners.records import Problem

Generator = Callable[[int, int, Random], Problem | None]
"""(size, horizon, rng) to a problem, or None where none of that grade was found."""


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """A domain of the registry: what `size` counts, what `horizon` counts, and the generator."""

    name: str
    size: str
    horizon: str
    generate: Generator

    @property
    def text(self) -> str:
        """The domain's PDDL."""
        return files("planners.domains").joinpath(f"{self.name}.pddl").read_text("utf-8")


DOMAINS = {
    "blocksworld": DomainEntry(
        "blocksworld", "blocks", "moves of an optimal plan (two actions each)", blocksworld.generate
    ),
}
