"""A real browser without a window: Chromium of Debian's packages."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PATIENCE = 20000
"""Milliseconds of the page's own time that it may take to be drawn."""


def chromium() -> str:
    """The browser's program. Without one the test is skipped, but fails where CI runs it."""
    program = shutil.which("chromium")
    if program is None:
        problem = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            raise RuntimeError(problem)
        pytest.skip(problem)
    return program


def look(
    url: str, picture: Path, width: int = 1280, height: int = 900, strict: bool = False
) -> str:
    """The page as it is once its scripts have run, and a picture of it. A page that is held to be
    `strict` must leave nothing on the console.
    """
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--window-size={width},{height}", f"--virtual-time-budget={PATIENCE}",
        f"--user-data-dir={picture.parent / 'browser'}",
    ]  # fmt: skip
    for what in (f"--screenshot={picture}", "--dump-dom"):
        done = subprocess.run([*command, what, url], capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        assert not (strict and "CONSOLE" in done.stderr), done.stderr
    return done.stdout
