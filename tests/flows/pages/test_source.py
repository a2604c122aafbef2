"""How pages read: what was published last, anew when it was written, never in a writer's way."""

import shutil
import subprocess
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.pages.source import Source
from flows.progress import Watch, at_work
from planners.errors import InvalidInput
from tests.processes import posterity
from warehouse.store import Warehouse


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    shutil.copy(finished, tmp_path / "w.duckdb")
    return tmp_path / "w.duckdb"


def names(source: Source) -> list[str]:
    with source.reading() as store:
        return sorted(store.frame("SELECT name FROM experiments")["name"])


def rename(path: Path, name: str) -> None:
    with Warehouse(path) as store, store.writing() as connection:
        connection.exec_driver_sql("UPDATE experiments SET name = ?", (name,))


def test_what_is_written_is_read_and_made_anew(copied: Path) -> None:
    source = Source(str(copied))
    made: list[int] = []

    def make(store: Warehouse) -> str:
        made.append(1)
        return str(store.frame("SELECT name FROM experiments")["name"][0])

    assert source.kept("name", make) == source.kept("name", make) == "small"
    assert len(made) == 1
    with patch("flows.pages.source.MOST", 3):
        for number in range(9):  # as many as somebody asks for
            source.kept(number, lambda store: None)
    assert len(source._made) == 3
    rename(copied, "other")
    assert source.kept("name", make) == "other"
    assert len(made) == 2


def test_a_snapshot_is_read_while_a_writer_has_the_file(copied: Path) -> None:
    with Warehouse(copied) as store:
        store.publish()
    source = Source(str(copied))
    writing = (
        "import sys; from warehouse.store import Warehouse\n"
        f"store = Warehouse({str(copied)!r})\n"
        "with store.writing() as c: c.exec_driver_sql(\"UPDATE experiments SET name = 'new'\")\n"
        "print('written', flush=True); sys.stdin.readline(); store.publish(); store.close()"
    )
    command = [*posterity()[:1], "-c", writing]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "written\n"
        assert names(source) == ["small"], "what was published last"
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.wait(timeout=60) == 0
    assert names(source) == ["new"]


def test_writers_wait_for_a_page_and_do_not_fail(copied: Path) -> None:
    source = Source(str(copied))
    code = (
        "import time; from warehouse.store import Warehouse; print('ready', flush=True); input()\n"
        f"Warehouse({str(copied)!r}).close(); print(time.time())"
    )
    with subprocess.Popen(
        [*posterity()[:1], "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
        with source.reading() as store:
            writer.stdin.write("\n")
            writer.stdin.flush()
            time.sleep(1)
            store.frame("FROM progress")
            until = time.time()
        opened = float(writer.stdout.readline())
    assert writer.returncode == 0
    assert opened > until, "it came after the page"


def test_a_warehouse_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no warehouse"):
        Source(str(tmp_path / "none.duckdb"))


def test_a_runs_progress_is_a_file_that_goes_when_it_ends(tmp_path: Path) -> None:
    watch = Watch(quiet=True)
    with watch.telling(tmp_path, "e-1"), watch.bar("train", 10) as advance:
        advance(0)
        [told] = at_work(tmp_path)
        assert (told.experiment, told.label, told.total) == ("e-1", "train", 10)
        (tmp_path / "progress-broken.json").write_text("{")
        assert at_work(tmp_path) == [told], "what is no progress is passed over"
    assert at_work(tmp_path) == []
