"""What is left to do of an experiment, in one line."""

from __future__ import annotations

from warehouse.store import Warehouse


def left_to_do(warehouse: Warehouse, experiment: str) -> str:
    """The last finished work of an experiment, and the command that goes on."""
    name = experiment.rsplit("-", 1)[0]
    marks = warehouse.frame(
        "SELECT generation FROM marks WHERE experiment = :e AND stage = 'judge' ORDER BY "
        "generation",
        e=experiment,
    )
    reached = marks["generation"].tolist()
    done = f"generation {reached[-1]} is the last evaluated" if reached else "nothing evaluated yet"
    return f"{done}; `posterity run {name}` resumes, `--set generations=N` goes further"
