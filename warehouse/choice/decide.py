"""Writes the decisions on a pool, as intervals of generations in which they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import sqlalchemy as sa

from warehouse import schema
from warehouse.choice.rules import Rule
from warehouse.load import amend, arrow_schema, enter, quoted, registered, tallied

if TYPE_CHECKING:
    import pandas as pd

POOL = """
    SELECT t.trace, t.task, t.generation, j.outcome, j.plan_length, t.reasoning_tokens
    FROM (
        FROM traces
        WHERE experiment = {experiment} AND purpose = 'deploy' AND generation IN ({generations})
            AND {share}
    ) AS t
    LEFT JOIN (
        FROM stg_verdicts
        WHERE experiment = {experiment} AND generation IN ({generations}) AND {share}
    ) AS j
        ON j.trace = t.trace
"""
REMAINING = """
    UNION ALL
    SELECT trace, task, from_generation, 'VALID', plan_length, reasoning_tokens
    FROM selections
    WHERE experiment = {experiment} AND until IS NULL AND {again} AND {share}
"""
"""Added to a pool of new traces only: those that were kept until now."""
STANDING = """
    SELECT
        from_generation, count(*), count(*) FILTER (reason <> 'not judged'),
        count(*) FILTER (kept AND reason <> {kept})
    FROM selections
    WHERE experiment = {experiment} AND until IS NULL
    GROUP BY from_generation
"""
NOW_JUDGED = """
    SELECT count(*) FILTER (superseded IS NOT TRUE), count(*) FILTER (superseded)
    FROM judgements
    WHERE experiment = {experiment} AND purpose = 'deploy' AND generation IN ({generations})
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
AT_ONCE = 2_000_000
"""Traces, about, that are chosen from at once, so that their joins fit into memory."""
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
        left = f"trace NOT IN (SELECT trace FROM {NOW})"
        _write(connection, experiment, generation, left, "true", "true")


def choose(
    connection: sa.Connection,
    experiment: str,
    generation: int,
    rule: Rule,
    generations: Sequence[int],
) -> tuple[int, int]:
    """Decide by a rule on the deployed traces of some generations, and write that in the same way.
    Returns how many are kept, and of how many.

    A rule looks at one task at a time, so that tasks are decided on share by share. Of generations
    that were decided on before, only what may change is decided again.
    """
    s, name = schema.selections.c, quoted(experiment)
    before = standing(connection, experiment, rule, generations)
    fresh = [one for one in generations if one not in before]
    size = connection.execute(_deployed(experiment, fresh)).scalar_one()
    shares = 1 + size // AT_ONCE
    admitted = _listed(generations)
    for number in range(shares):
        share = f"hash(task) % {shares} = {number}" if shares > 1 else "true"
        pool = POOL.format(experiment=name, generations=_listed(fresh), share=share)
        if before:
            pool += REMAINING.format(experiment=name, again=rule.again, share=share)
        sql = DECIDED.format(pool=pool, chosen=rule.chosen, kept=rule.kept, dropped=rule.dropped)
        # A view: the pool is read twice, and never held.
        connection.exec_driver_sql(f"CREATE OR REPLACE TEMP VIEW {NOW} AS {sql}")
        try:
            left = f"from_generation NOT IN ({admitted})"
            old = f"{share} AND {rule.again}" if before else share
            _write(connection, experiment, generation, left, share, old)
        finally:
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {NOW}")
    stood = (s.experiment == experiment) & s.until.is_(None)
    kept = connection.execute(sa.select(sa.func.count()).where(stood, s.kept)).scalar_one()
    of = connection.execute(_deployed(experiment, generations)).scalar_one()
    return kept, of


def standing(
    connection: sa.Connection, experiment: str, rule: Rule, generations: Sequence[int]
) -> set[int]:
    """The generations, not all of those asked for, whose traces need not be decided on again: a
    decision of this rule stands on each, was taken on the verdict that is there now, and none
    stands on a trace of another generation. Empty if a single one does not.

    A verdict that was none yet then, or another one, is told by counting: a new one supersedes.
    """
    name = quoted(experiment)
    stood = STANDING.format(experiment=name, kept=quoted(rule.kept))
    found = connection.exec_driver_sql(stood).all()
    before = {generation for generation, *_ in found}
    if rule.again is None or not before or not before < set(generations):
        return set()
    traces, judged, others = (sum(row[column] for row in found) for column in (1, 2, 3))
    there = connection.execute(_deployed(experiment, sorted(before))).scalar_one()
    asked = NOW_JUDGED.format(experiment=name, generations=_listed(before))
    now = (there, *connection.exec_driver_sql(asked).one(), others)
    return before if now == (traces, judged, 0, 0) else set()


def _deployed(experiment: str, generations: Sequence[int]) -> sa.Select[tuple[int]]:
    """The query for the number of traces that some generations deployed."""
    t = schema.traces.c
    own = (t.experiment == experiment) & (t.purpose == "deploy") & t.generation.in_(generations)
    return sa.select(sa.func.count()).where(own)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _write(
    connection: sa.Connection, experiment: str, generation: int, left: str, share: str, old: str
) -> None:
    """Write how the decisions in NOW differ from those that stand. `left`: the condition of those
    whose trace has left the pool. `share`: that of the tasks which are decided on; `old`: that of
    the decisions which may no longer stand.
    """
    s, name = schema.selections, quoted(experiment)
    changed = " OR ".join(f"old.{field} IS DISTINCT FROM now.{field}" for field in FIELDS)
    connection.exec_driver_sql(
        f"INSERT INTO selections BY NAME SELECT {name} AS experiment, {generation} AS since, "
        f"now.trace, {', '.join(f'now.{field}' for field in FIELDS)} "
        f"FROM {NOW} AS now LEFT JOIN "
        f"(FROM selections WHERE experiment = {name} AND until IS NULL AND {old}) AS old "
        f"USING (trace) WHERE old.trace IS NULL OR {changed}"
    )
    begun = (s.c.experiment == experiment) & (s.c.since == generation) & sa.text(share)
    enter(connection, s, *connection.execute(tallied(s).where(begun)).one())
    again = (
        f"SELECT trace FROM selections WHERE experiment = {name} AND since = {generation} "
        f"AND {share}"
    )
    stood = (s.c.experiment == experiment) & s.c.until.is_(None) & (s.c.since < generation)
    ended = stood & sa.text(f"{old} AND (trace IN ({again}) OR {left})")
    amend(connection, s, ended, until=generation - 1)
