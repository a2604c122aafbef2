"""Curators as SQL over a pool that need not fit into memory.

Each chooses as the function of its name in `curation.curators` does, which is its oracle.
"""

from __future__ import annotations

from dataclasses import dataclass

NOT_JUDGED = "WHEN outcome IS NULL THEN 'not judged'"
INVALID = f"{NOT_JUDGED} WHEN outcome <> 'VALID' THEN 'invalid: ' || outcome"


@dataclass(frozen=True, slots=True)
class Rule:
    """A curator. `chosen`: SQL of the kept traces of `pool`, with their `weight` and their `place`
    if only some of them may be kept. `kept`: the reason for that. `dropped`: branches of a CASE
    with the reasons for the others, the last of them for the rest.
    """

    chosen: str
    kept: str
    dropped: str


def _best(order: str) -> str:
    return f"""
        SELECT arg_min(trace, ({order}, trace)) AS trace, task AS place, 1.0 AS weight
        FROM pool WHERE outcome = 'VALID' GROUP BY task
    """


RULES = {
    "shortest": Rule(
        _best("plan_length, reasoning_tokens"),
        "shortest valid plan of its task",
        f"{INVALID} ELSE 'a better trace of its task was kept'",
    ),
    "first-valid": Rule(
        _best("generation"),
        "first valid plan of its task",
        f"{INVALID} ELSE 'a better trace of its task was kept'",
    ),
    "all-valid": Rule(
        "SELECT trace, trace AS place, 1.0 AS weight FROM pool WHERE outcome = 'VALID'",
        "valid",
        f"{INVALID} ELSE 'over the limit'",
    ),
    "rollouts": Rule(
        """
        WITH usable AS (
            SELECT trace, task, generation, CAST(outcome = 'VALID' AS DOUBLE) AS reward
            FROM pool WHERE outcome <> 'TRUNCATED'
        ), siblings AS (
            SELECT task, generation, sum(reward) AS total, count(*) - 1 AS others
            FROM usable GROUP BY ALL HAVING others > 0
        )
        SELECT trace, trace AS place, reward - (total - reward) / others AS weight
        FROM usable JOIN siblings USING (task, generation) WHERE weight <> 0
        """,
        "better or worse than its siblings",
        f"{NOT_JUDGED} WHEN outcome = 'TRUNCATED' THEN 'truncated at max_new_tokens' "
        "WHEN advantage IS NULL THEN 'same outcome as its siblings' ELSE 'over the limit'",
    ),
}
"""Every curator that is also SQL, by name."""
