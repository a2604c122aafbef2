"""What audits look at: deployed traces, what curators did with them, and their traits in SQL."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from planners.errors import InvalidInput, PosterityError
from warehouse.query import require_expression
from warehouse.store import Warehouse

ANSWER = "regexp_replace(text, '(?s)^.*</think>', '')"
"""What stands behind the reasoning, where the plan is looked for."""
TRAITS = {
    "plan_length": "plan_length",
    "reasoning_tokens": "reasoning_tokens",
    "domain": "domain",
    "size": "size",
    "source_generation": "CAST(generation AS VARCHAR)",
    "first_action": rf"lower(regexp_extract({ANSWER}, '\(\s*([^\s()]+)', 1))",
    "first_object": rf"lower(regexp_extract({ANSWER}, '\(\s*[^\s()]+\s+([^\s()]+)', 1))",
    "repeated_actions": (
        rf"len(regexp_extract_all({ANSWER}, '\([^()]*\)'))"
        rf" - len(list_distinct(regexp_extract_all({ANSWER}, '\([^()]*\)')))"
    ),
    "redundant_actions": "redundant",
    "fenced": "contains(text, '```')",
    "numbered": r"regexp_matches(text, '(^|\n)\s*\d+\s*[.):]')",
    "upper_case": "text <> lower(text)",
}
"""Traits of a trace, each a SQL expression over the columns of WITNESSES."""

WITNESSES = """
    SELECT
        t.trace, t.experiment,
        CASE t.purpose WHEN 'ingest' THEN -1 ELSE t.generation END AS generation,
        t.purpose, t.task, t.sample, t.text,
        t.reasoning_tokens, t.plan_tokens, t.finish_reason, t.logprob, t.sampling_logprob, t.policy,
        k.domain, k.size, k.horizon, v.outcome, v.plan_length, v.cost, v.redundant
    FROM traces AS t
    JOIN tasks AS k ON k.task = t.task
    LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
    WHERE t.experiment = :experiment AND t.purpose = 'deploy'
        OR t.purpose = 'ingest' AND t.trace IN (
            SELECT s.trace FROM selections AS s
            WHERE s.experiment = :experiment AND s.from_generation = -1
        )
"""
"""A row a deployed trace, or an ingested one of the pool, as expressions of traits see it."""

DECIDED = """
    SELECT trace, kept, weight
    FROM selections
    WHERE experiment = :experiment AND generation = :trained
"""


def witnesses(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], *, pool: int | None = None,
    written: int | None = None, every: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Deployed traces that hold a plan, with their traits: those of the `pool` that a generation
    was trained from, or those `written` by a generation; `every` one, plan or not, with its `text`.

    Columns `trace`, `task`, `source` (generation that wrote it), `valid`, `logprob`,
    `sampling_logprob`, `kept`, `weight`, and those of `traits_of`. Raises InvalidInput
    where an expression is not SQL over a trace; the connection had better be read-only, for
    expressions are users'.
    """
    for name, sql in traits.items():
        _require_trait(name, sql)
    told = ", text" if every else ""
    told += "".join(f', ({_bare(sql)}) AS "trait {name}"' for name, sql in traits.items())
    where = "kept IS NOT NULL" if written is None else "generation = :written"
    try:
        return warehouse.frame(
            "SELECT trace, task, generation AS source, "
            "coalesce(outcome = 'VALID', false) AS valid, "
            f"logprob, sampling_logprob, kept, weight{told} FROM ({WITNESSES}) AS witness "
            f"LEFT JOIN ({DECIDED}) AS decided USING (trace) "
            f"WHERE {'true' if every else 'plan_length IS NOT NULL'} AND {where} ORDER BY trace",
            experiment=experiment,
            trained=-1 if pool is None else pool,
            written=written,
        )
    except PosterityError as error:
        raise InvalidInput(_which(warehouse, experiment, traits, error)) from error


def _require_trait(name: str, sql: str) -> None:
    try:
        require_expression(sql)
    except InvalidInput as error:
        raise InvalidInput(
            f"the trait {name!r} is no SQL over a trace: {sql!r}: {error}"
        ) from error


def traits_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The traits in a frame of witnesses, under their names."""
    prefix = "trait "
    columns = [column for column in frame.columns if column.startswith(prefix)]
    found = frame[columns].rename(columns=lambda column: column.removeprefix(prefix))
    for name, column in found.items():
        first = next(iter(column.dropna()), None)  # a column of SQL is of one kind
        if isinstance(first, (list, dict, np.ndarray)):
            found[name] = column.astype(str)
    return found


def _bare(sql: str) -> str:
    """An expression in which a colon is a colon, no parameter."""
    return sql.replace(":", "\\:")


def _which(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], error: Exception
) -> str:
    """Which trait it is that cannot be asked for, and why."""
    for name, sql in traits.items():
        try:
            asked = f"SELECT count(({_bare(sql)})) FROM ({WITNESSES})"
            warehouse.frame(asked, experiment=experiment)
        except PosterityError as problem:
            reason = str(problem)
            return f"the trait {name!r} is no SQL over a trace: {sql!r}: {reason}"
    return f"the audit cannot read its traces: {error}"
