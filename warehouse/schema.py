"""The tables, built from the records; their sentences are stored as database comments."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

import sqlalchemy as sa

from warehouse import findings, records, verdicts
from warehouse.records import Record

SCHEMA_VERSION = 14
RECORDS: tuple[type[Record], ...] = (
    records.Experiment, records.Domain, records.Task, records.Place, records.Generation,
    records.Trace, verdicts.Judgement, verdicts.Unjudged, records.Feedback,
    records.Request, records.Decision,
    verdicts.Opinion, records.Promotion, verdicts.Canary, findings.Figure, findings.Reward,
    findings.Alternative, findings.Prediction, findings.Forgotten, findings.Member,
    findings.ApiKey, records.Landed, records.Mark, records.Written,
)  # fmt: skip
"""Every kind of record, in the order of the tables."""
KINDS: dict[object, sa.types.TypeEngine[Any]] = {
    str: sa.String(),
    int: sa.BigInteger(),
    float: sa.Double(),
    bool: sa.Boolean(),
    datetime: sa.DateTime(),
    tuple[int, ...]: sa.ARRAY(sa.BigInteger()),
}
"""The column type for each type that a field may have."""
metadata = sa.MetaData()


def _table(kind: type[Record]) -> sa.Table:
    """The table of a kind of record: of its `stored` fields, nullable where they are optional."""
    hints, columns = get_type_hints(kind), []
    for one in fields(kind):  # type: ignore[arg-type]
        if one.metadata:
            options = set(get_args(hints[one.name])) or {hints[one.name]}
            told = hints[one.name] if hints[one.name] in KINDS else (options - {NoneType}).pop()
            columns.append(
                sa.Column(
                    one.metadata["column"] or one.name, KINDS[told],
                    primary_key=one.metadata["key"], autoincrement=False,
                    nullable=NoneType in options, comment=one.metadata["sentence"],
                )
            )  # fmt: skip
    return sa.Table(kind.table, metadata, *columns, comment=kind.grain)


TABLES = {kind: _table(kind) for kind in RECORDS}
"""The table that each kind of record is kept in."""
schema_version = sa.Table(
    "schema_version",
    metadata,
    sa.Column(
        "version", sa.BigInteger(), primary_key=True, autoincrement=False,
        comment="The schema this file has; it grows by named migrations.",
    ),
    comment="One row: which schema the file has.",
)  # fmt: skip
experiments, domains, tasks = (
    TABLES[kind] for kind in (records.Experiment, records.Domain, records.Task)
)
experiment_tasks, generations = TABLES[records.Place], TABLES[records.Generation]
traces, judgements, feedback, requests = (
    TABLES[kind] for kind in (records.Trace, verdicts.Judgement, records.Feedback, records.Request)
)
selections, promotions, marks = (
    TABLES[kind] for kind in (records.Decision, records.Promotion, records.Mark)
)
audits, rewards, alternatives = (
    TABLES[kind] for kind in (findings.Figure, findings.Reward, findings.Alternative)
)
forgotten, predictions, api_keys = (
    TABLES[kind] for kind in (findings.Forgotten, findings.Prediction, findings.ApiKey)
)
landed, opinions, canaries, unjudged = (
    TABLES[kind] for kind in (records.Landed, verdicts.Opinion, verdicts.Canary, verdicts.Unjudged)
)


@cache
def keyless() -> sa.MetaData:
    """The tables as the database has them: without primary keys. `warehouse.load` keeps keys
    unique. DuckDB's key index takes three times the space of the rows, and a lake has none anyway.
    """
    bare = sa.MetaData()
    for table in metadata.sorted_tables:
        columns = (
            sa.Column(c.name, c.type, nullable=c.nullable, comment=c.comment) for c in table.columns
        )
        sa.Table(table.name, bare, *columns, comment=table.comment)
    return bare
