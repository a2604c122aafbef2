"""`posterity report`: one page without a network, whose every figure comes with SQL that runs."""

import html
import re
import shutil
from dataclasses import replace
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from statistics import mean

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from flows.audit.audit import audit
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.progress import Watch
from flows.report.figures import DARK, PALETTE, drawing, lines, percent, stacked
from flows.report.page import OUTCOMES, SECTIONS, coverage, pass_at, report, runs_of
from planners.errors import InvalidInput
from planners.models.hardware import use_threads
from tests.browser import look
from tests.conftest import copied, small
from tests.flows.commands.test_cli import posterity
from warehouse import records
from warehouse.sandbox.query import ask, require_select
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)


@pytest.fixture(scope="module")
def audited(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its audit, and the same with another seed."""
    use_threads(1)
    path = copied(finished, tmp_path_factory.mktemp("audited"))
    with Warehouse(path) as store:
        iterate(store, Experiment.model_validate(small(seed=1, generations=1)), QUIET)
        found = audit(store, Experiment.model_validate(small()), QUIET)
        store.replace_audit(found.experiment.id, found.records)
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
        "small: pass@k",
        "what is solved",
        "length of plans and texts",
        "training loss",
        "lineage",
        "Settings",
        "verdicts",
        "curated from which",
        "how stale replay is",
        "is it REINFORCE",
    ):
        assert any(about in title for title in titles), about  # fmt: skip
    assert page.count('class="plot wide"') == page.count('class="plot narrow"') >= 6
    assert page.count("<svg") == 2 * page.count("<figure")
    ids = re.findall(r'\bid="([^"]+)"', page)
    drawn = [name for name in ids if re.fullmatch(r"[mp][0-9a-f]{10}", name)]
    assert len(drawn) == len(set(drawn)), "no mark of one figure is taken from another"
    assert re.search(r"last written on \d{4}-\d\d-\d\d", page)
    links, sections = re.findall(r'href="#(s\d+)"', page), re.findall(r'section id="(s\d+)"', page)
    assert links == sections
    assert "early warning is not reliable" in page


def test_every_figures_sql_is_the_users_to_run(audited: Path) -> None:
    with Warehouse(audited, read_only=True) as store:
        runs = runs_of(store)
        sections = [section for make in SECTIONS for section in make(store, runs)]
        assert [len(ids) for ids in runs.values()] == [2], "seeds together"
        told = [sql for section in sections for sql in section.sql.split("\n\n")]
        for sql in told:
            require_select(sql)
            assert len(store.frame(sql)) > 0, sql
    assert ask(str(audited), told[0]).num_rows > 0


def test_words_say_the_figures(audited: Path) -> None:
    with Warehouse(audited, read_only=True) as store:
        runs = runs_of(store)
        words = [w for make in SECTIONS for section in make(store, runs) for w in section.words]
        first = store.frame(
            "SELECT avg(coverage) AS mean FROM progress WHERE generation = 0"
        )["mean"][0]  # fmt: skip
    told = f"mean of 2 seeds: from generation 0 to 1, coverage of deployed tasks {first:.1%}"
    assert any(told in line for line in words)


def test_a_seed_that_is_not_evaluated_hides_no_other(audited: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    shutil.copy(audited, path)
    with Warehouse(path) as store:
        before = [section.words for section in coverage(store, runs_of(store))]
        begun = store.every(records.Experiment)[0]
        store.write([replace(begun, id=f"{begun.name}-0123456789ab", hash="0" * 32, seed=7)])
        runs = runs_of(store)
        assert [len(ids) for ids in runs.values()] == [3]
        assert [section.words for section in coverage(store, runs)] == before


def test_nothing_to_report_and_nowhere_to_write(finished: Path, tmp_path: Path) -> None:
    nothing = pytest.raises(InvalidInput, match=r"nothing in .* is evaluated yet")
    with Warehouse(tmp_path / "empty.duckdb") as store, nothing:
        report(store, tmp_path / "r.html")
    (tmp_path / "folder.html").mkdir()
    for out in ("folder.html", "."):
        done = posterity("report", "--warehouse", str(finished), "--out", out, folder=tmp_path)
        assert done.returncode == 2
        assert f"cannot be written to {out}: it is a folder" in done.stderr
    assert not list(tmp_path.glob("*.partial"))


def test_a_report_takes_no_databases_place(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    shutil.copy(finished, path)
    before = path.read_bytes()
    for out in ("w.duckdb", "other.duckdb"):
        shutil.copy(finished, tmp_path / "other.duckdb")
        told = posterity("report", "--warehouse", str(path), "--out", out, folder=tmp_path)
        assert (told.returncode, "would take the place of" in told.stderr) == (2, True)
    assert path.read_bytes() == before


def test_reasoning_is_drawn_where_there_is_any(audited: Path, tmp_path: Path) -> None:
    shutil.copy(audited, tmp_path / "w.duckdb")
    with Warehouse(tmp_path / "w.duckdb") as store:
        report(store, tmp_path / "silent.html")
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE traces SET reasoning_tokens = 7 + generation")
        report(store, tmp_path / "thinking.html")
    assert "reasoning tokens</h2>" not in (tmp_path / "silent.html").read_text("utf-8")
    assert "small: reasoning tokens" in (tmp_path / "thinking.html").read_text("utf-8")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_has_nothing_to_complain_of(width: int, audited: Path, tmp_path: Path) -> None:
    with Warehouse(audited, read_only=True) as store:
        report(store, tmp_path / "page.html")
    shown = look((tmp_path / "page.html").as_uri(), tmp_path / "page.png", width, strict=True)
    assert "Coverage by generation" in shown
    assert (tmp_path / "page.png").stat().st_size > 20_000


def contrast(first: str, second: str) -> float:
    """The contrast of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in to_rgb(colour)
        ]
        return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_texts_and_lines_can_be_told_from_the_page() -> None:
    style = files("flows.report").joinpath("report.html").read_text("utf-8")
    themes = [
        dict(re.findall(r"--(\w+): (#\w+)", part)) for part in re.findall(r":root {(.*?)}", style)
    ]
    assert len(themes) == 3, "light, dark, paper"
    for theme in themes:
        whole = {**themes[0], **theme}
        for ground in ("page", "code"):
            for words in ("ink", "soft", "link"):
                assert contrast(whole[words], whole[ground]) >= 4.5, (words, ground, theme)
        assert all(contrast(colour, whole["page"]) >= 3 for colour in PALETTE)
    blues = mpl.colormaps["Blues"]
    for share in np.linspace(0, 1, 201):
        words = "white" if share > DARK else "black"
        assert contrast(words, mpl.colors.to_hex(blues(share))) >= 4.5


