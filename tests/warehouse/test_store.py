"""The warehouse file: whole transactions, once each; refused where it cannot be trusted."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa

from flows.generations.judging import VERSION
from planners.checking.checker import CHECKER
from planners.errors import ComponentFailure, InvalidInput
from warehouse import schema
from warehouse.findings import Figure, Forgotten
from warehouse.integrity import written_otherwise
from warehouse.load import as_arrow, insert
from warehouse.migrations import MIGRATIONS
from warehouse.places.connect import VIEWS, connect, view_sql
from warehouse.places.file import File
from warehouse.records import Mark, Task
from warehouse.sandbox.query import ask
from warehouse.schema import TABLES
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement

TASK = Task("k", "d", "blocksworld", 3, 1, "(...)")
ROW = {stored: getattr(TASK, name) for name, stored in Task.columns().items()}


def test_every_table_and_column_has_its_sentence(warehouse: Warehouse) -> None:
    for table in schema.metadata.tables.values():
        assert (table.comment or "").endswith(".")
        for column in table.columns:
            assert (column.comment or "").endswith("."), f"{table.name}.{column.name}"
    stored = warehouse.frame("SELECT comment FROM duckdb_columns() WHERE table_name = 'traces'")
    assert set(stored["comment"]) == {c.comment for c in schema.traces.columns}


def test_view_files_and_registry_agree() -> None:
    folder = Path(schema.__file__).parent / "views"
    assert {file.stem for file in folder.glob("*.sql")} == set(VIEWS)
    for name in VIEWS:
        assert view_sql(name).startswith("-- One row"), f"{name}: the first line says the grain"


def test_rows_come_back_and_twice_is_once(warehouse: Warehouse) -> None:
    for _ in range(2):
        warehouse.write([TASK], Mark("e", 0, "prepare"))
    assert warehouse.frame("SELECT * FROM tasks").to_dict("records") == [ROW]
    assert warehouse.done("e", 0, "prepare") == {0}


def test_rows_and_mark_are_one_transaction(warehouse: Warehouse) -> None:
    broken = {**ROW, "pddl": None}
    with pytest.raises(Exception, match=r"(?i)null"):
        warehouse.record(
            {
                schema.domains: [{"domain_hash": "d", "name": "n", "pddl": "p"}],
                schema.tasks: [broken],
            },
            Mark("e", 0, "x", 0),
        )
    assert warehouse.frame("SELECT * FROM domains").empty
    assert warehouse.done("e", 0, "x") == set()


def test_threads_that_write_the_same_keys_write_them_once(warehouse: Warehouse) -> None:
    def write(number: int) -> None:
        keys = [number % 3, *range(20), number % 5]  # some twice
        warehouse.record({schema.tasks: [{**ROW, "task": str(key)} for key in keys]})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(12)))
    assert warehouse.count(schema.tasks) == 20


def test_bulk_load_takes_arrow_and_lists(warehouse: Warehouse) -> None:
    with warehouse.writing() as connection:
        insert(connection, schema.tasks, pa.Table.from_pylist([ROW]))
        insert(connection, schema.tasks, [])
    assert len(warehouse.frame("SELECT * FROM tasks")) == 1


def test_of_rows_with_one_key_the_first_stays(warehouse: Warehouse) -> None:
    """However many there are: what others refer to is what was written first."""
    rows = [ROW | {"task": str(number % 1000), "pddl": str(number)} for number in range(200_000)]
    with warehouse.writing() as connection:
        insert(connection, schema.tasks, pa.Table.from_pylist(rows))
    kept = warehouse.frame("SELECT task, pddl FROM tasks")
    assert len(kept) == 1000
    assert (kept["task"] == kept["pddl"]).all()


def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with Warehouse(path) as store, store.writing() as connection:
        connection.execute(
            sa.update(schema.schema_version).values(version=schema.SCHEMA_VERSION + 1)
        )
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="newer than"):
        Warehouse(path)
    assert path.read_bytes() == before


def test_the_ledger_is_of_what_is_there_however_it_came(warehouse: Warehouse) -> None:
    """New rows, rows that are there already, replaced findings: the ledger follows."""
    figure = Figure("e", 1, "bounds", "min_ess", "held", 1.0, "a note")
    warehouse.write([figure, figure])
    warehouse.write([figure, replace(figure, measure="value", value=None)])
    assert written_otherwise(warehouse) == (2, [])
    warehouse.replace_audit("e", [replace(figure, value=0.1 + 0.2)], 1)
    assert written_otherwise(warehouse) == (1, [])
    with warehouse.writing() as connection:
        connection.exec_driver_sql("UPDATE audits SET value = 0.3")
    [wrong] = written_otherwise(warehouse)[1]
    assert wrong == "audits: rows were changed after they were written"


FOLDER = Path(__file__).parent / "schemas"
SCHEMAS = sorted(FOLDER.glob("*.sql"), key=lambda path: int(path.stem))
DESCRIBED = """
    SELECT table_name, c.column_name, c.data_type, c.is_nullable, c.column_index, c.comment,
        t.comment AS of_table
    FROM duckdb_columns() AS c LEFT JOIN duckdb_tables() AS t USING (table_name)
    WHERE NOT c.internal ORDER BY ALL
