"""Standard streams that are closed, full, or read by nobody any more."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import posterity

DOMAIN = "(define (domain d) (:predicates (q)) (:action z :parameters () :effect (q)))"
PROBLEM = "(define (problem p) (:domain d) (:init) (:goal (q)))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d.pddl").write_text(DOMAIN)
    (tmp_path / "p.pddl").write_text(PROBLEM)
    (tmp_path / "plan").write_text("(z)\n")
    return tmp_path


def run(folder: Path, shell: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command with its streams as this piece of shell, after it, has them."""
    command = ["bash", "-c", f'set -o pipefail; "$@" {shell}', "bash", *posterity(*words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


CHECK = "check", "d.pddl", "p.pddl", "plan"


@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [
        ("| true", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 3, "the output cannot be written: No space left"),
        (">/dev/full 2>&1", 3, ""),
    ],
)
def test_a_verdict_is_not_changed_by_who_reads_it(
    folder: Path, shell: str, code: int, told: str
) -> None:
    done = run(folder, shell, *CHECK, *["plan"] * 500)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_that_nobody_sees_keeps_its_code(folder: Path) -> None:
    assert run(folder, "2>/dev/full", "check", "d.pddl", "p.pddl", "missing").returncode == 2


def test_no_file_of_a_warehouse_gets_the_number_of_a_closed_stream(folder: Path) -> None:
    """A library's word on standard error would be written into it."""
    command = [
        "bash",
        "-c",
        'exec "$@" >&- 2>&-',
        "bash",
        *posterity("ingest", "-", "--source", "s"),
    ]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE) as process:
        links = Path("/proc") / str(process.pid) / "fd"
        while not any("duckdb" in os.readlink(one) for one in links.iterdir() if one.is_symlink()):
            assert process.poll() is None
            time.sleep(0.05)
        told = [os.readlink(links / number) for number in "12"]
        flags = [(links.parent / "fdinfo" / number).read_text() for number in "12"]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
    assert told == ["/dev/null"] * 2
    on_exec = 0o2000000
    kept = [int(text.split("flags:")[1].split()[0], 8) & on_exec == 0 for text in flags]
    assert kept == [True, True], "processes that it starts have them, too"


def test_an_argument_that_is_no_text_is_one_message_and_a_files_name_may_be(folder: Path) -> None:
    def done(*words: bytes) -> tuple[int, str]:
        command = [*map(os.fsencode, posterity()), *words]
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return told.returncode, told.stderr

    (folder / os.fsdecode(b"\xe4.jsonl")).write_text("")
    assert done(b"ingest", b"\xe4.jsonl", b"--source", b"s")[0] == 0
    refused = (2, r"error: the argument '\udcff' is no text" + "\n")
    assert done(b"show", b"\xff") == refused
