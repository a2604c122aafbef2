"""What an audit is told, and the ledger of what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from flows.experiments.experiment import Experiment
from warehouse.findings import Figure
from warehouse.records import Record
from warehouse.store import Warehouse


@dataclass(slots=True)
class Audit:
    """What was found of one experiment: records for the warehouse, and lines for people.

    `asked` holds the bounds that were compared with something, by generation.
    """

    experiment: Experiment
    traits: Mapping[str, str]
    records: list[Record] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    asked: set[tuple[int, str]] = field(default_factory=set)

    def note(
        self, generation: int, question: str, name: str, measures: Mapping[str, object],
        note: str = "",
    ) -> None:  # fmt: skip
        """One figure per measure; None where there is no answer."""
        for measure, value in measures.items():
            number = None if value is None or value != value else float(str(value))
            key = self.experiment.id, generation, question, name, measure
            self.records.append(Figure(*key, number, note))

    def bound(self, generation: int, name: str, about: str, value: float) -> None:
        """Compare a figure with the bound of that name, where the experiment has it."""
        limit = getattr(self.experiment.audit, name)
        if limit is None:
            return
        self.asked.add((generation, name))
        held = value >= limit if name.startswith("min_") else value <= limit
        told = f"{name} ({about})" if about else name
        measures = {"value": value, "bound": limit, "held": int(held)}
        self.note(generation, "bounds", told, measures)
        if not held:
            self.broken.append(f"generation {generation}: {told} = {limit} is broken: {value:.3g}")

    def require_asked(self, generation: int) -> None:
        """A bound that could not be compared with anything is broken: who knows that it holds."""
        for name, limit in self.experiment.audit.bounds.items():
            if (generation, name) not in self.asked:
                self.note(generation, "bounds", name, {"value": None, "bound": limit, "held": 0})
                line = f"generation {generation}: {name} = {limit} is broken: it cannot be told"
                self.broken.append(line)

    def say(self, line: str) -> None:
        """Add a line for people."""
        self.lines.append(line)


@dataclass(frozen=True, slots=True)
class Trained:
    """A generation that was trained: its `parent`, the generation whose weights it `start`s from,
    the `pool` of traces with a plan, and what each curator keeps of it (the experiment's own
    first).
    """

    warehouse: Warehouse
    experiment: Experiment
    index: int
    parent: int
    start: int
    pool: pd.DataFrame
    choices: dict[str, list[str]]

    @property
    def kept(self) -> pd.DataFrame:
        """The part of the pool that it learned."""
        return self.pool[self.pool["kept"].astype(bool)]