"""

CONSTRAINTS = """
    SELECT table_name, constraint_type, constraint_column_names FROM duckdb_constraints()
    ORDER BY ALL
"""


@pytest.mark.parametrize(
    ("old", "read_only"),
    [(old, True) for old in SCHEMAS] + [(old, False) for old in (SCHEMAS[0], SCHEMAS[-1])],
    ids=lambda one: one.stem if isinstance(one, Path) else str(one),
)
def test_an_older_schema_is_backed_up_and_migrated(
    old: Path, read_only: bool, tmp_path: Path, warehouse: Warehouse
) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(old.read_text("utf-8"))
    before = path.read_bytes()
    for _ in range(2):
        with Warehouse(path, read_only) as store:
            for sql in (DESCRIBED, CONSTRAINTS):
                assert store.frame(sql).equals(warehouse.frame(sql))
            assert store.frame("SELECT text FROM traces")["text"].tolist() == ["(a b)"]
            owner = ("trace", "experiment", "generation", "purpose", "task")
            assert store.rows(sa.select(*(schema.judgements.c[name] for name in owner))) == [
                {"trace": "t", "experiment": "e", "generation": 0, "purpose": "deploy", "task": "k"}
            ]
            decided = [(one.generation, one.promoted) for one in store.promotions("e")]
            assert decided == [(one.index, True) for one in store.generations("e")]
    backup = tmp_path / f"old.duckdb.schema-{old.stem}.backup"
    assert backup.read_bytes() == before
    assert {file.name for file in tmp_path.glob("old*")} == {path.name, backup.name}


@pytest.mark.parametrize("read", ["w.duckdb", "w.duckdb.snapshot"])
def test_what_an_older_version_published_is_published_anew(read: str, tmp_path: Path) -> None:
    for name in ("w.duckdb", "w.duckdb.snapshot"):
        with duckdb.connect(tmp_path / name) as connection:
            connection.execute(SCHEMAS[-1].read_text("utf-8"))
    for name in (read, "w.duckdb.snapshot"):
        with Warehouse(tmp_path / name, read_only=True) as store:
            assert store.frame("SELECT version FROM schema_version")["version"].tolist() == [
                schema.SCHEMA_VERSION
            ]
    (tmp_path / "w.duckdb").unlink()
    with duckdb.connect(tmp_path / "w.duckdb.snapshot") as connection:
        connection.execute("UPDATE schema_version SET version = version - 1")
    with pytest.raises(InvalidInput, match="which is gone: rename it"):
        Warehouse(tmp_path / "w.duckdb.snapshot", read_only=True)
    assert not (tmp_path / "w.duckdb").exists()


def test_a_task_of_an_experiment_keeps_its_horizon(tmp_path: Path) -> None:
    """Schema 11: the horizon was the task's, whichever experiment had written it."""
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute((FOLDER / "11.sql").read_text("utf-8"))
    with Warehouse(path) as store:
        assert store.frame("SELECT horizon FROM experiment_tasks")["horizon"].tolist() == [4]


def test_ingested_traces_get_their_one_generation(tmp_path: Path) -> None:
    """Schema 6: -1 in every table, and what users had said is a field of the decision."""
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute((FOLDER / "5.sql").read_text("utf-8"))
        for trace, reason in (("a", "accepted by its user"), ("b", "no feedback")):
            connection.execute(
                f"INSERT INTO traces BY NAME SELECT * REPLACE ('{trace}' AS trace, "
                "'ingest' AS purpose, 'shop' AS experiment) FROM traces WHERE trace = 't'"
            )
            connection.execute(
                f"INSERT INTO judgements BY NAME SELECT * REPLACE ('{trace}' AS trace, "
                "'ingest' AS purpose, 'shop' AS experiment) FROM judgements WHERE trace = 't'"
            )
            connection.execute(
                f"INSERT INTO selections BY NAME SELECT * REPLACE ('{trace}' AS trace, "
                f"-1 AS from_generation, '{reason}' AS reason) FROM selections WHERE trace = 't'"
            )
            connection.execute(f"INSERT INTO feedback VALUES ('{trace}', true)")
    with Warehouse(path) as store:
        for table in ("traces", "judgements"):
            sql = f"SELECT DISTINCT generation FROM {table} WHERE purpose = 'ingest'"
            assert store.frame(sql)["generation"].tolist() == [-1]
        said = store.frame("SELECT trace, accepted FROM selections ORDER BY trace")
        assert said["accepted"].tolist() == [True, None, None]


