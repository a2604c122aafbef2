"""What audits look at: deployed traces, what curators did with them, and their traits in SQL."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pandas as pd
from pandas.errors import DatabaseError

from planners.errors import InvalidInput
from warehouse.store import Warehouse

TRAITS = {
    "plan_length": "plan_length",
    "reasoning_tokens": "reasoning_tokens",
    "domain": "domain",
    "size": "size",
    "source_generation": "generation::VARCHAR",
    "first_action": r"lower(regexp_extract(text, '\(\s*([^\s()]+)', 1))",
    "first_object": r"lower(regexp_extract(text, '\(\s*[^\s()]+\s+([^\s()]+)', 1))",
    "repeated_actions": (
        r"len(regexp_extract_all(text, '\([^()]*\)'))"
        r" - len(list_distinct(regexp_extract_all(text, '\([^()]*\)')))"
    ),
    "fenced": "contains(text, '```')",
    "numbered": r"regexp_matches(text, '(^|\n)\s*\d+\s*[.):]')",
    "upper_case": "text <> lower(text)",
}
"""Traits of a trace, each a SQL expression over the columns of WITNESSES."""

WITNESSES = """
    SELECT
        t.trace, t.experiment, t.generation, t.purpose, t.task, t.sample, t.text,
        t.reasoning_tokens, t.plan_tokens, t.finish_reason, t.logprob, t.sampling_logprob, t.policy,
        k.domain, k.size, k.horizon, v.outcome, v.plan_length, v.cost
    FROM traces AS t
    JOIN tasks AS k ON k.task = t.task
    LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
    WHERE t.experiment = :experiment AND t.purpose = 'deploy'
"""
"""A row a deployed trace, as expressions of traits see it."""

DECIDED = """
    SELECT trace, kept, weight
    FROM selections
    WHERE experiment = :experiment AND generation = :trained
"""


def witnesses(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], *, pool: int | None = None,
    written: int | None = None, text: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Deployed traces with their traits: those of the `pool` that a generation was trained from, or
    those `written` by a generation; with their `text` where that is wanted.

    Columns `trace`, `task`, `source` (generation that wrote it), `valid`, `logprob`,
    `sampling_logprob`, `kept`, `weight`, and those of `traits_of`. Raises InvalidInput
    where an expression is not SQL over a trace; the connection had better be read-only, for
    expressions are users'.
    """
    told = ", text" if text else ""
    told += "".join(f', ({sql}) AS "trait {name}"' for name, sql in traits.items())
    where = "kept IS NOT NULL" if written is None else "generation = :written"
    try:
        return warehouse.frame(
            "SELECT trace, task, generation AS source, outcome = 'VALID' AS valid, logprob, "
            f"sampling_logprob, kept, weight{told} FROM ({WITNESSES}) AS witness "
            f"LEFT JOIN ({DECIDED}) AS decided USING (trace) "
            f"WHERE plan_length IS NOT NULL AND {where} ORDER BY trace",
            experiment=experiment,
            trained=-1 if pool is None else pool,
            written=written,
        )
    except (DatabaseError, duckdb.Error) as error:
        raise InvalidInput(_which(warehouse, experiment, traits, error)) from error


def traits_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The traits in a frame of witnesses, under their names."""
    prefix = "trait "
    columns = [column for column in frame.columns if column.startswith(prefix)]
    return frame[columns].rename(columns=lambda column: column.removeprefix(prefix))


def _which(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], error: Exception
) -> str:
    """Which trait it is that cannot be asked for, and why."""
    for name, sql in traits.items():
        try:
            warehouse.frame(
                f"SELECT ({sql}) AS x FROM ({WITNESSES}) LIMIT 0", experiment=experiment
            )
        except (DatabaseError, duckdb.Error) as problem:
            reason = str(problem.__cause__ or problem).splitlines()[0]
            return f"the trait {name!r} is no SQL over a trace: {sql!r}: {reason}"
    return f"the audit cannot read its traces: {error}"
