"""Every notebook runs, from top to bottom, on a real small warehouse."""

import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

import flows.commands.warehouse  # noqa: F401  the command audit
from flows.commands.main import app

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.py"))
LONG = ("a_month_of_deployment",)
"""Notebooks of minutes, which `make slow` runs."""


@pytest.fixture(scope="module")
def audited(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished warehouse with its audit."""
    folder = tmp_path_factory.mktemp("audited")
    for source in finished.parent.glob("w.duckdb*"):
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / source.name)
    warehouse = folder / "w.duckdb"
    done = CliRunner().invoke(app, ["audit", "--warehouse", str(warehouse)])
    assert done.exit_code == 0, done.output
    return warehouse


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "notebook",
    [pytest.param(one, marks=[pytest.mark.slow] * (one.stem in LONG)) for one in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_notebooks_run(notebook: Path, audited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTERITY_WAREHOUSE", str(audited))
    monkeypatch.setenv("A_FEW", "1")
    pages = jupytext.read(notebook)
    NotebookClient(pages, timeout=300, resources={"metadata": {"path": audited.parent}}).execute()
    cells = [cell for cell in pages.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in cells)


@pytest.mark.parametrize("name", ["first_look", "hidden_reward", "two_experiments"])
def test_a_missing_warehouse_is_told_with_what_makes_one(name: str, tmp_path: Path) -> None:
    notebook = next(path for path in NOTEBOOKS if path.stem == name)
    done = subprocess.run(
        [sys.executable, notebook], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (
        "there is no warehouse at posterity.duckdb.snapshot; `posterity run` makes" in done.stderr
    )
