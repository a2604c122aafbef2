"""A warehouse on DuckLake with a real PostgreSQL: one contents, whoever writes, killed or not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flows.audit.known import Check
from flows.audit.verify import verify, verify_and_tell
from flows.deployment.answered import Told, as_line
from flows.deployment.forgetting import forget
from flows.deployment.loading import load_requests, requests_folder
from flows.deployment.log import Log
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.progress import Watch
from planners.errors import Busy, InvalidInput, LeaseLost
from planners.models.hardware import use_threads
from tests.conftest import small
from tests.flows.deployment.test_log import NOW, answer
from tests.postgres import Postgres, create_database
from tests.warehouse.test_store import ROW
from warehouse import records, schema
from warehouse.export import export
from warehouse.findings import Forgotten
from warehouse.places.lease import leased
from warehouse.pool import written_traits
from warehouse.sandbox.query import ask
from warehouse.store import Warehouse

NUMBERS = count()


@pytest.fixture
def lake(postgres: str, tmp_path: Path) -> str:
    """The URL of a new lake."""
    catalogue = create_database(postgres, f"lake{next(NUMBERS)}")
    return f"ducklake:postgres:{catalogue}?data={tmp_path / 'shared'}"


@pytest.fixture(scope="module")
def empty(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A lake without rows, for readers."""
    catalogue = create_database(postgres, f"lake{next(NUMBERS)}")
    url = f"ducklake:postgres:{catalogue}?data={tmp_path_factory.mktemp('lake') / 'shared'}"
    Warehouse(url).close()
    with Warehouse(url, read_only=True) as store:
        yield store


def contents(where: str | Path) -> dict[str, list[dict[str, Any]]]:
    with Warehouse(where, read_only=True) as store:
        return {
            name: store.frame(f"SELECT * FROM {name} ORDER BY ALL").to_dict("records")
            for name in (*schema.metadata.tables, "progress", "lineage")
        }


def test_the_loop_ends_with_the_same_contents_as_in_a_file(
    lake: str, finished: Path, tmp_path: Path
) -> None:
    use_threads(1)
    with Warehouse(lake) as store:
        iterate(store, Experiment.model_validate(small()), Watch(quiet=True))
    assert str(contents(lake)) == str(contents(finished))
    with Warehouse(lake) as store:
        iterate(store, Experiment.model_validate(small()), Watch(quiet=True))
        assert verify_and_tell(store, Watch(quiet=True))
    assert str(contents(lake)) == str(contents(finished))
    assert ask(lake, "SELECT max(generation) AS g FROM progress").to_pylist() == [{"g": 2}]
    with Warehouse(lake, read_only=True) as store:
        assert export(store, tmp_path / "out")["traces"] > 0


def keys(store: Warehouse) -> Check:
    """What `verify` says of the keys, which the database does not enforce."""
    return next(check for check in verify(store, Watch(quiet=True)) if check.name == "keys")


def test_verify_finds_a_key_that_stands_twice(lake: str) -> None:
    with Warehouse(lake) as store:
        for _ in range(2):
            store.record({schema.domains: [{"domain_hash": "d", "name": "n", "pddl": "p"}]})
        assert keys(store).wrong == []
        with store.writing() as connection:
            connection.execute(sa.insert(schema.domains).values(domain_hash="d", name="n", pddl=""))
        (wrong,) = keys(store).wrong
        assert wrong == "domains: {'domain_hash': 'd'} occurs more than once"


WRITER = """
import sys
from random import Random
from tests.warehouse.test_store import ROW
from warehouse import schema
from warehouse.records import Mark
from warehouse.store import Warehouse
rng = Random(int(sys.argv[2]))
with Warehouse(sys.argv[1]) as store:
    for part in range(int(sys.argv[3])):
        rows = [{**ROW, "task": str(rng.randrange(200))} for _ in range(20)]
        store.record({schema.tasks: rows}, Mark(sys.argv[2], 0, "write", part))
        print(" ".join(row["task"] for row in rows), flush=True)
"""


def writer(folder: Path, lake: str, number: int, parts: int) -> subprocess.Popen[str]:
    script = folder / f"writer{number}.py"  # its own: another start would truncate a shared one
    script.write_text(WRITER)
    return subprocess.Popen(
        [sys.executable, script, lake, str(number), str(parts)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(schema.__file__).parents[1])},
    )


