"""Data is never markup, never a command to the terminal, and no message holds a password."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from flows.progress import Watch
from planners.errors import InvalidInput, harmless, redacted
from tests.flows.commands.test_cli import posterity
from tests.forked import ran
from tests.processes import posterity as command

PROBLEM = (
    "(define (problem p) (:domain blocksworld) (:objects b1 b2) (:init (arm-empty) (on-table b1) "
    "(on-table b2) (clear b1) (clear b2)) (:goal (and (on b1 b2))))"
)
NASTY = "\x1b]0;owned\x07\x1b[31mred\x9b31m [/foo] [bold]x[/bold] $a_{$ \u202eabc <b>\x00"


def ingest(folder: Path, *lines: dict[str, str]) -> tuple[int, str, str]:
    told = [{"domain": "blocksworld", "problem": PROBLEM, **line} for line in lines]
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, told)))
    done = posterity("ingest", "in.jsonl", "--source", "users", folder=folder)
    return done.returncode, done.stdout, done.stderr


def test_a_completion_cannot_command_the_terminal(tmp_path: Path) -> None:
    plan = f"(pickup b1)\n(stack b1 b2)\n{NASTY.replace(chr(0), '')}"
    assert ingest(tmp_path, {"completion": plan, "model": "[/m]"})[0] == 0
    shown = [
        posterity("query", "SELECT text, policy, '[x]' AS \"[/y]\" FROM traces", folder=tmp_path),
        posterity("show", _trace(tmp_path), folder=tmp_path),
        posterity("status", folder=tmp_path),
        posterity("query", f'SELECT no_such_column AS "{NASTY[:20]}"', folder=tmp_path),
    ]
    for done in shown:
        assert "Traceback" not in done.stderr
        assert not set("\x1b\x07\x9b\u202e") & set(done.stdout + done.stderr)
    table, page = shown[0].stdout, shown[1].stdout
    for text in ("[/foo]", "[bold]x[/bold]", "$a_{$", r"\x1b]0;owned\x07", r"\u202eabc"):
        assert text in page
        assert text in " ".join(table.split())
    assert "[/y]" in table


def _trace(folder: Path) -> str:
    found = posterity("query", "SELECT trace FROM traces", "--format", "csv", folder=folder)
    return found.stdout.split()[1]


def test_what_a_run_or_an_audit_says_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Watch().say("'[/foo] [bold]x' is kept more often \x1b[31m", heading="[red]")
    assert capsys.readouterr().out == "[red]'[/foo] [bold]x' is kept more often \\x1b[31m\n"


def test_output_that_takes_no_letter_or_nobody_reads_changes_no_answer(tmp_path: Path) -> None:
    """Not even Python's own error for a pipe that is closed."""
    shown = shlex.join(command("show", "é→", "--warehouse", "none.duckdb"))
    latin = subprocess.run(
        ["bash", "-c", f"PYTHONIOENCODING=latin-1 {shown}"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert (latin.returncode, b"Traceback" in latin.stderr) == (2, False)
    planned = shlex.join(command("plan", "tiny"))
    closed = subprocess.run(
        ["bash", "-c", f'{planned} | true; exit "${{PIPESTATUS[0]}}"'],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_lines_and_tabs_stay() -> None:
    assert harmless("a\n\tb\r") == "a\n\tb\\r"


def test_a_time_that_no_calendar_has_is_that_lines_error(tmp_path: Path) -> None:
    times = ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00+01:00")
    lines = [{"completion": f"(pickup b{n})", "time": time} for n, time in enumerate(times)]
    code, out, errors = ingest(tmp_path, *lines)
    assert (code, out) == (1, "1 new trace from users, 0 known already, 2 refused\n")
    assert errors.startswith(f"line 1: time: {times[0]} is no year from 1 to 9999 in UTC")


def test_a_port_is_no_password() -> None:
    for text in ("http://u:80SECRET/@127.0.0.1:8000/v1", "postgresql:/u:SECRET@h/db"):
        assert "SECRET" not in redacted(text)
    for text in ("http://h:8000/v1 answered a@b", "http://h:8000 answered a@b", "at 12:30 a@b"):
        assert redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "ducklake:postgres:postgresql://u:SECRET@h/db",
        "ducklake:postgres:host=x sslpassword=SECRET?data=/z",
        "ducklake:postgres:host=x password='a SECRET'?data=/z",
        "ducklake:postgres:host=x PASSWORD = SECRET",
        "http://u:SECRET@127.0.0.1:8000/v1",
        "http://u:a@SECRET@127.0.0.1:8000/v1",
        "http://u:a SECRET@127.0.0.1:8000/v1",
        "ducklake:postgres:host=h passwd=SECRET?data=/z",
        "ducklake:mysql:host=h pwd=SECRET?data=/z",
    ],
)
def test_no_message_holds_a_password(text: str, tmp_path: Path) -> None:
    assert "SECRET" not in redacted(f"in {text} there is")
    assert "SECRET" not in str(InvalidInput(f"{text} is wrong"))
    if text.startswith("ducklake"):
        done = posterity("query", "SELECT 1", "--warehouse", text, folder=tmp_path)
    else:
        server = ["--set", "model.policy=served", "--set", f'model.server.urls=["{text}"]']
        done = posterity("plan", "quickstart", *server, folder=tmp_path)
        assert "POSTERITY_API_KEY" in " ".join(done.stderr.split())
    assert done.returncode == 2
    assert "SECRET" not in done.stdout + done.stderr


def test_a_row_too_wide_for_the_terminal_is_a_line_for_each_value(finished: Path) -> None:
    names = [f"n{number}" for number in range(15)]
    told = ", ".join(f"{number} AS {name}" for number, name in enumerate(names))
    terminal = {**os.environ, "TTY_COMPATIBLE": "1", "COLUMNS": "80", "NO_COLOR": "1"}
    asked = "query", f"SELECT {told}, NULL AS none", "--warehouse", str(finished)
    done = ran(*asked, environment=terminal)
    assert done.returncode == 0, done.stderr
    plain = re.sub(r"\x1b\[\d+m", "", done.stdout)
    assert plain.splitlines() == [*(f"n{n}: {n}" for n in range(15)), "none: "]
