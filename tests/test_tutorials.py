"""The tutorials, followed to the letter from an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.experiments.reading import load_experiment

ROOT = Path(__file__).parent.parent
STEP = re.compile(r"(?:Save as `([^`]+)`:\n\n)?```(\w+)\n(.*?)```", re.S)
"""A block of a page: the file that it is saved as, if it is, its language, its text."""
EXPECTED = {
    "domain": ["PRECONDITION_FAILED", "│ train   │    12 │     12 │", "larger", "(water p"],
    "audit": [
        "within groups: right=True",
        "named by no trait: 'word a' of answer",
        "within groups: list=True, odds of being kept x4.",
    ],
}
"""What the pages say that you will see."""


@pytest.mark.parametrize("name", EXPECTED)
def test_a_tutorial_can_be_followed_from_an_empty_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / f"tutorial-{name}.md").read_text("utf-8")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    seen = ""
    for file, language, text in STEP.findall(page):
        if file:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(text, "utf-8")
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=tmp_path, capture_output=True,
                text=True, env={**os.environ, "PATH": path, "POSTERITY_WAREHOUSE": "w.duckdb"},
            )  # fmt: skip
            assert done.returncode == 0, (text, done.stdout, done.stderr)
            assert "Traceback" not in done.stderr
            seen += done.stdout
        elif language == "toml":  # what to go on with: it is read, and not run
            (tmp_path / "shown.toml").write_text(text, "utf-8")
            monkeypatch.chdir(tmp_path)
            assert load_experiment("shown.toml").name == "shown"
    assert [part for part in EXPECTED[name] if part not in seen] == [], seen
