"""Verdicts of older versions, which stay and no longer count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from warehouse import schema

Verdicts: TypeAlias = Sequence[dict[str, Any]] | pa.Table | pd.DataFrame


def supersede(connection: sa.Connection, verdicts: Verdicts) -> None:
    """Mark what other versions said of the traces that those of new verdicts have judged."""
    for version in _versions(verdicts):
        connection.execute(_superseded_by(version))


def _versions(verdicts: Verdicts) -> set[str]:
    """The versions of the checker in rows of verdicts."""
    if isinstance(verdicts, pa.Table):
        return set(verdicts["checker_version"].to_pylist())
    if isinstance(verdicts, pd.DataFrame):
        return set(verdicts["checker_version"])
    return {row["checker_version"] for row in verdicts}


def _superseded_by(version: str) -> sa.Update:
    """Mark what other versions said of the traces that this one has judged."""
    j, again = schema.judgements, schema.judgements.alias()
    same = (again.c.trace == j.c.trace) & (again.c.checker_version == version)
    older = (j.c.checker_version != version) & j.c.superseded.is_not(True)
    return sa.update(j).where(older, sa.exists().where(same)).values(superseded=True)
