"""Reads the pool that a generation may learn from, the traces it learned, and their traits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from planners.errors import InvalidInput, PosterityError
from planners.records import Turn
from warehouse.load import comparable
from warehouse.records import Task, Taught
from warehouse.sandbox.query import require_expression
from warehouse.store import Warehouse

if TYPE_CHECKING:
    import pandas as pd

# ------------------------------------------------------------ for curators

POOL = """
    SELECT t.trace, t.task, t.generation, t.purpose, j.outcome, j.plan_length, t.reasoning_tokens{}
    FROM traces AS t
    LEFT JOIN stg_verdicts AS j ON j.trace = t.trace
    LEFT JOIN feedback AS f ON f.trace = t.trace
    WHERE t.experiment = :experiment AND list_contains(:purposes, t.purpose)
        AND list_contains(:generations, t.generation)
        OR t.purpose = 'ingest' AND list_contains(:sources, t.experiment)
        OR t.purpose = 'deploy' AND list_contains(:crossed, t.experiment || '@' || t.generation)
    ORDER BY t.trace
"""


def pooled(
    warehouse: Warehouse, experiment: str, generations: Sequence[int], sources: Sequence[str] = (),
    text: bool = False, users: bool = False, crossed: Sequence[tuple[str, int]] = (),
) -> pd.DataFrame:  # fmt: skip
    """The deployed traces of some generations, with `users` also the answers to them, all traces of
    some `sources`, and those deployed by generations of other experiments (`crossed`), one row
    each.

    Columns `trace`, `task`, `generation`, `purpose`, `outcome`, `plan_length`, `reasoning_tokens`;
    on request `text`; with users or sources also `accepted`, the feedback, None if there is none.
    """
    besides = (", f.accepted" if users or sources else "") + (", t.text" if text else "")
    return warehouse.frame(
        POOL.format(besides),
        experiment=experiment,
        generations=list(generations),
        sources=list(sources),
        crossed=[f"{other}@{generation}" for other, generation in crossed],
        purposes=["deploy", "request", "correction"] if users else ["deploy"],
    )


# ------------------------------------------------------------ for training

TAUGHT = """
    SELECT t.trace, chosen.weight, t.text, t.prompt_format, t.purpose, t.logprob, t.token_ids,
        t.turn_characters, t.turn_tokens, k.*,
        d.pddl AS domain_pddl
    FROM traces AS t
    JOIN ({}) AS chosen ON chosen.trace = t.trace
    JOIN tasks AS k ON k.task = t.task
    JOIN domains AS d ON d.domain_hash = k.domain_hash
    ORDER BY t.trace
"""
KEPT = """
    SELECT trace, weight
    FROM stg_decisions
    WHERE experiment = :experiment AND generation = :generation AND kept
        AND trace NOT IN (SELECT trace FROM forgotten)
"""
NAMED = "SELECT unnest(:traces) AS trace, 1.0 AS weight"


def lessons_of(warehouse: Warehouse, experiment: str, generation: int) -> list[Taught]:
    """The traces that a generation is trained on, sorted by trace id."""
    return _taught(warehouse, KEPT, experiment=experiment, generation=generation)


def lessons_in_parts(
    warehouse: Warehouse, experiment: str, generation: int, rows: int
) -> Iterator[list[Taught]]:
    """The same, at most so many in memory at a time."""
    asked = {"experiment": experiment, "generation": generation}
    kept = warehouse.frame(f"{KEPT} ORDER BY trace", **asked)
    for first in range(0, len(kept), rows):
        part = kept.iloc[first : first + rows]
        weights = dict(zip(part["trace"], part["weight"], strict=True))
        taught = _taught(warehouse, NAMED, traces=list(weights))
        yield [replace(one, weight=weights[one.trace]) for one in taught]


def completions_of(warehouse: Warehouse, traces: Sequence[str]) -> list[Taught]:
    """The traces with these ids, each with weight 1, sorted by trace id."""
    return _taught(warehouse, NAMED, traces=list(traces))


def _taught(warehouse: Warehouse, chosen: str, **parameters: object) -> list[Taught]:
    frame = warehouse.frame(TAUGHT.format(chosen), **parameters)
    plain = frame.astype(object).where(frame.notna(), None)
    tasks = {
        r.task: Task(r.task, r.domain_hash, r.domain, r.size, r.horizon, r.pddl, r.domain_pddl)
        for r in plain.drop_duplicates("task").itertuples()
    }
    return [
        Taught(
            r.trace,
            r.weight,
            r.text,
            r.prompt_format,
            r.purpose,
            r.logprob,
            tuple(int(one) for one in r.token_ids),
            tasks[r.task],
            _turns(r.turn_characters, r.turn_tokens),
        )
        for r in plain.itertuples()
    ]


def _turns(characters: Sequence[int] | None, tokens: Sequence[int] | None) -> tuple[Turn, ...]:
    """The turns of a trace, from its columns of that name; none if there is one only."""
    if characters is None or tokens is None:
        return ()
    return tuple(Turn(int(some), int(few)) for some, few in zip(characters, tokens, strict=True))


# ------------------------------------------------------------ for audits

SECONDS = 600.0
"""Time that traits may take, some of which users wrote."""
TRAITS = {
    "plan_length": "plan_length",
    "reasoning_tokens": "reasoning_tokens",
    "domain": "domain",
    "size": "size",
    "source_generation": "CAST(generation AS VARCHAR)",
    "first_action": r"regexp_extract(plan, '^\((\S+?)[\s)]', 1)",
    "first_object": r"regexp_extract(plan, '^\(\S+ (\S+?)[\s)]', 1)",
    "repeated_actions": (
        "plan_length - len(list_distinct(list_filter(string_split(plan, chr(10)), a -> a <> '')))"
    ),
    "redundant_actions": "redundant",
    "fenced": "contains(text, '```')",
    "numbered": r"regexp_matches(text, '(^|\n)\s*\d+\s*[.):]')",
    "upper_case": "text <> lower(text)",
}
"""Traits of a trace, each a SQL expression over the columns of WITNESSES. `plan` is the plan that
extraction found, one action per line, in the task's own names.
"""
WITNESSES = """
    SELECT
        t.trace, t.experiment, t.generation, t.purpose, t.task, t.sample, t.text,
        t.reasoning_tokens, t.plan_tokens, t.finish_reason, t.logprob, t.sampling_logprob, t.policy,
        k.domain, k.size, e.horizon, v.outcome, v.plan_length, v.cost, v.redundant, v.plan
    FROM traces AS t
    JOIN tasks AS k ON k.task = t.task
    LEFT JOIN experiment_tasks AS e ON e.experiment = :experiment AND e.task = t.task
    LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
    WHERE t.trace NOT IN (SELECT f.trace FROM forgotten AS f) AND (
        t.experiment = :experiment AND (
            t.purpose = 'deploy' OR t.purpose IN ('request', 'correction') AND EXISTS (
                SELECT 1 FROM experiments AS e
                WHERE e.experiment = :experiment
                    AND json_type(e.config, '$.deployment') = 'OBJECT'
            )
        )
        OR t.experiment <> :experiment AND t.trace IN (
            SELECT s.trace FROM selections AS s
            WHERE s.experiment = :experiment AND s.from_generation = t.generation
        )
    )