def test_every_record_is_a_row_of_its_table() -> None:
    for kind, table in TABLES.items():
        assert set(kind.columns().values()) == {c.name for c in table.columns}, kind


def test_every_earlier_schema_has_its_file_and_its_migration() -> None:
    earlier = list(range(1, schema.SCHEMA_VERSION))
    assert sorted(int(path.stem) for path in SCHEMAS) == earlier
    assert [migration.version - 1 for migration in MIGRATIONS] == earlier


def test_a_migration_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    """Or whatever was changed before it would count as written."""
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(next(one for one in SCHEMAS if one.stem == "8").read_text("utf-8"))
    with Warehouse(path) as store:
        ledger = store.frame("FROM ledger").set_index("name")["rows"]
        assert ledger["traces"] == 0, "a row that nobody entered"
        assert ledger["studies"] == 0
        assert any("traces" in line for line in written_otherwise(store)[1])


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(SCHEMAS[0].read_text("utf-8"))
        connection.execute("ALTER TABLE traces ADD COLUMN written_at TIMESTAMP")  # in its way
    with pytest.raises(Exception, match="written_at"):
        Warehouse(path)
    with duckdb.connect(path) as connection:
        tables = {name for (name,) in connection.execute("SHOW TABLES").fetchall()}
        assert "feedback" not in tables
        assert connection.execute("SELECT * FROM schema_version").fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["", ":memory:", "x.duckdb.snapshot"])
def test_what_would_keep_nothing_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"no warehouse: it is|write to x"):
        Warehouse(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [":memory:x", "./:memory:", "sqlite:x.db", "run:1.duckdb"])
def test_a_name_that_means_something_to_duckdb_is_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Warehouse(File(Path(name))) as store:
        store.write([TASK])
        store.publish()
    assert (tmp_path / name).is_file()
    with Warehouse(File(Path(name)), read_only=True) as store:
        assert store.count(schema.tasks) == 1


def test_a_database_of_another_kind_is_refused_without_fetching_what_reads_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "s.db").write_bytes(b"SQLite format 3\0" + bytes(4080))
    for read_only in (True, False):
        with pytest.raises(InvalidInput, match="not a DuckDB file"):
            Warehouse(tmp_path / "s.db", read_only=read_only)


def test_a_verdict_that_comes_after_a_trace_was_forgotten_is_not_kept(
    warehouse: Warehouse,
) -> None:
    """On a lake, another machine may forget what this one is judging."""
    warehouse.forget([Forgotten("gone", "e", 0, "k", "x", datetime(2026, 1, 1))])
    own = {"experiment": "e", "generation": 0, "purpose": "request", "task": "k", "redundant": 0}
    verdicts = [
        Judgement(
            trace=trace,
            checker="posterity",
            checker_version="9",
            extraction_version="9",
            outcome="VALID",
            step=None,
            detail="",
            plan_length=1,
            cost=1.0,
            plan="(secret)",
            **own,
        )
        for trace in ("gone", "here")
    ]
    warehouse.write(verdicts)
    warehouse.record({schema.judgements: as_arrow(schema.judgements, verdicts)})  # by a worker
    assert [one.trace for one in warehouse.every(Judgement)] == ["here"]


def test_an_audit_takes_the_place_of_an_earlier_one_on_its_generations(
    warehouse: Warehouse,
) -> None:
    """A run asks of the generation that it just made, while an older audit waits for the file."""
    for index in (1, 2):
        warehouse.replace_audit("e", [Figure("e", index, "q", "n", "m", 1.0, "")], index)
    warehouse.replace_audit("e", [Figure("e", 1, "q", "other", "m", 2.0, "")])
    told = {(one.generation, one.name) for one in warehouse.every(Figure)}
    assert told == {(1, "other"), (2, "n")}


def test_foreign_files_are_refused_untouched(tmp_path: Path) -> None:
    text = tmp_path / "notes.duckdb"
    text.write_text("no database " * 500)
    with pytest.raises(InvalidInput, match="not a DuckDB file"):
        Warehouse(text)
    assert text.read_text() == "no database " * 500
    other = tmp_path / "other.duckdb"
    engine = sa.create_engine(f"duckdb:///{other}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE mine (x INTEGER)")
    engine.dispose()
    with pytest.raises(InvalidInput, match="not a warehouse of Posterity"):
        Warehouse(other)


