"""A lake whose rows are on object storage: a real PostgreSQL, and an S3 server on loopback."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from flows.audit.verify import verify_and_tell
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.progress import Watch
from planners.errors import ComponentFailure, InvalidInput
from planners.models.hardware import use_threads
from tests.conftest import contents, small
from tests.objects import BUCKET, object_storage, stored
from tests.postgres import create_database
from tests.warehouse.test_store import ROW
from warehouse import schema
from warehouse.places import lake as lakes
from warehouse.places.connect import connect, place_of
from warehouse.sandbox.query import ask, require_select
from warehouse.store import Warehouse

NUMBERS = count()
QUIET = Watch(quiet=True)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_storage(tmp_path_factory.mktemp("objects")) as variables:
        yield variables


@pytest.fixture
def lake(
    postgres: str, objects: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The URL of a new lake with its rows in a bucket."""
    for name, value in objects.items():
        monkeypatch.setenv(name, value)
    number = next(NUMBERS)
    catalogue = create_database(postgres, f"objects{number}")
    return f"ducklake:postgres:{catalogue}?data={tmp_path / 'shared'}&rows=s3://{BUCKET}/l{number}"


def test_a_generation_on_object_storage_is_the_same_as_in_a_file(
    lake: str, objects: dict[str, str], tmp_path: Path
) -> None:
    use_threads(1)
    for place in (lake, tmp_path / "w.duckdb"):
        with Warehouse(place) as store:
            iterate(store, Experiment.model_validate(small()), QUIET, last=0)
    assert contents(lake) == contents(tmp_path / "w.duckdb")
    assert not list((tmp_path / "shared").rglob("*.parquet"))
    assert sum(name.endswith(".parquet") for name in stored(objects["AWS_ENDPOINT_URL"])) > 3
    assert ask(lake, "SELECT max(generation) AS g FROM progress").to_pylist() == [{"g": 0}]
    with Warehouse(lake, read_only=True) as store:
        assert verify_and_tell(store, QUIET)


REFUSED = {
    "FROM 's3://rows/other.parquet'": "no files",
    "SELECT * FROM read_parquet('s3://rows/*')": "is refused",
    "SELECT * FROM duckdb_secrets()": "is refused",
    "SELECT * FROM which_secret('s3://rows/a', 's3')": "is refused",
    "FROM __ducklake_metadata_warehouse.ducklake_metadata": "no other catalog",
}


def test_a_query_reaches_nothing_else_and_sees_no_key(lake: str) -> None:
    Warehouse(lake).close()
    names = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token")
    settings = {f"SELECT current_setting('{name}')": "database's settings" for name in names}
    for sql, why in (REFUSED | settings).items():
        with pytest.raises(InvalidInput, match=why):
            require_select(sql, lake=True)
    with pytest.raises(InvalidInput, match="no files"):
        ask(lake, next(iter(REFUSED)))
    # Nor are they there, where a query finds another way to settings.
    columns = ", ".join(f"current_setting('{name}') AS {name}" for name in names)
    engine = connect(place_of(lake), read_only=True)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT {columns}").mappings().all()
    engine.dispose()
    assert [dict(row) for row in found] == [dict.fromkeys(names, "")]


def test_small_files_are_joined_while_others_read(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lakes, "MANY_FILES", 5)
    rows = [[{**ROW, "task": f"{part} {row}"} for row in range(200)] for part in range(8)]
    with Warehouse(lake) as store, Warehouse(lake, read_only=True) as reader:
        for some in rows:
            store.record({schema.tasks: some})
        files = "SELECT sum(file_count) AS n FROM ducklake_table_info('warehouse')"
        before = store.frame(files)["n"][0]
        assert reader.count(schema.tasks) == 1600
        store.publish()
        assert store.frame(files)["n"][0] < before
        assert reader.count(schema.tasks) == store.count(schema.tasks) == 1600


def test_what_is_missing_or_unreachable_is_said(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with (
        pytest.raises(ComponentFailure, match="the object storage of the warehouse") as failed,
        Warehouse(lake) as store,
    ):
        store.record({schema.tasks: [{**ROW, "task": str(row)} for row in range(200)]})
    assert "secret-of-mine" not in str(failed.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InvalidInput, match="need AWS_SECRET_ACCESS_KEY to be set"):
        Warehouse(lake)
