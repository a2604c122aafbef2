"""The warehouse against its peers: loading traces, asking its views, the best trace of each task.

Loading starts from Python records and ends with a closed file in which every key is unique; its
peers of Arrow start from a table that is made already, and one checks no key. Views are compared
with the plain scan and aggregation, without a join, of the columns that they need.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.orm import Session, registry

from benchmarks.harness import Row, Scale, Work, grown, growth, row, say, taken
from flows.experiments.reading import load_experiment
from planners.domains import DOMAINS
from planners.pddl.printing import print_problem
from warehouse import records, schema
from warehouse.load import arrow_schema
from warehouse.store import Warehouse

Record = dict[str, Any]
ID = "quickstart-0123456789ab"
"""The experiment that warehouses are filled with."""
GENERATIONS, DEPLOYED, EVALUATED = 6, 24, 9
"""Generations of the experiment that views are asked about; samples of each task."""
MEMORY = "SET memory_limit = '7GB'"

WRITTEN = """
    SELECT experiment, generation, task, count(*)
    FROM traces WHERE purpose = 'evaluate' GROUP BY ALL
"""
SOLVED = """
    SELECT experiment, generation, task, count(*), min(plan_length), max(plan_length)
    FROM judgements
    WHERE purpose = 'evaluate' AND outcome = 'VALID' AND superseded IS NOT TRUE GROUP BY ALL
