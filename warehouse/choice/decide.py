"""Writes the decisions on a pool, as intervals of generations in which they stand."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from warehouse import schema
from warehouse.choice.rules import Rule
from warehouse.load import amend, arrow_schema, enter, registered, tallied

POOL = """
    SELECT t.trace, t.task, t.generation, j.outcome, j.plan_length, t.reasoning_tokens
    FROM traces AS t
    LEFT JOIN stg_verdicts AS j ON j.trace = t.trace
    WHERE t.experiment = {experiment} AND t.purpose = 'deploy'
        AND t.generation IN ({generations})
"""
DECIDED = """
    WITH pool AS ({pool}), best AS ({chosen})
    SELECT
        p.trace, chosen.weight IS NOT NULL AS kept, coalesce(chosen.weight, 0.0) AS weight,
        CASE WHEN chosen.weight IS NOT NULL THEN '{kept}' {dropped} END AS reason,
        p.task, p.generation AS from_generation, p.plan_length, p.reasoning_tokens,
        CAST(NULL AS BOOLEAN) AS accepted
    FROM pool AS p LEFT JOIN best AS chosen ON chosen.trace = p.trace
"""
NOW = "decided_now"
FIELDS = [
    column.name for column in schema.selections.columns
    if column.name not in ("experiment", "since", "until", "trace")
]  # fmt: skip
"""The columns of what is decided: a decision stands as long as nothing in them changes."""


def decide(
    connection: sa.Connection, experiment: str, generation: int, decisions: pd.DataFrame
) -> None:
    """Write how the decisions for a generation differ from those that stand: those that changed, or
    whose trace has left the pool, end; the new ones begin.
    """
    stored = arrow_schema(schema.selections)
    told = pa.schema([stored.field(name) for name in ("trace", *FIELDS)])
    found = pa.Table.from_pandas(decisions, told, preserve_index=False)
    with registered(connection.connection.driver_connection, NOW, found):
        _write(connection, experiment, generation, f"trace NOT IN (SELECT trace FROM {NOW})")


def choose(
    connection: sa.Connection,
    experiment: str,
    generation: int,
    rule: Rule,
    generations: Sequence[int],
) -> tuple[int, int]:
    """Decide by a rule on the deployed traces of some generations, and write that in the same way.
    Returns how many are kept, and of how many.
    """
    admitted = ", ".join(map(str, generations))
    pool = POOL.format(experiment=_literal(experiment), generations=admitted)
    sql = DECIDED.format(pool=pool, chosen=rule.chosen, kept=rule.kept, dropped=rule.dropped)
    # A view: the pool is read twice, and never held.
    connection.exec_driver_sql(f"CREATE OR REPLACE TEMP VIEW {NOW} AS {sql}")
    try:
        _write(connection, experiment, generation, f"from_generation NOT IN ({admitted})")
    finally:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {NOW}")
    s = schema.selections.c
    stands = sa.select(
        sa.func.coalesce(sa.func.sum(sa.cast(s.kept, sa.BigInteger)), 0), sa.func.count()
    ).where(s.experiment == experiment, s.until.is_(None))
    kept, of = connection.execute(stands).one()
    return int(kept), int(of)


def _write(connection: sa.Connection, experiment: str, generation: int, left: str) -> None:
    """Write how the decisions in NOW differ from those that stand. `left`: the condition of those
    whose trace has left the pool.
    """
    s, name = schema.selections, _literal(experiment)
    changed = " OR ".join(f"old.{field} IS DISTINCT FROM now.{field}" for field in FIELDS)
    connection.exec_driver_sql(
        f"INSERT INTO selections BY NAME SELECT {name} AS experiment, {generation} AS since, "
        f"now.trace, {', '.join(f'now.{field}' for field in FIELDS)} "
        f"FROM {NOW} AS now LEFT JOIN "
        f"(FROM selections WHERE experiment = {name} AND until IS NULL) AS old USING (trace) "
        f"WHERE old.trace IS NULL OR {changed}"
    )
    begun = (s.c.experiment == experiment) & (s.c.since == generation)
    enter(connection, s, *connection.execute(tallied(s).where(begun)).one())
    again = f"SELECT trace FROM selections WHERE experiment = {name} AND since = {generation}"
    stood = (s.c.experiment == experiment) & s.c.until.is_(None) & (s.c.since < generation)
    ended = stood & sa.text(f"(trace IN ({again}) OR {left})")
    amend(connection, s, ended, until=generation - 1)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