"""
"""One row per deployed trace, answer to a user that may be learned from, or trace of the pool that
comes from elsewhere, with the columns for traits; none whose text was erased.
"""
DECIDED = """
    SELECT trace, kept, weight
    FROM stg_decisions
    WHERE experiment = :experiment AND generation = :generation
"""
PREFIX = "trait "
OWN = "experiment = :experiment AND generation = :generation AND purpose <> 'correction'"
"""Condition for a generation's own texts: corrections are its users'."""


def pool_traits(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], generation: int
) -> pd.DataFrame:
    """The traces with a plan in the pool that a generation was trained from, with their traits.

    Columns `trace`, `task`, `experiment` and `source` (generation that wrote it), `valid`, `plan`,
    `logprob`, `sampling_logprob`, `kept`, `weight`, and the traits for `traits_of`. Raises
    InvalidInput if an expression is not SQL over a trace. Open the warehouse read-only: users write
    the expressions.
    """
    where = "plan_length IS NOT NULL AND kept IS NOT NULL"
    return _witnesses(warehouse, experiment, traits, where, generation)


def written_traits(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], generation: int
) -> pd.DataFrame:
    """The same for the deployed traces with a plan that a generation wrote."""
    where = f"plan_length IS NOT NULL AND {OWN}"
    return _witnesses(warehouse, experiment, traits, where, generation)


def written_texts(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], generation: int
) -> pd.DataFrame:
    """The same for all deployed and judged traces of a generation, with or without a plan, with
    `text`.
    """
    where = f"outcome IS NOT NULL AND {OWN}"
    return _witnesses(warehouse, experiment, traits, where, generation, ", text")


def _witnesses(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], where: str, generation: int,
    besides: str = "",
) -> pd.DataFrame:  # fmt: skip
    for name, sql in traits.items():
        try:
            require_expression(sql)
        except InvalidInput as error:
            raise InvalidInput(f"the trait {name!r} is not SQL over a trace: {error}") from error
    # The line break ends a `--` comment in a trait, which would swallow the parenthesis.
    # Numbers stand for their names, as to DuckDB names that differ in case alone are one.
    numbered = {f"{PREFIX}{number}": f"{PREFIX}{name}" for number, name in enumerate(traits)}
    told = "".join(
        f', ({_bare(sql)}\n) AS "{column}"'
        for column, sql in zip(numbered, traits.values(), strict=True)
    )
    try:
        found = warehouse.frame_within(
            SECONDS,
            "SELECT trace, task, experiment, generation AS source, "
            "coalesce(outcome = 'VALID', false) AS valid, "
            f"plan, logprob, sampling_logprob, kept, weight{besides}{told} "
            f"FROM ({WITNESSES}) AS witness LEFT JOIN ({DECIDED}) AS decided USING (trace) "
            f"WHERE {where} ORDER BY trace",
            experiment=experiment,
            generation=generation,
        )
        return found.rename(columns=numbered)
    except PosterityError as error:
        raise InvalidInput(_which(warehouse, experiment, traits, error)) from error


def traits_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The trait columns of such a frame, under the traits' names."""
    columns = [column for column in frame.columns if column.startswith(PREFIX)]
    found = frame[columns].rename(columns=lambda column: column.removeprefix(PREFIX))
    return found.apply(comparable)


def _bare(sql: str) -> str:
    """The expression with its colons escaped: a colon would start a parameter."""
    return sql.replace(":", "\\:")


def _which(
    warehouse: Warehouse, experiment: str, traits: Mapping[str, str], error: Exception
) -> str:
    """The message that names the trait whose SQL fails, and why it fails."""
    for name, sql in traits.items():
        try:
            asked = f"SELECT count(({_bare(sql)}\n)) FROM ({WITNESSES})"
            # All of them together take no longer than the one that failed might have.
            warehouse.frame_within(SECONDS / len(traits), asked, experiment=experiment)
        except PosterityError as problem:
            return f"the trait {name!r} is not SQL over a trace: {sql!r}: {problem}"
    return f"the audit cannot read its traces: {error}"
