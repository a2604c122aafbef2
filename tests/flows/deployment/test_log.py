"""The log of what users were answered: durable, in order, each line loaded once."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.deployment.answered import Answered, Told, as_line, of_line
from flows.deployment.loading import load_requests, requests_folder
from flows.deployment.log import Log, complete_segments, lines_of
from planners.errors import ComponentFailure, InvalidInput
from planners.pddl.printing import print_problem
from tests.conftest import blocks_task
from warehouse.records import Experiment, Feedback, Request
from warehouse.store import Warehouse

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def answer(number: int, **besides: object) -> Answered:
    task = blocks_task(3, 1, number)
    told = {
        "nonce": f"n{number}", "endpoint": "plans", "experiment": "e-1", "generation": 0,
        "weights": "w", "received": NOW, "latency_ms": 2.5, "prompt": f"prompt {number}",
        "prompt_format": "compact-2", "settings": {"temperature": 1.0}, "text": "(pickup b1)\n",
        "finish_reason": "stop", "policy": "p", "token_ids": (3, 4), "plan_tokens": 2,
        "domain": task.domain.text, "problem": print_problem(task.problem), "user": "u",
        "metadata": {"shop": "north"},
    }  # fmt: skip
    return Answered(**{**told, **besides})


def test_a_line_says_what_it_was_made_from() -> None:
    said = Told(trace="t", accepted=False, given=NOW, comment="no\n\x1b[1mgood")
    for what in (answer(1), answer(2, domain=None, problem=None, metadata=None), said):
        line = as_line(what)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert of_line(line) == what
    for wrong in (b"{", b"[]", b'{"kind": "other"}', b'{"kind": "told", "trace": 1}'):
        with pytest.raises(InvalidInput, match="cannot be read"):
            of_line(wrong)


def test_lines_are_on_disk_when_they_are_done_and_segments_close(tmp_path: Path) -> None:
    log = Log(tmp_path, seconds=0.2)
    with ThreadPoolExecutor(8) as pool:
        for done in pool.map(lambda n: log.append(f"{n}\n".encode()), range(500)):
            done.result(timeout=10)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert sorted(map(int, written.split())) == list(range(500))
    log.append(b"last\n").result(timeout=10)
    while not (found := complete_segments(tmp_path)):
        time.sleep(0.05)
    log.close()
    found = complete_segments(tmp_path)
    assert sum(len(list(lines_of(path))) for path in found) == 501


def test_who_gives_up_waiting_stops_no_other(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for number in range(50):
        log.append(f"{number}\n".encode()).cancel()
    log.append(b"last\n").result(timeout=10)
    log.close()


def test_a_killed_writer_leaves_whole_lines_to_the_loader(tmp_path: Path) -> None:
    script = (
        "import sys, os; from pathlib import Path; from flows.deployment.log import Log\n"
        f"log = Log(Path({str(tmp_path)!r}), seconds=60)\n"
        "log.append(b'whole\\n', in_order=True).result(); lane = log._lanes[0]\n"
        "lane._segment.write(b'torn'); lane._segment.flush()\n"
        "print('written', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                          stdin=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        assert complete_segments(tmp_path) == [], "its writer lives"
        process.kill()
    [segment] = complete_segments(tmp_path)
    assert list(lines_of(segment)) == [b"whole\n"]


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "log").rmdir()
    (tmp_path / "log").write_text("a file")
    with pytest.raises(ComponentFailure, match="cannot be written"):
        log.append(b"line\n").result(timeout=10)


def test_each_line_is_loaded_once_and_the_last_word_counts(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    first, text = answer(1), answer(2, domain=None, problem=None)
    folder = requests_folder(warehouse)
    log = Log(folder, lanes=1)
    lines = [as_line(first), as_line(first), as_line(text), b"nonsense\n"]
    lines += [as_line(Told(trace=first.trace, accepted=said, given=NOW)) for said in (True, False)]
    for line in lines:
        log.append(line).result(timeout=10)
    log.close()
    [segment] = complete_segments(folder)
    kept = segment.read_bytes()
    found = load_requests(warehouse)
    assert (found.unreadable, found.feedback) == (1, 1)
    assert (folder.parent / "unreadable.jsonl").read_bytes() == b"nonsense\n"
    segment.write_bytes(kept)  # as if it had been killed before it deleted the segment
    load_requests(warehouse)
    assert {one.id for one in warehouse.traces("e-1")} == {first.trace, text.trace}
    assert len(warehouse.every(Request)) == 2
    assert [one.accepted for one in warehouse.every(Feedback)] == [False]
    verdicts = warehouse.frame("SELECT outcome FROM stg_verdicts")["outcome"].tolist()
    assert verdicts == ["GOAL_NOT_REACHED"]
    assert warehouse.frame("SELECT reason FROM unjudged")["reason"].tolist() == [
        "its prompt holds no planning task"
    ]
    assert list(folder.iterdir()) == []
