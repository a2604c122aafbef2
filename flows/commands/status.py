"""How far an experiment is, and the command that goes on, in one line."""

from __future__ import annotations

from rich.markup import escape

from warehouse import records
from warehouse.store import Warehouse


def left_to_do(warehouse: Warehouse, experiment: records.Experiment) -> str:
    """The last generation evaluated, a notable decision, and the command that goes on."""
    reached = {generation for generation, _ in warehouse.marks(experiment.id, "judge")}
    done = (
        f"generation {max(reached)} is the last evaluated" if reached else "nothing evaluated yet"
    )
    decisions = warehouse.promotions(experiment.id)
    last = decisions[-1] if decisions else None
    # That a generation was promoted by rule is no news.
    if last is not None and (not last.promoted or last.decided_by == "person"):
        verb = "deployed" if last.promoted else "not promoted"
        done += f"; generation {last.generation} is {verb}: {escape(last.reason)}"
    return f"{done}; `posterity run {experiment.name}` resumes, `--set generations=N` goes further"


def ingested(warehouse: Warehouse, source: str) -> str:
    """How many traces a source brought, how many are valid, and what users said of them."""
    found = warehouse.query("ingested_summary", source=source)
    traces, valid, accepted, rejected = found.to_numpy()[0]
    return (
        f"{traces} ingested traces, {valid} valid; users accepted {accepted}, rejected {rejected}"
    )
