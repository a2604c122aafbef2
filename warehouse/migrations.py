"""Migrations between schema versions: named, additive, in one transaction, after a backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from warehouse import schema
from warehouse.load import MODULUS, tally_of


@dataclass(frozen=True, slots=True)
class Migration:
    """The steps to a schema version. New tables need no statement: they are created anyway."""

    version: int
    name: str
    statements: tuple[str, ...]


_SELECTION_9 = ("experiment", "generation", "trace", "kept", "weight", "reason", "task",
                "from_generation", "plan_length", "reasoning_tokens", "accepted")  # fmt: skip


_TRACE_9 = ("trace", "experiment", "generation", "purpose", "task", "sample", "seed",
            "prompt_format", "prompt_hash", "text", "token_ids", "reasoning_tokens", "plan_tokens",
            "finish_reason", "logprob", "sampling_logprob", "policy", "code_version",
            "written_at")  # fmt: skip
_PLACE_10 = ("experiment", "task", "split", "position")
_FEEDBACK_13 = ("trace", "accepted", "score", "comment", "user_hash", "given_at")


def _enter(sign: int, table: str, columns: Sequence[str]) -> str:
    """Add to the ledger, or take from it, what a table holds now: rows that were changed without it
    before a migration stay changed without it.
    """
    return f"""
        UPDATE ledger
        SET "rows" = "rows" + {sign} * found.number,
            digest = (digest + {sign} * found.digest_now + {MODULUS}) % {MODULUS}
        FROM (SELECT {tally_of(columns)} FROM {table}) AS found(number, digest_now)
        WHERE name = '{table}'
    """


MIGRATIONS = (
    Migration(
        2,
        "ingested traces, superseded verdicts",
        (
            "ALTER TABLE traces ADD COLUMN written_at TIMESTAMP",
            "ALTER TABLE judgements ADD COLUMN superseded BOOLEAN DEFAULT false",
            "ALTER TABLE judgements ALTER COLUMN superseded DROP DEFAULT",
        ),
    ),
    Migration(
        3,
        "judgements and selections say whose they are",
        # Both tables are built again: DuckDB cannot add a column that is NOT NULL.
        (
            """
            CREATE TABLE judgements_3 (
                trace VARCHAR, checker VARCHAR, checker_version VARCHAR,
                extraction_version VARCHAR NOT NULL, outcome VARCHAR NOT NULL, step BIGINT,
                detail VARCHAR NOT NULL, plan_length BIGINT, "cost" DOUBLE, superseded BOOLEAN,
                experiment VARCHAR NOT NULL, generation BIGINT NOT NULL, purpose VARCHAR NOT NULL,
                task VARCHAR NOT NULL, PRIMARY KEY (trace, checker, checker_version)
            )
            """,
            """
            INSERT INTO judgements_3
            SELECT j.*, t.experiment, t.generation, t.purpose, t.task
            FROM judgements AS j JOIN traces AS t ON t.trace = j.trace
            """,
            """
            CREATE TABLE selections_3 (
                experiment VARCHAR, generation BIGINT, trace VARCHAR, kept BOOLEAN NOT NULL,
                weight DOUBLE NOT NULL, reason VARCHAR NOT NULL, task VARCHAR NOT NULL,
                from_generation BIGINT NOT NULL, plan_length BIGINT,
                reasoning_tokens BIGINT NOT NULL, PRIMARY KEY (experiment, generation, trace)
            )
            """,
            """
            INSERT INTO selections_3
            SELECT s.*, t.task, t.generation, j.plan_length, t.reasoning_tokens
            FROM selections AS s
            JOIN traces AS t ON t.trace = s.trace
            LEFT JOIN judgements AS j ON j.trace = s.trace AND j.superseded IS NOT TRUE
            """,
            "DROP VIEW IF EXISTS stg_evaluations",
            "DROP TABLE selections",
            "ALTER TABLE selections_3 RENAME TO selections",
            "DROP TABLE judgements",
            "ALTER TABLE judgements_3 RENAME TO judgements",
        ),
    ),
    Migration(
        4,
        "redundant actions, decisions on promotion",
        (
            "ALTER TABLE judgements ADD COLUMN redundant BIGINT",
            """
            INSERT INTO promotions
            SELECT experiment, generation, generation, true, 'always', 'before there were decisions'
            FROM generations
            """,
        ),
    ),
    Migration(5, "keys without an index", ()),
    Migration(
        6,
        "plans of judgements, feedback of decisions, one generation for ingested traces",
        (
            "ALTER TABLE judgements ADD COLUMN plan VARCHAR",
            "ALTER TABLE selections ADD COLUMN accepted BOOLEAN",
            """
            UPDATE selections SET accepted = feedback.accepted
            FROM feedback
            WHERE feedback.trace = selections.trace AND selections.reason <> 'no feedback'
            """,
            "UPDATE traces SET generation = -1 WHERE purpose = 'ingest'",
            "UPDATE judgements SET generation = -1 WHERE purpose = 'ingest'",
        ),
    ),
    Migration(
        7,
        "traces without a verdict, and why; rewards of curators",
        ("ALTER TABLE IF EXISTS rewards ADD COLUMN IF NOT EXISTS reward DOUBLE",),
    ),
    Migration(
        8,
        "hashes of the files beside the weights; a ledger of what was written; forecasts; requests",
        (
            "ALTER TABLE generations ADD COLUMN files VARCHAR",
            *(
                f"ALTER TABLE IF EXISTS feedback ADD COLUMN IF NOT EXISTS {column}"
                for column in (
                    "score DOUBLE",
                    "comment VARCHAR",
                    "user_hash VARCHAR",
                    "given_at TIMESTAMP",
                )
            ),
        ),
    ),
    Migration(9, "studies", ()),
    Migration(
        10,
        "decisions as intervals of generations; traces of several turns",
        (
            _enter(-1, "traces", _TRACE_9),
            # Built again: DuckDB cannot alter a table that this transaction may have updated.
            """
            CREATE TABLE traces_10 (
                trace VARCHAR NOT NULL, experiment VARCHAR NOT NULL, generation BIGINT NOT NULL,
                purpose VARCHAR NOT NULL, task VARCHAR NOT NULL, sample BIGINT NOT NULL,
                seed BIGINT NOT NULL, prompt_format VARCHAR NOT NULL, prompt_hash VARCHAR NOT NULL,
                text VARCHAR NOT NULL, token_ids BIGINT[] NOT NULL,
                reasoning_tokens BIGINT NOT NULL, plan_tokens BIGINT NOT NULL,
                finish_reason VARCHAR NOT NULL, logprob DOUBLE, sampling_logprob DOUBLE,
                policy VARCHAR NOT NULL, code_version VARCHAR NOT NULL, written_at TIMESTAMP,
                turn_characters BIGINT[], turn_tokens BIGINT[]
            )
            """,
            "INSERT INTO traces_10 BY NAME SELECT * FROM traces",
            "DROP TABLE traces",
            "ALTER TABLE traces_10 RENAME TO traces",
            _enter(1, "traces", (*_TRACE_9, "turn_characters", "turn_tokens")),
            _enter(-1, "selections", _SELECTION_9),
            """
            CREATE TABLE selections_10 (
                experiment VARCHAR NOT NULL, since BIGINT NOT NULL, until BIGINT,
                trace VARCHAR NOT NULL, kept BOOLEAN NOT NULL, weight DOUBLE NOT NULL,
                reason VARCHAR NOT NULL, task VARCHAR NOT NULL, from_generation BIGINT NOT NULL,
                plan_length BIGINT, reasoning_tokens BIGINT NOT NULL, accepted BOOLEAN
            )
            """,
            # A decision goes on where the generation curated before it has the same one.
            """
            INSERT INTO selections_10
            WITH curated AS (
                SELECT experiment, generation,
                    row_number() OVER (PARTITION BY experiment ORDER BY generation) AS place,
                    lead(generation) OVER (PARTITION BY experiment ORDER BY generation) AS next
                FROM (
                    SELECT experiment, generation FROM selections
                    UNION
                    SELECT experiment, generation FROM marks WHERE stage = 'curate'
                )
            ),
            placed AS (
                SELECT s.*, c.next, c.place - row_number() OVER (
                    PARTITION BY s.experiment, trace, kept, weight, reason, task, from_generation,
                        plan_length, reasoning_tokens, accepted
                    ORDER BY c.place
                ) AS island
                FROM selections AS s JOIN curated AS c USING (experiment, generation)
            )
            SELECT experiment, min(generation),
                CASE WHEN count(next) = count(*) THEN max(next) - 1 END, trace, kept, weight,
                reason, task, from_generation, plan_length, reasoning_tokens, accepted
            FROM placed
            GROUP BY experiment, island, trace, kept, weight, reason, task, from_generation,
                plan_length, reasoning_tokens, accepted
            """,
            "DROP TABLE selections",
            "ALTER TABLE selections_10 RENAME TO selections",
            _enter(1, "selections", ("experiment", "since", "until", *_SELECTION_9[2:])),
        ),
    ),
    Migration(
        11,
        "fresh tasks of a generation",
        (
            _enter(-1, "experiment_tasks", _PLACE_10),
            "ALTER TABLE experiment_tasks ADD COLUMN generation BIGINT",
            _enter(1, "experiment_tasks", (*_PLACE_10, "generation")),
        ),
    ),
    Migration(
        12,
        "horizons of tasks by experiment",
        (
            _enter(-1, "experiment_tasks", (*_PLACE_10, "generation")),
            # Built again: DuckDB cannot update a table that this transaction has altered.
            """
            CREATE TABLE experiment_tasks_12 (
                experiment VARCHAR NOT NULL, task VARCHAR NOT NULL, split VARCHAR NOT NULL,
                position BIGINT NOT NULL, generation BIGINT, horizon BIGINT
            )
            """,
            """
            INSERT INTO experiment_tasks_12 BY NAME
            SELECT e.*, k.horizon FROM experiment_tasks AS e LEFT JOIN tasks AS k USING (task)
            """,
            "DROP TABLE experiment_tasks",
            "ALTER TABLE experiment_tasks_12 RENAME TO experiment_tasks",
            _enter(1, "experiment_tasks", (*_PLACE_10, "generation", "horizon")),
        ),
    ),
    Migration(13, "keys of a gateway's clients", ()),
    Migration(
        14,
        "what a user said of an answer first",
        (
            _enter(-1, "feedback", _FEEDBACK_13),
            "ALTER TABLE feedback ADD COLUMN IF NOT EXISTS first_accepted BOOLEAN",
            "ALTER TABLE feedback ADD COLUMN IF NOT EXISTS first_given_at TIMESTAMP",
            _enter(1, "feedback", (*_FEEDBACK_13, "first_accepted", "first_given_at")),
        ),
    ),
)


KEYED = """
    SELECT table_name FROM duckdb_constraints()
    WHERE constraint_type = 'PRIMARY KEY' AND database_name = current_database()
"""


def migrate(connection: sa.Connection, version: int) -> None:
    """Migrate a schema of `version` to the current one, in the connection's transaction."""
    for migration in MIGRATIONS:
        if migration.version > version:
            for statement in migration.statements:
                connection.exec_driver_sql(statement)
    _drop_keys(connection)
    connection.execute(sa.update(schema.schema_version).values(version=schema.SCHEMA_VERSION))
    # The sentences of tables and columns may have changed with the code.
    for table in schema.metadata.sorted_tables:
        connection.execute(sa.schema.SetTableComment(table))
        for column in table.columns:
            connection.execute(sa.schema.SetColumnComment(column))


def _drop_keys(connection: sa.Connection) -> None:
    """Rebuild tables that have a primary key: DuckDB cannot drop its index."""
    tables = schema.keyless().tables
    for name in connection.exec_driver_sql(KEYED).scalars().all():
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO keyed")
        tables[name].create(connection)
        connection.exec_driver_sql(f"INSERT INTO {name} BY NAME SELECT * FROM keyed")
        connection.exec_driver_sql("DROP TABLE keyed")
