"""What is left to do of an experiment, in one line."""

from __future__ import annotations

from rich.markup import escape

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
    decisions = warehouse.promotions(experiment)
    last = decisions[-1] if decisions else None
    if last is not None and (not last["promoted"] or last["decided_by"] == "person"):
        verb = "deployed" if last["promoted"] else "not promoted"
        done += f"; generation {last['generation']} is {verb}: {escape(last['reason'])}"
    return f"{done}; `posterity run {name}` resumes, `--set generations=N` goes further"


def ingested(warehouse: Warehouse, source: str) -> str:
    """What came from a source of ingested traces."""
    found = warehouse.frame(
        "SELECT count(*) AS traces, count(*) FILTER (WHERE outcome = 'VALID') AS valid, "
        "count(*) FILTER (WHERE accepted) AS accepted, "
        "count(*) FILTER (WHERE NOT accepted) AS rejected "
        "FROM stg_verdicts LEFT JOIN feedback USING (trace) "
        "WHERE experiment = :source",
        source=source,
    )
    traces, valid, accepted, rejected = found.to_numpy()[0]
    return (
        f"{traces} ingested traces, {valid} valid; users accepted {accepted}, rejected {rejected}"
    )