def test_four_processes_write_at_once(lake: str, tmp_path: Path) -> None:
    writers = [writer(tmp_path, lake, number, 6) for number in range(4)]
    told = [process.communicate(timeout=120)[0] for process in writers]
    assert [process.returncode for process in writers] == [0] * 4
    assert [one.count("\n") for one in told] == [6] * 4
    with Warehouse(lake) as store:
        stored = store.frame("SELECT task FROM tasks")["task"].tolist()
        assert len(stored) == len(set(stored)), "a key stands twice"
        assert set(stored) == set(" ".join(told).split())
        assert [len(store.done(str(number), 0, "write")) for number in range(4)] == [6] * 4


def test_a_killed_writer_leaves_whole_parts_and_gives_up_its_turn(
    lake: str, tmp_path: Path
) -> None:
    Warehouse(lake).close()
    killed, told = writer(tmp_path, lake, 1, 10_000), ""
    assert killed.stdout is not None
    for _ in range(3):
        told += killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    told += killed.communicate()[0]
    with Warehouse(lake) as store:
        store.record({schema.tasks: [{**ROW, "task": "mine"}]})
        parts = store.done("1", 0, "write")
        assert parts == set(range(len(parts)))
        assert len(parts) - told.count("\n") in (0, 1)
        stored = set(store.frame("SELECT task FROM tasks")["task"])
        assert set(told.split()) | {"mine"} <= stored


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM traces",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM postgres_query('__ducklake_metadata_warehouse', 'SELECT 1 AS a')",
        "SELECT (SELECT a FROM postgres_query('__ducklake_metadata_warehouse', 'SELECT 1 AS a'))",
        "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 'x')",
        "SELECT * FROM __ducklake_metadata_warehouse.ducklake_metadata",
        "SELECT * FROM query('SELECT 1')",
        "EXPLAIN SELECT 1",
    ],
)
def test_queries_only_read_the_lake(empty: Warehouse, sql: str) -> None:
    with pytest.raises(InvalidInput):
        ask(str(empty.place), sql)
    with pytest.raises(InvalidInput):
        written_traits(empty, "e", {"x": f"({sql})"}, 0)


def test_a_query_of_the_lake_is_answered(empty: Warehouse) -> None:
    counted = ask(str(empty.place), "SELECT count(*) AS n FROM tasks, range(3)")
    assert counted.to_pylist() == [{"n": 0}]


def test_lakes_that_cannot_be(lake: str, tmp_path: Path) -> None:
    for url, message in {
        "ducklake:here": "is not of the form",
        "ducklake:postgres:host=x password=y?data=/z": "PGPASSWORD",
        "ducklake:postgres:host=x?data=/z&rows=/elsewhere": "no place on object storage",
        "ducklake:postgres:host=x?data=/z&rows=s3://": "no place on object storage",
        "ducklake:postgres:host=x?data=/z&lines=s3://a": "is not of the form",
        "ducklake:postgres:postgresql://bob:y@x/lake?data=/z": "PGPASSWORD",
        lake.replace("lake", "missing").replace(
            "ducklake".replace("lake", "missing"), "ducklake"
        ): ("cannot be reached"),
        f"ducklake:postgres:host=127.0.0.1 port=1 dbname=x?data={tmp_path}": "cannot be reached",
    }.items():
        with pytest.raises(InvalidInput, match=message):
            Warehouse(url)
    with pytest.raises(InvalidInput, match="there is no folder"):
        Warehouse(lake, read_only=True)
    Warehouse(lake).close()
    (tmp_path / "other" / "rows").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="was made with another data folder"):
        Warehouse(lake.replace("shared", "other"))


