"""The audit of an experiment of a million traces: every question, with the real base model."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pandas as pd
import statsmodels.api as sm

from benchmarks.harness import Row, Scale, Work, growth, row, say
from curation.curators import Options, curate
from flows.audit.audit import audit
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.generations.checkpoints import require_base
from flows.loop.prepare import prepare
from flows.progress import Watch
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
DEPLOYED = 1
"""Generations whose traces are in the pool of the last."""

FILL = (
    """
    INSERT INTO traces BY NAME
    SELECT
        md5(g || '/' || k.task || '/' || s) AS trace, k.experiment, g AS generation,
        'deploy' AS purpose, k.task, s AS sample, 0 AS seed, 'compact-2' AS prompt_format,
        '' AS prompt_hash,
        array_to_string(list_transform(range((1 + hash(g, k.task, s) % 9)::BIGINT), lambda i:
            CASE i % 2 WHEN 0 THEN '(pickup b' ELSE '(unstack b2 b' END
            || 1 + hash(g, k.task, s, i) % 8 || ')'
        ), chr(10)) AS text,
        [1, 2, 3]::BIGINT[] AS token_ids, 0 AS reasoning_tokens, 12 AS plan_tokens,
        'stop' AS finish_reason, -1 - s % 7 AS logprob, -1 - s % 7 AS sampling_logprob,
        'local' AS policy, '0.1.0' AS code_version
    FROM range({deployed}) AS a(g), experiment_tasks AS k, range({samples}) AS c(s)
    WHERE k.split = 'train'
    """,
    """
    INSERT INTO judgements BY NAME
    SELECT
        trace, experiment, generation, purpose, task, 'posterity' AS checker,
        '1' AS checker_version, '1' AS extraction_version, '' AS detail, false AS superseded,
        text AS plan,
        CASE WHEN hash(trace) % 100 < 30 THEN 'VALID' ELSE 'PRECONDITION_FAILED' END AS outcome,
        1 + hash(generation, task, sample) % 9 AS plan_length,
        hash(trace) // 100 % 3 AS redundant
    FROM traces
    """,
    """
    INSERT INTO selections
    WITH pool AS (
        SELECT
            j.*, t.g,
            row_number() OVER (
                PARTITION BY t.g, task, outcome ORDER BY plan_length, trace
            ) = 1 AND outcome = 'VALID' AS kept
        FROM judgements AS j JOIN range(1, 1 + {deployed}) AS t(g) ON j.generation < t.g
    )
    SELECT experiment, g, g, trace, kept, kept::DOUBLE, 'r', task, generation, plan_length, 0, NULL
    FROM pool
    """,
    """
    INSERT INTO marks
    SELECT experiment, g, 'curate', 0 FROM generations, range(1, 1 + {deployed}) AS t(g)
    """,
    """
    INSERT INTO generations
    SELECT experiment, g, g - 1, 'parent', checkpoint, weights_hash, 'h', '{{}}', NULL
    FROM generations, range(1, 1 + {deployed}) AS t(g)
    """,
)
"""What the generations of a prepared experiment would have left: plans of random actions."""


def rows(scale: Scale) -> list[Row]:
    """Rows about auditing."""
    number = scale.of(30_000, 200_000, 1_000_000)
    with TemporaryDirectory() as folder:
        sizes = [number // 100, number // 10, number]
        audited = sizes[scale.of(2, 0, 0) :]
        works = {n: _audit(Path(folder), n, scale.of(60, 300, 300)) for n in audited}
        growing = [growth("growth auditing", audited, works.__getitem__, 1)] if scale else []
        return [
            row(f"audit {number} traces / one logistic model of them in statsmodels", "CPU s",
                works[number], _logistic(number), 1),
            *growing,
            growth("growth curating", sizes, _curate, 3),
        ]  # fmt: skip


def _curate(number: int) -> Work:
    """The quickstart's curator on a pool of so many traces, sixteen a task, a third valid."""
    rng = np.random.default_rng(0)
    pool = pd.DataFrame(
        {
            "trace": [f"{i:032x}" for i in rng.permutation(number)],
            "task": [f"{i // 16:032x}" for i in range(number)],
            "generation": rng.integers(0, DEPLOYED, number),
            "outcome": np.where(rng.random(number) < 1 / 3, "VALID", "GOAL_NOT_REACHED"),
            "plan_length": rng.integers(2, 24, number).astype(float),
            "reasoning_tokens": np.zeros(number, dtype=np.int64),
        }
    ).sort_values("trace", ignore_index=True)
    return lambda: curate("shortest", pool, DEPLOYED, "all", Options())


def _audit(folder: Path, number: int, gradients: int) -> Work:
    train = f"tasks.train.count={max(100, number // 500)}"
    experiment = load_experiment("quickstart", [train, f"audit.gradient_traces={gradients}"])
    path = folder / f"{number}.duckdb"
    say(f"making a warehouse of {number} traces")
    _fill(path, experiment, number)

    def work() -> None:
        with Warehouse(path, read_only=True) as store:
            audit(store, experiment, QUIET)

    return work


def _fill(path: Path, experiment: Experiment, number: int) -> None:
    train = experiment.tasks.train
    assert train is not None
    with Warehouse(path) as store:
        prepare(store, experiment, QUIET)
        copytree(require_base(experiment), store.checkpoints / experiment.model.base)
    with duckdb.connect(path) as connection:
        samples = number // DEPLOYED // train.count
        for statement in FILL:
            connection.execute(statement.format(deployed=DEPLOYED, samples=samples))


def _logistic(number: int) -> Work:
    """A model with as many rows as there are valid traces, and ten traits."""
    rng = np.random.default_rng(0)
    traits = sm.add_constant(rng.normal(size=(number * 3 // 10, 10)))
    kept = rng.random(len(traits)) < 0.1

    def work() -> None:
        sm.GLM(kept, traits, family=sm.families.Binomial()).fit()

    return work