"""
PLAIN = {
    "coverage": [WRITTEN, SOLVED],
    "coverage_by_horizon": [WRITTEN, SOLVED],
    "progress": [WRITTEN, SOLVED],
    "plan_length": [SOLVED, SOLVED.replace("min(", "median(")],
    "verdicts": [
        "SELECT experiment, generation, purpose, task, count(*) FROM traces GROUP BY ALL",
        "SELECT experiment, generation, purpose, task, outcome, count(*) FROM judgements "
        "WHERE superseded IS NOT TRUE GROUP BY ALL",
    ],
    "lineage": [
        "SELECT experiment, generation, from_generation, kept, count(*) FROM stg_decisions "
        "GROUP BY ALL"
    ],
    "curated": [
        "SELECT experiment, generation, from_generation, kept, max(trace), max(task), "
        "max(plan_length), max(reasoning_tokens), max(weight) FROM stg_decisions GROUP BY ALL"
    ],
    "best_plans": [
        "SELECT experiment, task, min(plan_length), min(trace) FROM judgements "
        "WHERE outcome = 'VALID' AND superseded IS NOT TRUE GROUP BY ALL",
        "SELECT generation, purpose, max(trace), max(text) FROM traces GROUP BY ALL",
    ],
}
"""What each view needs to read, without what it is joined from."""


def queries(scale: Scale) -> list[Row]:
    """Rows about asking."""
    with TemporaryDirectory() as folder:
        return [
            *_views(Path(folder), scale.of(300_000, 2_000_000, 10_000_000), scale.runs),
            _choosing(Path(folder), scale.of(200, 1_750, 1_750)),
        ]


def loads(scale: Scale) -> list[Row]:
    """Rows about loading."""
    with TemporaryDirectory() as folder:
        return _loads(Path(folder), scale.of(20_000, 200_000, 1_000_000), scale.runs)


# ------------------------------------------------------------ loading


def some_rows(number: int) -> list[Record]:
    """Traces of about 2 kB as rows, from which the records of the stages are made."""
    rng = Random(0)
    plan = "".join(f"(unstack b{i} b{j})\n" for i in range(20) for j in range(20))
    found = []
    for i in range(number):
        at = rng.randrange(len(plan) - 1500)
        found.append(
            {
                "trace": f"{rng.getrandbits(128):032x}",
                "experiment": "quickstart-0123456789ab",
                "generation": i % GENERATIONS,
                "purpose": "deploy",
                "task": f"{i // 16:032x}",
                "sample": i % 16,
                "seed": rng.getrandbits(62),
                "prompt_format": "compact-2",
                "prompt_hash": f"{i // 16:032x}",
                "text": plan[at : at + 1500],
                "token_ids": rng.choices(range(80), k=48),
                "reasoning_tokens": 0,
                "plan_tokens": 48,
                "finish_reason": "stop",
                "logprob": -10 * rng.random(),
                "sampling_logprob": -10 * rng.random(),
                "policy": "local 0123456789abcdef",
                "code_version": "0.1.0",
            }
        )
    unknown = dict.fromkeys(column.name for column in schema.traces.columns)
    return [unknown | one for one in found]


def _loads(folder: Path, number: int, runs: int) -> list[Row]:
    say(f"making {number} traces to load")
    every = some_rows(number)
    kept = [
        records.Trace(**{"id" if k == "trace" else k: v for k, v in one.items()}) for one in every
    ]
    arrow = pa.Table.from_pylist(every, schema=arrow_schema(schema.traces))
    files = (folder / f"load{i}.duckdb" for i in count())
    unit = "CPU s a trace"
    ten, some, few = number // 10, every[: number // 50], every[: number // 500]
    return [
        row(f"load {number} traces / DuckDB INSERT from Arrow", unit,
            _ours(files, kept), _arrow(files, arrow), runs, sizes=(number, number)),
        row(f"load {number} traces / DuckDB INSERT from Arrow, unchecked", unit,
            _ours(files, kept), _arrow(files, arrow, keys=False), runs, sizes=(number, number)),
        row(f"load {ten} traces / ORM add_all of {len(some)}", unit,
            _ours(files, kept[:ten]), _orm(files, some), runs, sizes=(ten, len(some))),
        row(f"load {ten} traces / executemany of {len(few)}", unit,
            _ours(files, kept[:ten]), _executemany(files, few), runs, sizes=(ten, len(few))),
        growth("growth loading traces", [number // 100, number // 10, number],
            lambda n: _ours(files, kept[:n]), 3),
    ]  # fmt: skip


def _next(files: Iterator[Path]) -> Path:
    """A place for a file, where the one before is gone."""
    path = next(files)
    for old in path.parent.glob("load*"):
        old.unlink()
    return path


def _fresh(files: Iterator[Path], keys: bool = True) -> Path:
    """A new file with the table; where nothing else keeps traces from standing twice, with its
    key.
    """
    path = _next(files)
    engine = sa.create_engine(f"duckdb:///{path}")
    (schema.metadata if keys else schema.keyless()).create_all(engine)
    engine.dispose()
    return path


def _ours(files: Iterator[Path], found: list[records.Trace]) -> Work:
    def work() -> None:
        with Warehouse(_next(files)) as store:
            store.write(found)

    return work


def _arrow(files: Iterator[Path], found: pa.Table, keys: bool = True) -> Work:
    def work() -> None:
        with duckdb.connect(_fresh(files, keys)) as connection:
            connection.register("found", found)
            connection.execute("INSERT INTO traces BY NAME SELECT * FROM found")

    return work


def _orm(files: Iterator[Path], found: list[Record]) -> Work:
    class Trace:
        pass

    registry().map_imperatively(Trace, schema.traces)

    def work() -> None:
        engine = sa.create_engine(f"duckdb:///{_fresh(files)}")
        with Session(engine) as session:
            session.add_all([Trace(**record) for record in found])
            session.commit()
        engine.dispose()

    return work


def _executemany(files: Iterator[Path], found: list[Record]) -> Work:
    names = [column.name for column in schema.traces.columns]
    sql = f"INSERT INTO traces VALUES ({', '.join('?' for _ in names)})"

    def work() -> None:
        values = [[record[name] for name in names] for record in found]
        with duckdb.connect(_fresh(files)) as connection:
            connection.begin()
            connection.executemany(sql, values)
            connection.commit()

    return work


# ------------------------------------------------------------ asking


def _views(folder: Path, number: int, runs: int) -> list[Row]:
    path = folder / "views.duckdb"
    say(f"making a warehouse of {number} traces")
    fill(path, number)
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute(MEMORY)

        def ask(*queries: str) -> Work:
            return lambda: [connection.execute(query).to_arrow_table() for query in queries]

        measured = [
            row(f"query {name}, {number} traces / plain scan", "CPU s",
                ask(f"SELECT * FROM {name}"), ask(*PLAIN[name]), runs)
            for name in PLAIN
        ]  # fmt: skip
        frames = [
            connection.execute(f"SELECT {columns} FROM {table}").df()
            for columns, table in (
                ("experiment, task, trace, outcome, plan_length", "stg_verdicts"),
                ("trace, text", "traces"),
            )
        ]
        measured.append(
            row(f"query best trace a task, {number} traces / pandas, frames loaded", "CPU s",
                ask("SELECT * FROM best_plans"), lambda: _best(*frames), runs)
        )  # fmt: skip
    return measured


def _best(verdicts: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """The same in pandas."""
    valid = verdicts[verdicts["outcome"] == "VALID"].sort_values(["plan_length", "trace"])
    return valid.drop_duplicates(["experiment", "task"]).merge(texts, on="trace")


def _choosing(folder: Path, tasks: int) -> Row:
    """How the choice of traces grows from generation 5 to 50, of which each learns from all before
    it.
    """
    path, last, took = folder / "choosing.duckdb", 50, list[float]()
    fill(path, tasks * (DEPLOYED + EVALUATED) * last, last)
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM selections")
        connection.execute("DELETE FROM marks")
    with Warehouse(path) as store:
        for trained in range(1, last + 1):
            mark = records.Mark("quickstart-0123456789ab", trained, "curate")
            choose = partial(store.decide_by, "shortest", range(trained), mark)
            took.append(taken(choose).cpu)
    first = [median(took[at - 3 : at + 2]) for at in (5, last - 2)]
    return grown(f"choose among {tasks} tasks, growth by generation", [5, last - 2], first, 5)


FILL: tuple[str, ...] = (
    """
    INSERT INTO tasks
    SELECT md5('task' || i), 'd', 'blocksworld', 5 + i % 4, 3 + i % 10, '(define ...)'
    FROM range({tasks}) AS r(i)
    """,
    """
    INSERT INTO experiment_tasks BY NAME
    SELECT
        'quickstart-0123456789ab' AS experiment, md5('task' || i) AS task,
        CASE WHEN i % 10 < 8 THEN 'train' WHEN i % 10 = 8 THEN 'heldout' ELSE 'larger' END AS split,
        i AS position, 3 + i % 10 AS horizon
    FROM range({tasks}) AS r(i)
    """,
    """
    INSERT INTO traces BY NAME
    SELECT
        md5(g || '/' || k || '/' || s) AS trace, 'quickstart-0123456789ab' AS experiment,
        g AS generation, CASE WHEN s < {deployed} THEN 'deploy' ELSE 'evaluate' END AS purpose,
        md5('task' || k) AS task, s AS sample, k AS seed, 'compact-2' AS prompt_format,
        md5('prompt' || k) AS prompt_hash, repeat('(unstack b1 b2)', 4) AS text,
        [1, 2, 3]::BIGINT[] AS token_ids, 0 AS reasoning_tokens, 30 + k % 40 AS plan_tokens,
        'stop' AS finish_reason, -k / 7 AS logprob, -k / 7 AS sampling_logprob,
        'local 0123456789abcdef' AS policy, '0.1.0' AS code_version
    FROM range({generations}) AS a(g), range({tasks}) AS b(k), range({samples}) AS c(s)
    """,
    """
    INSERT INTO judgements BY NAME
    SELECT
        trace, experiment, generation, purpose, task, 'posterity' AS checker,
        '1' AS checker_version, '1' AS extraction_version, '' AS detail, false AS superseded,
        text AS plan,
        CASE
            WHEN hash(trace) % 100 < 20 THEN 'VALID'
            WHEN hash(trace) % 100 < 60 THEN 'PRECONDITION_FAILED'
            WHEN hash(trace) % 100 < 90 THEN 'GOAL_NOT_REACHED'
            ELSE 'NO_PLAN'
        END AS outcome,
        2 + hash(trace) // 100 % 20 AS plan_length
    FROM traces
    """,
    """
    INSERT INTO selections
    SELECT
        experiment, 5, NULL, trace, hash(trace) % 200 = 0, (hash(trace) % 200 = 0)::DOUBLE,
        'shortest', task, generation, 2 + hash(trace) // 100 % 20, 0, NULL
    FROM traces
    WHERE purpose = 'deploy' AND generation < 5
    """,
    "INSERT INTO marks VALUES ('quickstart-0123456789ab', 5, 'curate', 0)",
    """
    INSERT INTO generations
    SELECT 'quickstart-0123456789ab', g, g - 1, 'parent', 'c', 'w', 'h', '{{}}', NULL
    FROM range({generations}) AS r(g)
    """,
)
"""What fills a warehouse with one large experiment."""


def fill(path: Path, number: int, generations: int = GENERATIONS) -> None:
    """Make a warehouse of one experiment with so many traces, of which each task is the same
    problem: what reads a warehouse whole reads all of it.
    """
    experiment, rng = load_experiment("quickstart"), Random(0)
    entry = DOMAINS["blocksworld"]
    while (problem := entry.generate(6, 4, rng)) is None:
        pass
    begun = records.Experiment(ID, "h", "quickstart", 0, experiment.canonical(), "0.1.0")
    promoted = [
        records.Promotion(
            experiment=ID, position=g, generation=g, promoted=True, decided_by="always", reason=""
        )
        for g in range(generations)
    ]  # fmt: skip
    samples = DEPLOYED + EVALUATED
    numbers = {
        "generations": generations,
        "deployed": DEPLOYED,
        "samples": samples,
        "tasks": number // (generations * samples),
    }
    with Warehouse(path) as store:
        store.write([begun, records.Domain("d", "blocksworld", entry.text), *promoted])
    with duckdb.connect(path) as connection:
        connection.execute(MEMORY)
        for statement in FILL:
            connection.execute(statement.format(**numbers))
        connection.execute("UPDATE tasks SET pddl = ?", [print_problem(problem)])
