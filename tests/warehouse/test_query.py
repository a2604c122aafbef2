"""The sandbox of users' SQL: what is not one SELECT is refused, and nothing is ever written."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import duckdb
import pytest

from planners.errors import InvalidInput, PosterityError
from tests.processes import at_work
from warehouse.sandbox.query import Limits, ask, require_expression, require_select
from warehouse.store import Warehouse

STATEMENTS = int(os.environ.get("POSTERITY_FUZZ", "1500"))
"""How many random statements are tried."""
WRITES = [
    "EXPLAIN ANALYZE COPY (SELECT 'gone' AS a) TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 'x'::BLOB AS a) TO '{file}.wal' (FORMAT blob)",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM traces",
    "COPY (SELECT 1) TO '{file}'",
    "COPY traces FROM '{file}'",
    "COPY FROM DATABASE w TO memory",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{folder}/other.duckdb' AS o",
    "DETACH w",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{folder}/profile'",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "FROM enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "FROM force_checkpoint('w')",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW coverage AS SELECT 1",
    "INSERT INTO judgements SELECT * FROM judgements",
    "UPDATE judgements SET outcome = 'VALID'",
    "DELETE FROM traces",
    "DROP VIEW coverage",
    "TRUNCATE traces",
    "ALTER TABLE traces DROP COLUMN text",
    "COMMENT ON TABLE traces IS 'x'",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "PREPARE p AS DELETE FROM traces",
    "EXECUTE p",
    "USE w",
    "SELECT 1; DELETE FROM traces",
    "WITH gone AS (DELETE FROM traces RETURNING *) SELECT * FROM gone",
    "FROM read_csv('{secret}')",
    "FROM read_text('{secret}')",
    "FROM read_blob('{file}')",
    "FROM glob('{folder}/*')",
    "FROM '{secret}'",
    'FROM "{secret}"',
    "FROM 'http://127.0.0.1:{port}/x.csv'",
    "FROM read_json('http://127.0.0.1:{port}/x.json')",
    "FROM query('SELECT 1')",
    "FROM query_table('traces')",
    "SELECT * FROM (FROM read_text('{secret}'))",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "FROM sniff_csv('{secret}')",
    "FROM parquet_metadata('{secret}')",
    "FROM sqlite_scan('{file}', 'traces')",
    "SELECT getenv('HOME')",
    "FROM pg_catalog.pg_settings",
    "SELECT current_setting('secret_directory')",
    "",
    "-- nothing",
    "sekect 1",
    "SELECT * FROM nowhere",
    "SELECT " + "[" * 3000 + "]" * 3000,
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with a table's worth of rows, and a secret beside it. Nothing changes it."""
    folder = tmp_path_factory.mktemp("target")
    (folder / "secret.txt").write_text("launch code\n")
    with Warehouse(folder / "w.duckdb") as store, store.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO domains SELECT range::VARCHAR, 'd', 'x' FROM range(100)"
        )
    return folder / "w.duckdb"


