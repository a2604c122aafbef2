"""Commands that the documentation shows can be given: every command and option exists."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

import flows.cli
import flows.schedule_cli
import flows.warehouse_cli  # noqa: F401
from flows.settings import PRESETS, load_experiment
from flows.terminal import app

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")))
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(posterity [^`]+)`")


def shown(page: str) -> list[list[str]]:
    """The words of each `posterity` command of a page, in blocks and in its text."""
    text = (ROOT / page).read_text("utf-8")
    lines = [
        line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").split("\n")
    ]
    lines += [found.replace("\n", " ") for found in INLINE.findall(BLOCK.sub("", text))]
    commands = []
    for line in lines:
        words = shlex.split(line, comments=True)
        words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if words and words[0].rpartition("/")[2] == "posterity" and len(words) > 1:
            commands.append(words[1:])
    return commands


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_documentation_can_be_given(page: str) -> None:
    program: Any = typer.main.get_command(app)
    for name, *words in shown(page):
        if "..." in words or page == "docs/commands.md":
            continue
        command = program.commands.get(name)
        assert command is not None, f"{page}: posterity {name}"
        known = {option for part in command.params for option in (*part.opts, *part.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page}: posterity {name} {word}"


def test_the_readme_is_among_them() -> None:
    assert len(shown("README.md")) > 20


@pytest.mark.parametrize("page", PAGES)
def test_settings_in_the_documentation_exist(page: str) -> None:
    for name, *words in shown(page):
        changes = [word for before, word in pairwise(words) if before == "--set"]
        if name in ("run", "serve", "plan") and changes and "folder" not in str(changes):
            preset = words[0] if words[0] in PRESETS else "quickstart"
            load_experiment(preset, [re.sub("=N$", "=1", change) for change in changes])
