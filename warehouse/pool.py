"""What curators choose from, and what a generation learns."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from warehouse.store import Row, Warehouse

COMPLETIONS = """
    SELECT t.trace, chosen.weight, t.task, d.pddl AS domain_pddl, k.pddl, t.text, t.prompt_format,
        t.purpose, t.logprob
    FROM traces AS t
    JOIN tasks AS k ON k.task = t.task
    JOIN domains AS d ON d.domain_hash = k.domain_hash
"""
"""What there is to learn from traces, which are to be joined as `chosen`."""


POOLED = "t.trace, t.task, j.outcome, j.plan_length, t.reasoning_tokens"
"""What curators look at, but for the generation."""


def pooled(
    warehouse: Warehouse, experiment: str, generations: Sequence[int], sources: Sequence[str] = (),
    text: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Every deployed trace of some generations, with what curators look at, and its `text`
    where that is wanted.

    Those of `sources`, which were ingested, come from generation -1, and with `accepted`: what
    their users say, None where they say nothing.
    """
    asked = ", t.text" if text else ""
    ingested = f"""
        UNION ALL BY NAME
        SELECT {POOLED}{asked}, -1 AS generation, f.accepted
        FROM traces AS t
        LEFT JOIN stg_verdicts AS j ON j.trace = t.trace
        LEFT JOIN feedback AS f ON f.trace = t.trace
        WHERE t.purpose = 'ingest' AND list_contains(:sources, t.experiment)
    """
    return warehouse.frame(
        f"""
        SELECT {POOLED}{asked}, t.generation
        FROM traces AS t
        LEFT JOIN stg_verdicts AS j ON j.trace = t.trace
        WHERE t.experiment = :experiment AND t.purpose = 'deploy'
            AND list_contains(:generations, t.generation)
        {ingested if sources else ""}
        ORDER BY trace
        """,
        experiment=experiment,
        generations=list(generations),
        **({"sources": list(sources)} if sources else {}),
    )


def lessons_of(warehouse: Warehouse, experiment: str, generation: int) -> list[Row]:
    """What a generation is trained on: trace, weight, task, its PDDL, and the completion with
    the format of its prompt.
    """
    return warehouse.frame(
        f"""
        {COMPLETIONS}
        JOIN (
            SELECT trace, weight
            FROM selections
            WHERE experiment = :experiment AND generation = :generation AND kept
        ) AS chosen ON chosen.trace = t.trace
        ORDER BY t.trace
        """,
        experiment=experiment,
        generation=generation,
    ).to_dict("records")


def completions_of(warehouse: Warehouse, traces: Sequence[str]) -> list[Row]:
    """The same of traces by their ids, each with weight 1."""
    return warehouse.frame(
        f"""
        {COMPLETIONS}
        JOIN (SELECT unnest(:traces) AS trace, 1.0 AS weight) AS chosen
            ON chosen.trace = t.trace
        ORDER BY t.trace
        """,
        traces=list(traces),
    ).to_dict("records")
