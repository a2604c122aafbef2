"""The input of an audit's questions, and the ledger of their findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from flows.experiments.experiment import Experiment
from flows.generations.pool import reward_of
from warehouse.findings import Figure
from warehouse.records import Record
from warehouse.store import Warehouse


@dataclass(slots=True)
class Audit:
    """The findings on one experiment: records for the warehouse, and lines for people.

    `broken` has a line per broken bound; `asked` has the generation and name of each bound that was
    compared with a figure.
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
        """Record one figure per measure; None (or NaN) means that there is no answer."""
        for measure, value in measures.items():
            number = None if value is None or value != value else float(str(value))
            key = self.experiment.id, generation, question, name, measure
            self.records.append(Figure(*key, number, note))

    def bound(self, generation: int, name: str, about: str, value: float) -> None:
        """Compare a figure with the bound of that name, if the experiment sets it."""
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

    def unanswered(self, generation: int, name: str) -> None:
        """Count a bound as not asked, whatever it was compared with: part of it has no answer."""
        self.asked.discard((generation, name))

    def require_asked(self, generation: int) -> None:
        """Count bounds that were compared with no figure as broken: nobody knows that they hold."""
        for name, limit in self.experiment.audit.bounds.items():
            if (generation, name) not in self.asked:
                self.note(generation, "bounds", name, {"value": None, "bound": limit, "held": 0})
                why = "the audit has no figure for it"
                self.broken.append(f"generation {generation}: {name} = {limit} is broken: {why}")

    def add(self, other: Audit) -> None:
        """Take over the findings of another audit of the experiment."""
        self.records += other.records
        self.lines += other.lines
        self.broken += other.broken
        self.asked |= other.asked

    def say(self, line: str) -> None:
        """Add a line for people."""
        self.lines.append(line)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained generation: its `parent`, the `start` whose weights training began with, the
    `pool` of traces with a plan, the `choices`: ids of the traces that each curator keeps (the
    experiment's own first), and the `whole` pool, traces without a plan included.
    """

    warehouse: Warehouse
    experiment: Experiment
    index: int
    parent: int
    start: int
    pool: pd.DataFrame
    choices: dict[str, list[str]]
    whole: pd.DataFrame
    logprobs: dict[str, float] = field(default_factory=dict)
    """Log-probability of each trace asked about so far under the weights of `start`."""

    def reward(self, curator: str) -> pd.Series:
        """The reward that a curator's choice stands for, by trace of the `whole` pool."""
        return reward_of(self.warehouse, self.experiment, self.index, curator, self.whole)

    @property
    def kept(self) -> pd.DataFrame:
        """The part of the pool that it learned."""
        return self.pool[self.pool["kept"].astype(bool)]