def test_a_snapshot_is_what_was_written_so_far(warehouse: Warehouse) -> None:
    for number in range(3):
        warehouse.record({schema.tasks: [{**ROW, "task": str(number)}]})
        warehouse.publish()
        assert isinstance(warehouse.place, File)
        path = warehouse.place.snapshot
        warehouse.record({schema.tasks: [{**ROW, "task": f"later {number}"}]})
        counted = "SELECT count(*) AS n FROM tasks"
        assert ask(path, counted).to_pylist() == [{"n": 2 * number + 1}]
    with Warehouse(path, read_only=True) as other:
        assert other.checkpoints == warehouse.checkpoints
    assert not list(path.parent.glob("*.partial"))


def test_a_copy_whose_file_was_lost_is_not_written_over(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as store:
        store.publish()
    (tmp_path / "w.duckdb").unlink()
    with pytest.raises(InvalidInput, match="rename the copy to it"):
        Warehouse(tmp_path / "w.duckdb")
    assert not (tmp_path / "w.duckdb").exists()
    (tmp_path / "w.duckdb.snapshot").rename(tmp_path / "w.duckdb")
    Warehouse(tmp_path / "w.duckdb").close()


def test_a_snapshot_leaves_other_writers_locked_out(warehouse: Warehouse) -> None:
    warehouse.publish()
    code = f"import warehouse.store as s; s.Warehouse({str(warehouse.place)!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is open in another process" in other.stderr


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="there is no folder"):
        Warehouse(tmp_path / "file" / "w.duckdb")
    with pytest.raises(InvalidInput, match="there is no warehouse"):
        connect(File(tmp_path / "none.duckdb"), read_only=True)


def test_a_warehouse_open_elsewhere_names_the_process(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    code = (
        f"import warehouse.store as s; w = s.Warehouse({str(path)!r}); "
        "print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InvalidInput, match=rf"open in another process \(PID {other.pid}\)"):
            Warehouse(path)
        (tmp_path / "w.duckdb.snapshot").write_text("")
        with pytest.raises(InvalidInput, match=r"--warehouse \S+w\.duckdb\.snapshot$"):
            Warehouse(path, read_only=True)
        other.communicate("\n")


def test_a_query_answers(warehouse: Warehouse) -> None:
    warehouse.write([TASK])
    warehouse.close()
    assert ask(str(warehouse.place), "SELECT task, size FROM tasks").to_pylist() == [
        {"task": "k", "size": 3}
    ]


def test_memory_that_the_environment_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.duckdb"
    monkeypatch.setenv("POSTERITY_MEMORY", "200MB")
    with Warehouse(path) as store:
        assert store.frame("SELECT current_setting('memory_limit') AS m")["m"][0] == "190.7 MiB"
        # A writer goes on on disk where that is not enough.
        sorted_ = "SELECT count(*) AS n FROM (SELECT i FROM range(20000000) AS r(i) ORDER BY -i)"
        assert store.frame(sorted_)["n"][0] == 20_000_000
    with (
        Warehouse(path, read_only=True) as store,
        pytest.raises(ComponentFailure, match="than POSTERITY_MEMORY allows"),
    ):
        store.frame("SELECT list(i) AS l FROM range(100000000) AS r(i)")
    monkeypatch.setenv("POSTERITY_MEMORY", "lots")
    with pytest.raises(InvalidInput, match="expected a size such as 2GB"):
        Warehouse(path)


@pytest.mark.parametrize("span", [1, 7, 10**9])
def test_judged_traces_come_in_order_whatever_is_sorted_at_a_time(
    finished: Path, monkeypatch: pytest.MonkeyPatch, span: int
) -> None:
    monkeypatch.setattr("warehouse.reading.SPAN", span)
    with Warehouse(finished, read_only=True) as store:
        [experiment] = store.frame("SELECT DISTINCT experiment FROM traces")["experiment"]
        came = list(store.judged(experiment, CHECKER, VERSION))
        rows = store.frame("SELECT task, trace FROM traces ORDER BY task, trace")
        verdicts = {one.trace: one for one in store.every(Judgement)}
    assert [(one.task, one.id) for one, _ in came] == list(rows.itertuples(index=False, name=None))
    assert {trace.id: verdict for trace, verdict in came} == verdicts


@pytest.mark.parametrize("name", ["fresh.duckdb", 'a"b c.duckdb', "rewritten.duckdb", "main"])
def test_a_file_of_any_name_is_written_anew(name: str, tmp_path: Path) -> None:
    with Warehouse(tmp_path / name) as store:
        store.write([TASK])
        store.rewrite()
    with Warehouse(tmp_path / name, read_only=True) as store:
        assert store.count(schema.tasks) == 1
        assert not written_otherwise(store)[1]