HOLD = """
import sys
from warehouse.store import Warehouse
with Warehouse(sys.argv[1]) as store, store.working_on("e"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_works_on_an_experiment(lake: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, lake], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with Warehouse(lake) as store:
        told = f"process {holder.pid} of .* is at work on e"
        with pytest.raises(Busy, match=told), store.working_on("e"):
            raise AssertionError
        with store.working_on("another"):
            store.record({schema.domains: [{"domain_hash": "d", "name": "n", "pddl": "p"}]})
        holder.communicate(timeout=60)  # it ends, and gives its lease back
        with store.working_on("e"):
            pass


def test_a_killed_holder_loses_its_lease_and_a_late_one_cannot_write(lake: str) -> None:
    late = [{"domain_hash": "late", "name": "n", "pddl": "p"}]
    with Warehouse(lake) as one, Warehouse(lake) as other:
        with one.working_on("e"):
            with pytest.raises(Busy), other.working_on("e"):
                raise AssertionError
            _expire_all(other)  # as if the first had been held up for a minute
            with other.working_on("e"):
                with pytest.raises(LeaseLost, match="took the lease of e"):
                    one.record({schema.domains: late})
                other.record({schema.domains: [{**late[0], "domain_hash": "d"}]})
        assert one.frame("SELECT domain_hash FROM domains")["domain_hash"].tolist() == ["d"]


def test_a_lost_lease_is_not_renewed_back(lake: str) -> None:
    with Warehouse(lake) as one, Warehouse(lake) as other, leased(one.engine, "e") as lost:
        _expire_all(other)
        with leased(other.engine, "e") as held:
            _expire_all(other)  # nor where the new holder's has expired as well
            lost.renew(one.engine)
            with other.engine.connect() as connection:
                assert held.held_by(connection) == held.holder
        lost.renew(one.engine)
        with one.engine.connect() as connection:
            assert lost.held_by(connection) is None


def _expire_all(store: Warehouse) -> None:
    past = "UPDATE posterity_leases SET expires = clock_timestamp() - interval ''1 second''"
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"CALL postgres_execute('catalogue', '{past}')")


def test_readers_with_other_limits_share_a_process(lake: str) -> None:
    """A gateway looks which generation is deployed while the pages beside it hold the lake open."""
    count = "SELECT count(*) AS n FROM experiments"
    with Warehouse(lake) as store:
        store.write([records.Experiment("e-1", "1", "e", 0, "{}", "v")])
    with Warehouse(lake, read_only=True, memory="600MB") as pages:
        assert pages.frame(count)["n"].tolist() == [1]
        with Warehouse(lake) as store:
            store.write([records.Experiment("e-2", "1", "e", 0, "{}", "v")])
        for _ in range(2):
            with Warehouse(lake, read_only=True) as gateway:
                assert gateway.frame(count)["n"].tolist() == [2]


def test_a_lake_forgets_a_user(lake: str, tmp_path: Path, postgres_server: Postgres) -> None:
    """No byte of it is left in the lake's files, nor in its catalogue's tables."""
    word, kept = "zzebrastripes", "bobstayshere"
    with Warehouse(lake) as store:
        store.write([records.Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
        log = Log(requests_folder(store.place))
        for number, user in enumerate([word, kept] * 4):
            said = answer(number, user=user, text=f"{user} {number}", metadata={"note": user})
            log.append(as_line(said)).result(timeout=10)
            told = Told(trace=said.trace, accepted=True, given=NOW, comment=user)
            log.append(as_line(told)).result(timeout=10)
            if number == 3:  # some rows go to a file, and the later ones wait in the catalogue
                log.close()
                load_requests(store)
                with store.engine.connect() as connection:
                    connection.exec_driver_sql("CALL ducklake_flush_inlined_data('warehouse')")
                log = Log(requests_folder(store.place))
        log.close()
        load_requests(store)
        asked = {one.id for one in store.traces("e-1") if word in one.text}
        with store.engine.begin() as connection:  # as the server does when it finds the time
            connection.exec_driver_sql("CALL postgres_execute('catalogue', 'ANALYZE')")
        erased = forget(store, user=[word])
        assert {one.trace for one in store.every(Forgotten)} == asked
    assert (erased.traces, erased.left) == (4, [])
    assert sum(kept in row["text"] for row in contents(lake)["traces"]) == 4
    catalogue = postgres_server.data
    assert catalogue.is_dir()
    for file in (*(tmp_path / "shared").rglob("*"), *catalogue.rglob("*")):
        if file.is_file() and "pg_wal" not in file.parts:
            assert word.encode() not in file.read_bytes(), file