def test_no_point_is_cut_off_and_a_single_seed_has_an_interval() -> None:
    with drawing("shares", 2, share=True) as drawn:
        for axes, top in zip(drawn.axes, (0.2, 0.9), strict=True):
            told = pd.DataFrame({"generation": [0, 1], "value": [0.1, top], "tasks": 40})
            lines(axes, told, "coverage", PALETTE[0])
        for axes in drawn.axes:
            percent(axes)
        low, high = drawn.axes[1].get_ylim()
        assert low == 0
        assert high > 0.95  # the interval is above the point, and in sight too
        [band] = drawn.axes[1].collections
        bottom, top = band.get_paths()[0].get_extents().get_points()[:, 1]
        assert bottom < 0.1 < 0.9 < top


def test_a_verdict_has_one_colour_whatever_else_there_is() -> None:
    colours = []
    for others in (["VALID"], ["TRUNCATED", "NO_PLAN"]):
        shares = pd.DataFrame({name: [0.1, 0.2] for name in [*others, "WRONG_TYPE"]})
        with drawing("outcomes") as drawn:
            stacked(drawn.axes[0], shares, order=OUTCOMES)
            bars = drawn.axes[0].containers[-1]
            colours.append((bars[0].get_facecolor(), bars[0].get_hatch()))
    assert colours[0] == colours[1]


def test_pass_at_k_is_that_of_counting_every_choice() -> None:
    rows = pd.DataFrame({"samples": 4, "valid": [0, 1, 3, 4], "tasks": [3, 2, 2, 1]})
    for k in range(1, 5):
        solved = [
            mean(any(choice) for choice in combinations([1] * valid + [0] * (4 - valid), k))
            for valid, tasks in zip(rows["valid"], rows["tasks"], strict=True)
            for _ in range(tasks)
        ]
        assert pass_at(k, rows) == pytest.approx(mean(solved))


def test_no_file_but_a_page_is_written_over(finished: Path, tmp_path: Path) -> None:
    """A curator, say, or the log that a killed run has left beside its warehouse."""
    for name in ("mine.py", "w.duckdb.wal", "notes.html"):
        (tmp_path / name).write_text("def mine(): ...")
        with Warehouse(finished, read_only=True) as store, pytest.raises(InvalidInput, match=name):
            report(store, tmp_path / name)
        assert (tmp_path / name).read_text() == "def mine(): ..."
