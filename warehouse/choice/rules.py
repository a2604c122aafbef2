"""Curators as SQL over a pool that need not fit into memory.

Each chooses as the function of its name in `curation.curators` does, which is its oracle.
"""

from __future__ import annotations

from dataclasses import dataclass

UNJUDGED = "WHEN outcome IS NULL THEN 'not judged'"
INVALID = f"{UNJUDGED} WHEN outcome <> 'VALID' THEN 'invalid: ' || outcome"
BETTER_KEPT = f"{INVALID} ELSE 'a better trace of its task was kept'"


@dataclass(frozen=True, slots=True)
class Rule:
    """A curator. `chosen`: SQL of the kept traces of `pool` and their `weight`. `kept`: the reason
    for that. `dropped`: branches of a CASE with the reasons for the others. `again`: which of the
    decisions that stand must be taken again when traces join the pool, a SQL condition; None if all
    of them.
    """

    chosen: str
    kept: str
    dropped: str
    again: str | None = None


def _best_by(order: str) -> str:
    return f"""
        SELECT arg_min(trace, ({order}, trace)) AS trace, 1.0 AS weight
        FROM pool WHERE outcome = 'VALID' GROUP BY task
    """


RULES = {
    "shortest": Rule(
        _best_by("plan_length, reasoning_tokens"),
        "shortest valid plan of its task",
        BETTER_KEPT,
        again="kept",
    ),
    "first-valid": Rule(
        _best_by("generation"), "first valid plan of its task", BETTER_KEPT, again="kept"
    ),
    "all-valid": Rule(
        "SELECT trace, 1.0 AS weight FROM pool WHERE outcome = 'VALID'",
        "valid",
        INVALID,
        again="false",
    ),
    "rollouts": Rule(
        """
        SELECT trace, reward - (total - reward) / others AS weight
        FROM (
            SELECT trace, task, generation, CAST(outcome = 'VALID' AS DOUBLE) AS reward
            FROM pool WHERE outcome <> 'TRUNCATED'
        )
        JOIN (
            SELECT
                task, generation,
                CAST(count(*) FILTER (outcome = 'VALID') AS DOUBLE) AS total,
                count(*) - 1 AS others
            FROM pool WHERE outcome <> 'TRUNCATED' GROUP BY ALL HAVING others > 0
        ) USING (task, generation)
        WHERE weight <> 0
        """,
        "better or worse than its siblings",
        f"{UNJUDGED} WHEN outcome = 'TRUNCATED' THEN 'truncated at max_new_tokens' "
        "ELSE 'same outcome as its siblings'",
    ),
}
"""Every curator that is also SQL, by name."""
