"""What the documentation shows can be done: its commands are given, one after the other, on small
experiments; its experiments load; commands in its text exist.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import flows.commands.main  # noqa: F401  which has every command
from flows.commands.terminal import app
from flows.experiments.reading import PRESETS, load_experiment
from planners.domains import DOMAINS
from tests.flows.audit.test_foreign import answers
from tools import dbt
from tools.describe import PAGES
from warehouse import Warehouse

ROOT = Path(__file__).parent.parent
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
    if path.name not in PAGES  # which are made from the code
    and not path.name.startswith("tutorial-")  # which tests/test_tutorials.py follows
}
WORDS = 900
"""Of the README, at most."""
INLINE = re.compile(r"`(posterity [^`]+)`")
SMALL = (
    "generations=2", "tasks.train.count=8", "tasks.heldout.count=3", "tasks.larger.count=2",
    "tasks.train.sizes=[3,5]", "tasks.train.horizons=[1,3]", "tasks.heldout.sizes=[3,5]",
    "tasks.heldout.horizons=[1,3]", "tasks.larger.sizes=[6,7]", "tasks.larger.horizons=[1,3]",
    "deploy.samples=4", "training.steps=2", "training.batch=4", "model.threads=1",
)  # fmt: skip
"""What makes minutes of an experiment seconds."""
ELSEWHERE = {
    "make ": "CI gives make test; the others are the quickstart and the benchmarks whole",
    "-m venv": "installs",
    "pip install": "installs",
    "--prefect": "tests/flows/commands/test_cli.py",
    "workers.runner": "tests/flows/loop/test_executors.py",
    "posterity serve": "tests/flows/schedule/test_schedule.py",
    "posterity deploy": "tests/flows/web/test_gateway.py",
    "posterity view --warehouse posterity.duckdb   ": "tests/flows/pages/test_pages.py",
    ".venv/bin/posterity view": "tests/flows/pages/test_pages.py",
    "posterity study": "tests/flows/study/test_study.py",
    "prefect ": "tests/flows/schedule/test_schedule.py",
    "createdb": "tests/warehouse/test_lake.py",
    "ducklake:": "tests/warehouse/test_lake.py",
    "AWS_": "tests/warehouse/test_object_storage.py",
}
"""What is not given here, and where it is."""
MAY_SAY_NO = ("promote=if", "posterity audit my-experiment.toml")
"""Commands whose answer may be no: exit 1."""


def blocks(kind: str, text: str) -> list[str]:
    """The code blocks of a kind on a page, also those in lists."""
    found = re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def lines_of(text: str) -> list[str]:
    """The commands of a page's blocks."""
    joined = "".join(blocks("sh", text)).replace("\\\n", " ")
    return [line for line in joined.split("\n") if line.strip() and line[0] != "#"]


def given(text: str) -> list[str]:
    """Those that are given here."""
    return [line for line in lines_of(text) if not any(part in line for part in ELSEWHERE)]


def words_of(line: str) -> list[str]:
    """What follows `posterity` in a line."""
    program, *words = shlex.split(line, comments=True)
    assert program.rpartition("/")[2] == "posterity", line
    return words


