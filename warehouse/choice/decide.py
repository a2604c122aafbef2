"""Writes the decisions on a pool, as intervals of generations in which they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from warehouse import schema
from warehouse.choice.rules import Rule
from warehouse.load import amend, arrow_schema, enter, registered, tally

POOL = """
    SELECT t.trace, t.task, t.generation, j.outcome, j.plan_length, t.reasoning_tokens
    FROM traces AS t
    LEFT JOIN stg_verdicts AS j ON j.trace = t.trace
    WHERE t.experiment = :experiment AND t.purpose = 'deploy'
        AND t.generation IN ({generations})
"""
DECIDED = """
    WITH pool AS ({pool}), better AS ({chosen}), best AS (FROM better ORDER BY place {limit})
    SELECT
        p.trace, b.trace IS NOT NULL AS kept, coalesce(b.weight, 0.0) AS weight,
        CASE WHEN kept THEN '{kept}' {dropped} END AS reason,
        p.task, p.generation AS from_generation, p.plan_length, p.reasoning_tokens,
        CAST(NULL AS BOOLEAN) AS accepted
    FROM pool AS p LEFT JOIN best AS b ON b.trace = p.trace
"""
PLACE = ("experiment", "since", "until", "trace")