def everything_in(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def answered(target: Path, sql: str, whole: bool) -> None:
    """As `ask` does; unless `whole`, what the parser refuses starts no process, for a second."""
    if not whole:
        require_select(sql)
    ask(target, sql)


@pytest.mark.parametrize("sql", WRITES)
def test_what_is_no_select_changes_and_reveals_nothing(target: Path, sql: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        filled = sql.format(
            file=target, folder=target.parent, secret=target.with_name("secret.txt"),
            port=listener.getsockname()[1],
        )  # fmt: skip
        before = everything_in(target.parent)
        with pytest.raises(InvalidInput) as refused:
            answered(target, filled, WRITES.index(sql) % 6 == 0)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert everything_in(target.parent) == before
    assert "launch" not in str(refused.value).replace(filled, "")


@pytest.mark.parametrize(
    "sql",
    ["SELECT count(*) FROM domains", "FROM domains", "TABLE domains", "DESCRIBE coverage",
     "SHOW TABLES", "SUMMARIZE domains", "VALUES (1)", "WITH a AS (FROM domains) SELECT * FROM a",
     "PIVOT domains ON name IN ('d') USING count(*)", "SELECT unnest([1, 2])", "FROM range(3)",
     "SELECT column_name FROM duckdb_columns()", "SELECT * FROM information_schema.tables"],
)  # fmt: skip
def test_what_reads_is_answered(target: Path, sql: str) -> None:
    assert ask(target, sql).num_rows > 0


@pytest.mark.parametrize("sql", [sql for sql in WRITES if "COPY" in sql or "ATTACH" in sql])
def test_a_reader_cannot_write_its_own_file_either(target: Path, sql: str) -> None:
    """Past the parser: the connection itself, which audits and notebooks use as well."""
    before = everything_in(target.parent)
    filled = sql.format(file=target, folder=target.parent).replace(":", r"\:")
    with Warehouse(target, read_only=True) as store, pytest.raises(PosterityError):
        store.frame(filled)
    assert everything_in(target.parent) == before


def test_the_kernel_refuses_to_write(target: Path) -> None:
    """Past DuckDB: a process that gave up writing cannot, whatever code runs in it."""
    program = (
        "import sys\nfrom warehouse.sandbox.process import give_up_writing\n"
        "print(give_up_writing(network=False))\n"
        "for mode in ('wb', 'ab', 'r+b'):\n"
        "    try:\n        open(sys.argv[1], mode).write(b'x' * 10)\n        print('written')\n"
        "    except OSError as error:\n        print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(target)], capture_output=True, text=True, check=True
    )
    kernel, *tries = done.stdout.split()
    wanted = "PermissionError" if kernel == "True" else "OSError"  # the limit on file sizes alone
    assert set(tries) == {wanted}


@pytest.mark.parametrize(
    "place",
    ["'/lake/rows/x.parquet'", "'rows/**'", "'s3://lake/x'", '"x.parquet"', "duckdb_databases"],
)
def test_a_query_on_a_lake_reads_no_file_of_its_rows(place: str) -> None:
    """They may hold what was erased since."""
    with pytest.raises(InvalidInput, match="no files"):
        require_select(f"FROM {place}", lake=True)
    require_select('WITH "my rows" AS (FROM traces) FROM "my rows"', lake=True)


def test_random_statements_change_nothing(target: Path) -> None:
    """Whatever the parser lets through runs on a locked connection, and some of it as users' SQL
    does, in a process of its own; no byte changes.
    """
    before, rng, passed = everything_in(target.parent), Random(0), list[str]()
    heads = ["", "EXPLAIN ", "EXPLAIN ANALYZE ", "WITH a AS (SELECT 1) ", "DESCRIBE ", "SUMMARIZE "]
    bodies = [sql.format(file=target, folder=target.parent, secret="s", port=1) for sql in WRITES]
    bodies += ["SELECT 1", "FROM domains", "SELECT * FROM domains, range(3)", "VALUES (1)"]
    tails = ["", ";", "; SELECT 1", " -- x", " /* x */", " UNION ALL SELECT 1", " LIMIT 1", ")"]
    locked = duckdb.connect(str(target), read_only=True)
    for statement in ("SET disabled_filesystems = 'LocalFileSystem'", "SET lock_configuration = 1"):
        locked.execute(statement)
    for _ in range(STATEMENTS):
        sql = rng.choice(heads) + rng.choice(bodies) + rng.choice(tails)
        if rng.random() < 0.3:
            cut = rng.randrange(len(sql) + 1)
            sql = sql[:cut] + rng.choice([" ", "'", '"', ";", "(", ")", "--"]) + sql[cut:]
        try:
            require_select(sql)
            passed.append(sql)
            locked.execute(sql).fetchall()
        except (InvalidInput, duckdb.Error):
            continue
    locked.close()
    assert len(passed) > 50
    for sql in passed[::50]:
        with suppress(InvalidInput):
            ask(target, sql)
    assert everything_in(target.parent) == before


@pytest.mark.parametrize(
    ("sql", "seconds", "why"),
    [
        ("SELECT count(*) FROM range(1000000000000)", 6, "longer than 6"),
        ("WITH RECURSIVE a AS (SELECT 1 UNION ALL FROM a) FROM a", 6, "longer|memory"),
        ("SELECT repeat('x', 4000000000)", 60, "memory"),
        ("FROM range(1001)", 60, "more than 1,000 rows"),  # a busy machine starts it slowly
    ],
)
def test_a_query_is_held_to_its_limits(target: Path, sql: str, seconds: float, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        ask(target, sql, Limits(seconds=seconds, memory="200MB", rows=1000))


@pytest.mark.parametrize("memory", ["1kb", "31MB", "0GB"])
def test_memory_that_is_too_little_to_open_a_warehouse_is_told(target: Path, memory: str) -> None:
    with pytest.raises(InvalidInput, match=f"--memory {memory}: .* at least 32MB"):
        ask(target, "SELECT 1", Limits(memory=memory))


def test_ctrl_c_ends_a_query_at_once(target: Path) -> None:
    program = "import sys; from flows.commands.main import main; sys.argv[0] = 'posterity'; main()"
    command = [sys.executable, "-c", program, "query", "--warehouse", str(target)]
    sql = "SELECT count(*) FROM range(1000000000000)"
    asking = subprocess.Popen(
        [*command, sql], stderr=subprocess.PIPE, text=True,
        # A shell's job in the background ignores Ctrl-C, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not at_work(asking.pid, "warehouse.sandbox"):
        assert asking.poll() is None
        time.sleep(0.1)
    time.sleep(1)  # it waits for the answer now
    os.kill(asking.pid, signal.SIGINT)
    _, said = asking.communicate(timeout=30)
    assert asking.returncode == 3
    assert said.startswith("interrupted")


@pytest.mark.parametrize(
    "sql",
    ["1; DROP TABLE traces", "1) FROM t; SELECT (1", "1) UNION SELECT (2", "1) AS a, (SELECT 2",
     "1) FROM other -- ", "", "SELECT", "(SELECT x FROM read_text('s'))",
     "(SELECT * FROM postgres_query('catalogue', 'SELECT 1'))", "1) FROM (SELECT 1",
     "unnest([1, 2])", "1 + unlist([1])", "regexp_split_to_table(text, '\n')",
     "generate_subscripts([1, 2], 1)", "COLUMNS('a|b')", "COLUMNS(*)", "*"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(sql: str) -> None:
    with pytest.raises(InvalidInput):
        require_expression(sql)


def test_expressions_pass() -> None:
    for sql in ("text LIKE '%:%'", "plan_length + 1", "(SELECT max(size) FROM tasks)", "1 -- why",
                "(SELECT max(x) FROM (SELECT unnest([1, 2]) AS x))"):  # fmt: skip
        require_expression(sql)


def test_pivot_must_name_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    with Warehouse(file):
        pass
    pivot = "FROM (PIVOT (SELECT 'x' AS a, 1 AS b) ON a {}USING max(b))"
    assert ask(file, pivot.format("IN ('x', 'y') ")).to_pylist() == [{"x": 1, "y": None}]
    with pytest.raises(InvalidInput, match="PIVOT must name its columns"):
        ask(file, pivot.format(""))


def test_the_process_of_a_query_has_given_up_writing(tmp_path: Path) -> None:
    """Not only its parser and DuckDB keep it from that: the kernel does."""
    Warehouse(tmp_path / "w.duckdb").close()
    long = partial(ask, sql="SELECT count(*) FROM range(1000000000000)", limits=Limits(seconds=30))
    with ThreadPoolExecutor(1) as pool:
        asked, told = pool.submit(long, tmp_path / "w.duckdb"), ""
        while "NoNewPrivs:\t1" not in told:
            assert not asked.done(), told
            for child in at_work(os.getpid(), "warehouse.sandbox"):
                with suppress(OSError):
                    told = Path(f"/proc/{child}/status").read_text()
            time.sleep(0.05)
        for child in at_work(os.getpid(), "warehouse.sandbox"):
            os.kill(child, signal.SIGKILL)
        with pytest.raises(PosterityError):
            asked.result(timeout=30)
