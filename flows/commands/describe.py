"""The page of the command line: `python -m flows.commands.describe` writes docs/commands.md."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.cli import get_docs_for_click

import flows.commands.main  # noqa: F401  which has every command
from flows.commands.terminal import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = """\
<!-- written by `python -m flows.commands.describe` -->

Exit codes of every command: 0 done (for `check`: valid), 1 the answer is no, 2 bad usage or input,
3 interrupted or failed.
"""


def page() -> str:
    """Every command with its arguments and options, in Markdown."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(
        obj=command, ctx=typer.Context(command), name="posterity", title="The command line"
    )
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{HEAD}{rest}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
