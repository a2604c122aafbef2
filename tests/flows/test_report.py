"""`posterity report`: one page without a network, whose every figure comes with SQL that runs."""

import html
import re
import shutil
from pathlib import Path

import pytest

from flows.audit import audit
from flows.experiment import Experiment
from flows.iterate import iterate
from flows.progress import Watch
from flows.report import SECTIONS, report, runs_of
from planners.errors import InvalidInput
from planners.local import use_threads
from tests.conftest import small
from tests.flows.test_cli import posterity
from warehouse.query import ask
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)


@pytest.fixture(scope="module")
def audited(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its audit, and the same with another seed."""
    use_threads(1)
    path = tmp_path_factory.mktemp("audited") / "w.duckdb"
    shutil.copy(finished, path)
    shutil.copytree(f"{finished}.checkpoints", f"{path}.checkpoints")
    with Warehouse(path) as store:
        iterate(store, Experiment.model_validate(small(seed=1, generations=1)), QUIET)
        found = audit(store, Experiment.model_validate(small()), QUIET)
        store.replace(found.experiment.id, found.rows)
    return path


def test_the_page_stands_alone_and_repeats(audited: Path, tmp_path: Path) -> None:
    done = posterity("report", "--warehouse", str(audited), "--out", "a.html", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    again = posterity("report", "--warehouse", str(audited), "--out", "b.html", folder=tmp_path)
    assert again.returncode == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page == (tmp_path / "b.html").read_text("utf-8")
    beyond = set(re.findall(r"https?://[^\"'\s)]+", page))
    assert all(url.startswith("http://www.w3.org/") for url in beyond), "names, nothing fetched"
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert "#010203" not in page, "text has the page's colour"
    titles = [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", page)]
    for about in (
        "Coverage by generation",
        "Every generation",
        "what is solved",
        "plan length",
        "verdicts",
        "curated from which",
        "how stale replay is",
        "is it REINFORCE",
    ):
        assert any(about in title for title in titles), about  # fmt: skip
    assert page.count("<svg") == page.count("<figure") >= 6
    assert "early warning is not reliable" in page


def test_every_figures_sql_is_the_users_to_run(audited: Path) -> None:
    with Warehouse(audited, read_only=True) as store:
        runs = runs_of(store)
        sections = [section for make in SECTIONS for section in make(store, runs)]
    assert [len(ids) for ids in runs.values()] == [2], "seeds together"
    for section in sections:
        for sql in section.sql.split("\n\n"):
            assert ask(str(audited), sql).num_rows > 0, section.title


def test_words_say_the_figures(audited: Path) -> None:
    with Warehouse(audited, read_only=True) as store:
        runs = runs_of(store)
        words = [w for make in SECTIONS for section in make(store, runs) for w in section.words]
        first = store.frame(
            "SELECT avg(coverage) AS mean FROM progress WHERE generation = 0"
        )["mean"][0]  # fmt: skip
    told = f"mean of 2 seeds: from generation 0 to 1, coverage of deployed tasks {first:.1%}"
    assert any(told in line for line in words)


def test_nothing_to_report_and_nowhere_to_write(finished: Path, tmp_path: Path) -> None:
    nothing = pytest.raises(InvalidInput, match=r"nothing in .* is evaluated yet")
    with Warehouse(tmp_path / "empty.duckdb") as store, nothing:
        report(store, tmp_path / "r.html")
    (tmp_path / "folder.html").mkdir()
    done = posterity(
        "report", "--warehouse", str(finished), "--out", "folder.html", folder=tmp_path
    )
    assert done.returncode == 2
    assert "cannot be written to folder.html" in done.stderr
    assert not list(tmp_path.glob("*.partial"))