def options_of(name: str) -> set[str]:
    """The options of a command. Raises KeyError where there is none."""
    program: Any = typer.main.get_command(app)
    parts = program.commands[name].params
    return {option for part in parts for option in (*part.opts, *part.secondary_opts)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user is who has files of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POSTERITY_WAREHOUSE", raising=False)
    entry = DOMAINS["blocksworld"]
    [trace] = blocks("json", TEXTS["docs/your-own.md"])
    (tmp_path / "traces.jsonl").write_text(trace)
    answers().to_parquet(tmp_path / "answers.parquet")
    give("posterity tasks blocksworld --size 3-5 --horizon 1-2 --count 12 --plans --out my-tasks")
    own = blocks("toml", TEXTS["docs/your-own.md"])[0]
    bounds = blocks("toml", TEXTS["docs/audit.md"])[0].replace('extends = "quickstart"\n', "")
    (tmp_path / "my-experiment.toml").write_text(own + bounds)
    (tmp_path / "domain.pddl").write_text(entry.text)
    (tmp_path / "problem.pddl").write_text((tmp_path / "my-tasks" / "p01.pddl").read_text())
    first = (tmp_path / "my-tasks" / "traces.jsonl").read_text().split("\n")[0]
    for name in ("plan1", "plan2", "p01.plan"):
        (tmp_path / name).write_text(json.loads(first)["completion"])
    (tmp_path / "answer.txt").write_text(f"This works:\n{json.loads(first)['completion']}\nDone.")
    (tmp_path / "mine.py").write_text(blocks("python", TEXTS["docs/your-own.md"])[0])
    return tmp_path


def give(line: str) -> None:
    """Give a command on experiments that take seconds."""
    words = words_of(line)
    names = [word for word in words if word in PRESETS or word.endswith(".toml")]
    if names and "--set" in options_of(words[0]):
        in_folder = any("folder = " in Path(name).read_text() for name in names if ".toml" in name)
        small = [one for one in SMALL if not (in_folder and one.startswith("tasks."))]
        words += [word for change in small for word in ("--set", change)]
    done = CliRunner().invoke(app, words)
    fine = (0, 1) if any(part in line for part in MAY_SAY_NO) else (0,)
    assert done.exit_code in fine, f"{line}\n{done.output}\n{done.stderr}"


@pytest.fixture(scope="module")
def after_the_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every page begins with; not to be changed."""
    found = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found)
        patch.delenv("POSTERITY_WAREHOUSE", raising=False)
        give("posterity run quickstart")
    return found


@pytest.mark.parametrize("page", [page for page in TEXTS if given(TEXTS[page])])
def test_commands_in_blocks_work_in_order(
    page: str, after_the_quickstart: Path, folder: Path
) -> None:
    shutil.copytree(after_the_quickstart, folder, dirs_exist_ok=True)
    for line in given(TEXTS[page]):
        if line == "posterity show TRACE_ID":
            with Warehouse("posterity.duckdb", read_only=True) as store:
                line = f"posterity show {store.frame('FROM traces')['trace'][0]}"
        give(line)


def test_the_readme_and_the_guide_are_among_them() -> None:
    assert len(given(TEXTS["README.md"])) > 8
    assert len(given(TEXTS["docs/guide.md"])) > 15
    assert len(TEXTS["README.md"].split()) <= WORDS


def test_the_python_of_the_readme_runs(folder: Path) -> None:
    [front, curator] = blocks("python", TEXTS["README.md"])
    small = [change for change in SMALL if not change.startswith("generations")]
    exec(front.replace('run("tiny",', f'run("tiny", {small!r},'), {})
    pool: dict[str, Any] = {}
    exec(curator, pool)
    assert callable(pool["longest"])


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_pages_are_made_from_the_code(name: str) -> None:
    made = (ROOT / "docs" / name).read_text("utf-8")
    assert made == PAGES[name](), "run `python -m tools.describe`"


def test_the_dbt_package_is_made_from_the_views() -> None:
    files = [file for file in dbt.FOLDER.rglob("*") if file.is_file()]
    stored = {str(file.relative_to(dbt.FOLDER)): file.read_text("utf-8") for file in files}
    made = dbt.package()
    kept = {  # besides, dbt leaves what it builds there
        name: text for name, text in stored.items() if name in made or name.startswith("models/")
    }
    assert kept == made, "run `python -m tools.dbt`"


def test_the_site_builds_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-d",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.stem for path in ROOT.glob("docs/*.md")} - {"index"}
    assert pages <= {path.parent.name for path in (tmp_path / "site").glob("*/index.html")}


def test_links_of_the_readme_lead_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)", TEXTS[name]):
            assert link.startswith("https://") or (ROOT / link).exists(), link


def test_what_is_tried_elsewhere_is_still_shown() -> None:
    lines = [line for text in TEXTS.values() for line in lines_of(text)]
    assert all(any(part in line for line in lines) for part in ELSEWHERE)


def named(text: str) -> list[str]:
    """The commands that a page names: in its text, and in blocks but given elsewhere."""
    lines = [line for line in lines_of(text) if line not in given(text)]
    ours = [line for line in lines if line.split()[0].rpartition("/")[2] == "posterity"]
    return [*ours, *(command.replace("\n", " ") for command in INLINE.findall(text))]


@pytest.mark.parametrize("page", [page for page in TEXTS if named(TEXTS[page])])
def test_commands_that_are_not_given_exist(page: str) -> None:
    for command in named(TEXTS[page]):
        name, *words = words_of(command)
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= options_of(name), command
        changes = [word for before, word in pairwise(words) if before == "--set"]
        if changes:
            load_experiment(words[0], [re.sub("=N$", "=1", change) for change in changes])


@pytest.mark.parametrize("page", [page for page in TEXTS if blocks("toml", TEXTS[page])])
def test_experiments_load(page: str, folder: Path) -> None:
    for number, block in enumerate(blocks("toml", TEXTS[page])):
        file = folder / f"shown-{number}.toml"
        file.write_text(block if "extends" in block else f'extends = "quickstart"\n{block}')
        assert load_experiment(str(file)).name not in PRESETS
