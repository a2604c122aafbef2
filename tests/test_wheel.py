"""The wheel has everything in it: bases, presets, studies, SQL, pages."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from planners.domains import DOMAINS
from planners.pddl.printing import print_problem
from tests.conftest import blocks_task

ROOT = Path(__file__).parent.parent
PACKAGES = ("planners", "curation", "warehouse", "flows")
SMALL = [
    "generations=1", "tasks.train.count=8", "tasks.heldout.count=3", "tasks.larger.count=2",
    "tasks.train.sizes=[3,4]", "tasks.train.horizons=[1,2]", "tasks.heldout.sizes=[3,4]",
    "tasks.heldout.horizons=[1,2]", "tasks.larger.sizes=[5,6]", "tasks.larger.horizons=[1,2]",
    "training.steps=2", "deploy.samples=2", "model.threads=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's contents, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: setuptools leaves a folder beside the sources, and takes old files from it.
    tracked = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES, "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    for name in filter(None, map(os.fsdecode, tracked)):
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    built = subprocess.run(
        [sys.executable, "-c", build], cwd=folder / "source", capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_loop_a_report_and_pages_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = (
        "import flows, sys; assert flows.__file__.startswith(sys.argv.pop(1)), flows.__file__\n"
        "from flows.commands.main import main; main()"
    )

    def posterity(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", code, str(installed), *words], cwd=tmp_path, text=True,
            capture_output=True, env={**os.environ, "PYTHONPATH": str(installed)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    posterity("run", "tiny", *[word for change in SMALL for word in ("--set", change)])
    posterity("report")
    posterity("view", "--bundle", "site", "--traces", "3")
    assert "svg.picture" in (tmp_path / "site" / "static" / "style.css").read_text("utf-8")


def test_licences_of_what_we_did_not_write_are_with_it(installed: Path) -> None:
    assert "Zero-Clause BSD" in (
        installed / "flows" / "pages" / "static" / "htmx.LICENSE"
    ).read_text("utf-8")


def test_the_checker_needs_three_packages(installed: Path, tmp_path: Path) -> None:
    """As docs/checker.md says: `pip install --no-deps posterity`, then typer, rich and pydantic."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(tmp_path / "site")]
    subprocess.run([*pip, "typer", "rich", "pydantic"], check=True)
    task = blocks_task(4, 3, 0)
    (tmp_path / "domain.pddl").write_text(DOMAINS["blocksworld"].text, "utf-8")
    (tmp_path / "problem.pddl").write_text(print_problem(task.problem), "utf-8")
    (tmp_path / "plan").write_text("(pickup b1)\n(stack b1 b1)\n", "utf-8")
    # -S: nothing of what is installed here can be found.
    code = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]\n"
    code += "from flows.commands.main import main; main()"
    words = [sys.executable, "-S", "-I", "-c", code, str(tmp_path / "site"), str(installed)]
    done = subprocess.run(
        [*words, "check", "domain.pddl", "problem.pddl", "plan", "--explain"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "PRECONDITION_FAILED" in done.stdout
    helped = subprocess.run([*words, "run", "--help"], capture_output=True, text=True)
    assert "Usage" in helped.stdout, helped.stderr
    missing = subprocess.run([*words, "status"], cwd=tmp_path, capture_output=True, text=True)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "this needs the package numpy, which is not installed" in missing.stderr
