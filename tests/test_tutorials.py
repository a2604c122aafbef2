"""The tutorials, followed to the letter from an empty folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from flows.experiments.reading import load_experiment
from tests.processes import environment

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"(?:Save as `([^`]+)`:\n\n)?```(\w+)\n(.*?)```", re.S)
"""A block of a page: the file that it is saved as, if it is, its language, its text."""
EXPECTED = {
    "domain": ["PRECONDITION_FAILED", "│ train   │    12 │     12 │", "larger", "(water p"],
    "audit": [
        "within groups: right=True",
        "though not listed (it may go with what is): 'word a' of answer",
        "within groups: list=True, odds of being kept x4.",
    ],
    "schedule": [
        "posterity.firing.failed: nightly: ",
        "training.steps: 10, now 20",
        "--continue-as nightly-",
    ],
    "model": ["tokens", "larger", "GOAL_NOT_REACHED", "generation 2", "my-name/my-planner"],
}
"""What the pages say that you will see."""
LONG = ("domain", "schedule", "model")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in EXPECTED],
)
def test_a_tutorial_can_be_followed_from_an_empty_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / f"tutorial-{name}.md").read_text("utf-8")
    if name == "model":  # a base of ours stands in for what the page downloads, with its prompt
        shutil.copytree(ROOT / "planners" / "embedded" / "blocksworld", "my-model")
        page = page.replace('prompt = "pddl"', 'prompt = "compact"')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    commands, shown = "", []
    for file, language, text in STEP.findall(page):
        if file:
            Path(file).parent.mkdir(exist_ok=True)
            Path(file).write_text(text, "utf-8")
        elif language == "sh":
            commands += text
        elif language == "toml":  # what to go on with: it is read, and not run
            shown.append(text)
    with subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", commands], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE, start_new_session=True,
        env=environment(tmp_path) | {"PATH": path, "POSTERITY_WAREHOUSE": "w.duckdb"},
    ) as reader:  # fmt: skip
        try:
            seen, told = reader.communicate(timeout=600)
        finally:
            with suppress(ProcessLookupError):  # what it has left at work
                os.killpg(reader.pid, signal.SIGKILL)
    assert (reader.returncode, "Traceback" in told) == (0, False), seen + told
    for text in shown:
        Path("shown.toml").write_text(text, "utf-8")
        assert load_experiment("shown.toml").name == "shown"
    assert [part for part in EXPECTED[name] if part not in seen] == [], seen
