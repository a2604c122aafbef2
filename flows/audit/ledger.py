"""What an audit is told, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from flows.experiments.experiment import Experiment
from warehouse import schema
from warehouse.store import Rows, Warehouse


@dataclass(slots=True)
class Audit:
    """What was found of one experiment: rows for the warehouse, and lines for people."""

    experiment: Experiment
    traits: Mapping[str, str]
    rows: Rows = field(
        default_factory=lambda: {schema.audits: [], schema.rewards: [], schema.alternatives: []}
    )
    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def note(
        self, generation: int, question: str, name: str, measures: Mapping[str, object],
        note: str = "",
    ) -> None:  # fmt: skip
        """A figure each measure; None where there is no answer."""
        for measure, value in measures.items():
            number = None if value is None or value != value else float(str(value))
            key = {"experiment": self.experiment.id, "generation": generation, "question": question}
            row = {**key, "name": name, "measure": measure, "value": number, "note": note}
            self.rows[schema.audits].append(row)

    def bound(self, generation: int, name: str, about: str, value: float) -> None:
        """Compare a figure with the bound of that name, where the experiment has it."""
        limit = getattr(self.experiment.audit, name)
        if limit is None:
            return
        held = value >= limit if name.startswith("min_") else value <= limit
        told = f"{name} ({about})" if about else name
        measures = {"value": value, "bound": limit, "held": int(held)}
        self.note(generation, "bounds", told, measures)
        if not held:
            self.broken.append(f"generation {generation}: {told} = {limit} is broken: {value:.3g}")

    def require_asked(self, generation: int) -> None:
        """A bound that could not be compared with anything is broken: who knows that it holds."""
        told = {r["name"].split(" ")[0] for r in self.rows[schema.audits]
                if r["question"] == "bounds" and r["generation"] == generation}  # fmt: skip
        for name, limit in self.experiment.audit.bounds.items():
            if name not in told:
                self.note(generation, "bounds", name, {"value": None, "bound": limit, "held": 0})
                line = f"generation {generation}: {name} = {limit} is broken: it cannot be told"
                self.broken.append(line)

    def say(self, line: str) -> None:
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
