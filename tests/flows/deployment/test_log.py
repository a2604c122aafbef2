"""The log of what users were answered: durable, in order, each line loaded once."""

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from typer.testing import CliRunner

from flows.audit.verify import verify
from flows.commands.main import app
from flows.deployment.answered import Answered, Told, as_line, of_line
from flows.deployment.forgetting import forget
from flows.deployment.loading import (
    OTHER_NAMES,
    Slow,
    judge_beforehand,
    load_requests,
    main,
    requests_folder,
)
from flows.deployment.log import Log, complete_segments, lines_of
from flows.progress import Watch
from planners.errors import ComponentFailure, InvalidInput
from planners.pddl.printing import print_problem
from tests.conftest import blocks_task
from tests.flows.loop.test_unjudged import DOMAIN
from warehouse import schema
from warehouse.findings import Figure
from warehouse.integrity import written_otherwise
from warehouse.records import Experiment, Feedback, Mark, Request
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement, Unjudged

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


def test_a_segment_that_is_taken_before_it_is_locked_loses_no_line(tmp_path: Path) -> None:
    over, found = threading.Event(), list[bytes]()

    def load() -> None:
        while True:
            last = over.is_set()
            for segment in complete_segments(tmp_path):
                found.extend(lines_of(segment))
                segment.unlink()
            if last:
                return

    loader = threading.Thread(target=load)
    loader.start()
    log = Log(tmp_path, seconds=0.001)
    lines = [f"{number}\n".encode() for number in range(1500)]
    for line in lines:
        log.append(line).result(timeout=30)
    log.close()
    over.set()
    loader.join()
    assert sorted(found) == sorted(lines)


def test_a_line_that_cannot_be_loaded_holds_up_no_other(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    good, far, empty = answer(1), answer(2), answer(3, problem="")
    log = Log(requests_folder(warehouse.place))
    for line in (as_line(far).replace(b'"seed": 0', b'"seed": %d' % 2**63), as_line(empty),
                 as_line(good)):  # fmt: skip
        log.append(line).result(timeout=10)
    log.close()
    assert load_requests(warehouse) == 2
    assert [one.id for one in warehouse.traces("e-1")] == [good.trace]


def test_a_users_plan_has_the_time_that_the_experiment_gives(warehouse: Warehouse) -> None:
    rows = {"patient-1": "{}", "hasty-1": '{"judging": {"timeout": 0.001}}'}
    warehouse.write([Experiment(id, "1", id, 0, config, "v") for id, config in rows.items()])
    log = Log(requests_folder(warehouse.place))
    names = " ".join(f"o{number}" for number in range(16))
    pddl = f"(define (problem p) (:domain slow) (:objects {names}) (:init) (:goal (done)))"
    for id in rows:
        told = answer(1, nonce=id, experiment=id, domain=DOMAIN, problem=pddl, text="(ponder)\n",
                      prompt_format="pddl-2")  # fmt: skip
        log.append(as_line(told)).result(timeout=10)
    log.close()
    assert load_requests(warehouse) == 0
    sql = (
        "SELECT t.experiment, v.outcome FROM traces AS t LEFT JOIN stg_verdicts AS v USING (trace)"
    )
    found = {row.experiment: row.outcome for row in warehouse.frame(sql).itertuples()}
    assert found["patient-1"] == "VALID"
    assert found["hasty-1"] != found["hasty-1"], "not judged is NULL"
    [refused] = warehouse.every(Unjudged)
    assert refused.reason.startswith("the time for this plan is over")


def test_plans_that_take_long_keep_nobody_from_the_warehouse(warehouse: Warehouse) -> None:
    """Their verdicts are found before the loader has it; a user may send many."""
    warehouse.write([Experiment("e-1", "1", "e", 0, "{}", "v")])
    warehouse.publish()
    names = " ".join(f"o{number}" for number in range(20))
    pddl = f"(define (problem p) (:domain slow) (:objects {names}) (:init) (:goal (done)))"
    one = answer(1, domain=DOMAIN, problem=pddl, text="(ponder)\n", prompt_format="pddl-2")
    folder = requests_folder(warehouse.place)
    log = Log(folder)
    for line in as_line(one), b'{"kind": "told"}\n':
        log.append(line).result(timeout=10)
    log.close()
    segments, slow = complete_segments(folder), Slow()
    ready = [*judge_beforehand(warehouse.place, [*segments, folder / "gone"], slow)]
    assert ready == [*segments, folder / "gone"]
    assert [*slow] == [one.trace]
    with patch("flows.deployment.loading.judgement", side_effect=AssertionError):
        assert load_requests(warehouse, segments, slow) == 1, "the line that says nothing"
    assert [found.outcome for found in warehouse.every(Judgement)] == ["VALID"]
    assert complete_segments(folder) == []


def test_judging_that_takes_longer_than_a_pass_goes_on_in_the_next(tmp_path: Path) -> None:
    """Else such a segment would be judged from its beginning, for ever."""
    path = tmp_path / "w.duckdb"
    with Warehouse(path) as store:
        store.write([Experiment("e-1", "1", "e", 0, "{}", "v")])
        store.publish()
        folder = requests_folder(store.place)
    names = " ".join(f"o{number}" for number in range(20))
    log = Log(folder)
    for count in range(4):
        objects = f"(:objects {names} x{count})"
        pddl = f"(define (problem p) (:domain slow) {objects} (:init) (:goal (done)))"
        one = answer(count, domain=DOMAIN, problem=pddl, text="(ponder)\n", prompt_format="pddl-2")
        log.append(as_line(one)).result(timeout=10)
    log.close()
    waits = patch("flows.deployment.loading.select.select", side_effect=[[[]]] * 11 + [[[1]]])
    with patch("flows.deployment.loading.PASS", 0.02), waits:
        main(str(path), 0.0)
    with Warehouse(path, read_only=True) as store:
        assert [found.outcome for found in store.every(Judgement)] == ["VALID"] * 4


def test_a_task_with_its_objects_in_another_order_is_not_judged_by_wrong_names(
    warehouse: Warehouse,
) -> None:
    """Compact prompts name objects by their order: the plan would be another one."""
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    own = answer(1).problem
    assert own is not None
    first = answer(1, problem=re.sub(r"\bb(\d)", r"m\1", own))
    assert first.problem is not None
    turned = re.sub(
        r"\(:objects\s+([^)]*?)( - \w+)?\)",
        lambda found: f"(:objects {' '.join(reversed(found[1].split()))}{found[2] or ''})",
        first.problem,
    )
    assert turned != first.problem
    second = replace(first, nonce="other", problem=turned)
    plain = replace(second, nonce="plain", prompt_format="pddl-2")
    log = Log(requests_folder(warehouse.place))
    for one in (first, second, plain):
        log.append(as_line(one), in_order=True).result(timeout=10)
    log.close()
    assert load_requests(warehouse) == 0
    [refused] = warehouse.every(Unjudged)
    assert (refused.trace, refused.reason) == (second.trace, OTHER_NAMES)
    judged = {one.trace for one in warehouse.every(Judgement)}
    assert judged == {first.trace, plain.trace}
    wrong = [line for check in verify(warehouse, Watch(quiet=True)) for line in check.wrong]
    assert not [line for line in wrong if "verdict" in line]


def test_the_last_word_counts_whichever_log_it_is_in(warehouse: Warehouse) -> None:
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    early, late = NOW, NOW + timedelta(seconds=1)
    for said, given in ((True, late), (False, early)):
        log = Log(requests_folder(warehouse.place))
        told = Told(trace=answer(1).trace, accepted=said, given=given)
        for line in (answer(1), told):
            log.append(as_line(line), in_order=True).result(timeout=10)
        log.close()
        load_requests(warehouse)
        [heard] = warehouse.every(Feedback)
        assert heard.accepted


def load(warehouse: Warehouse, *what: Answered | Told) -> None:
    log = Log(requests_folder(warehouse.place))
    for one in what:
        log.append(as_line(one), in_order=True).result(timeout=10)
    log.close()
    load_requests(warehouse)


def test_the_first_word_of_a_session_is_kept(warehouse: Warehouse) -> None:
    """Whom users prefer is told by what they said first: or looking every night errs too often."""
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    new = answer(1, generation=1, session="s1")
    old = answer(2, generation=0, session="s2")
    later = iter(range(1, 9))

    def told(of: Answered, accepted: bool) -> Told:
        given = NOW + timedelta(seconds=next(later))
        return Told(trace=of.trace, accepted=accepted, given=given)

    def sequence() -> list[tuple[str, bool]]:
        found = warehouse.query("sessions_told", experiment="e-1", candidate=1, parent=0)
        return list(zip(found["session"], found["accepted"].astype(bool), strict=True))

    early = told(new, accepted=False)
    load(warehouse, new, old, told(new, accepted=True), told(old, accepted=True))
    assert sequence() == [("s1", True), ("s2", True)]
    load(warehouse, told(new, accepted=False), told(old, accepted=False))
    assert [one.accepted for one in warehouse.every(Feedback)] == [False, False]
    assert sequence() == [("s1", True), ("s2", True)]
    load(warehouse, early, told(old, accepted=True))  # of another log, which was loaded late
    assert sequence() == [("s1", False), ("s2", True)]
    assert written_otherwise(warehouse)[1] == []


def test_a_correction_of_what_was_forgotten_leaves_no_word_behind(warehouse: Warehouse) -> None:
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    first = answer(1)
    load(warehouse, first)
    forget(warehouse, trace=first.trace)
    correction = answer(1, nonce="c", endpoint="correction", corrects=first.trace)
    load(warehouse, correction, Told(trace=correction.trace, accepted=True, given=NOW, user="u"))
    assert warehouse.every(Feedback) == []
    assert warehouse.count(schema.traces) == 1
    load(warehouse, answer(1, nonce="d", endpoint="correction", corrects=correction.trace))
    assert warehouse.count(schema.traces) == 1, "nor does a correction of the correction"


def test_nothing_tells_of_who_was_forgotten(warehouse: Warehouse) -> None:
    """Not the figures on one who judged answers of others alone, nor the reason of a decision."""
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    first = answer(1)
    load(warehouse, first, Told(trace=first.trace, accepted=True, given=NOW, user="b"))
    row = {"trace": [first.trace], "kept": [False], "weight": [0.0], "reason": ["no domain SECRET"],
           "task": ["k"], "from_generation": [0], "plan_length": [1], "reasoning_tokens": [0],
           "accepted": [True]}  # fmt: skip
    warehouse.decide(pd.DataFrame(row), Mark("e-1", 1, "curate"))
    warehouse.write([Figure("e-1", 1, "users", "user=b", "judged", 1.0, "")])
    forget(warehouse, user=["b"])
    assert warehouse.every(Figure) == []
    forget(warehouse, trace=first.trace)
    assert b"SECRET" not in Path(str(warehouse.place)).read_bytes()
    assert written_otherwise(warehouse)[1] == []


def test_a_line_that_cannot_be_read_is_kept_once(warehouse: Warehouse) -> None:
    folder = requests_folder(warehouse.place)
    log = Log(folder)
    log.append(b"nonsense\n").result(timeout=10)
    log.close()
    full = patch.object(Warehouse, "hear", side_effect=ComponentFailure("the disk is full"))
    with full, pytest.raises(ComponentFailure, match="full"):
        load_requests(warehouse)
    assert load_requests(warehouse) == 1
    assert (folder.parent / "unreadable.jsonl").read_bytes() == b"nonsense\n"


def test_what_was_forgotten_stays_so_and_another_keeps_his_own(warehouse: Warehouse) -> None:
    """Late feedback and shadows bring nothing back; a task that somebody else asks is whole."""
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    first = answer(1)

    load(warehouse, first)
    assert forget(warehouse, trace=first.trace).traces == 1
    [task] = warehouse.every_task()
    assert (task.pddl, task.domain_pddl) == ("", "")
    late = Told(trace=first.trace, accepted=True, given=NOW, comment="late")
    load(warehouse, late, answer(9, corrects=first.trace, endpoint="shadow"))
    assert warehouse.every(Feedback) == []
    assert warehouse.count(schema.requests) == 1
    load(warehouse, answer(1, nonce="other"))
    [task] = warehouse.every_task()
    assert task.parsed.key == task.key
    assert warehouse.frame("SELECT count(*) AS n FROM domains WHERE pddl = ''")["n"][0] == 0


def test_tasks_that_only_the_forgotten_had_go_with_the_last_of_them(warehouse: Warehouse) -> None:
    warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
    log = Log(requests_folder(warehouse.place))
    both = answer(1, nonce="one"), answer(1, nonce="other")
    for one in both:
        log.append(as_line(one), in_order=True).result(timeout=10)
    log.close()
    load_requests(warehouse)
    for one, left in zip(both, (True, False), strict=True):
        forget(warehouse, trace=one.trace)
        [task] = warehouse.every_task()
        assert (bool(task.pddl), bool(task.domain_pddl)) == (left, left)
    assert written_otherwise(warehouse)[1] == []


@pytest.mark.parametrize("by", ["user", "trace"])
def test_a_forgetting_that_was_killed_is_finished_by_asking_again(by: str, tmp_path: Path) -> None:
    """Killed before it wrote the files anew, they still have the bytes."""
    path = tmp_path / "w.duckdb"
    with Warehouse(path) as warehouse:
        warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
        log, first = Log(requests_folder(warehouse.place)), answer(1)
        secret = Told(trace=first.trace, accepted=True, given=NOW, comment="SECRETCOMMENT")
        for one in (first, secret):
            log.append(as_line(one), in_order=True).result(timeout=10)
        log.close()
        load_requests(warehouse)
        warehouse.publish()
    holding = [path, tmp_path / "w.duckdb.snapshot"]
    assert all(b"SECRETCOMMENT" in one.read_bytes() for one in holding)
    named = {"user": ["u"]} if by == "user" else {"trace": first.trace}
    killed = patch.object(Warehouse, "rewrite", side_effect=KeyboardInterrupt)
    with Warehouse(path) as warehouse, killed, pytest.raises(KeyboardInterrupt):
        forget(warehouse, **named)
    assert b"SECRETCOMMENT" in holding[1].read_bytes()
    told = "posterity forget` was killed"
    assert told in CliRunner().invoke(app, ["status", "--warehouse", str(path)]).stdout
    with Warehouse(path, read_only=True) as warehouse:
        [found] = [one for one in verify(warehouse, Watch()) if one.name == "forgotten"]
    assert told in found.wrong[0]
    with Warehouse(path) as warehouse, pytest.raises(InvalidInput, match="forgotten already"):
        forget(warehouse, **named)
    assert not any(b"SECRETCOMMENT" in one.read_bytes() for one in holding)
    assert told not in CliRunner().invoke(app, ["status", "--warehouse", str(path)]).stdout


def test_what_is_answered_while_a_user_is_forgotten_is_erased_too(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        warehouse.write([Experiment("e-1", "1", "e", 0, '{"a": 1}', "v")])
        others = answer(3, user="other")
        word = Told(trace=others.trace, accepted=True, given=NOW, comment="I am u", user="u")
        late, rewrite = [answer(2, nonce="late"), word], Warehouse.rewrite

        def meanwhile(store: Warehouse) -> None:
            load(store, *late)
            late.clear()
            rewrite(store)

        load(warehouse, answer(1), others)
        with patch.object(Warehouse, "rewrite", meanwhile):
            found = forget(warehouse, user=["u"])
        assert (found.traces, found.at_work) == (2, False)
        assert len(warehouse.forgotten()) == 2
        [kept] = warehouse.every(Feedback)
        assert (kept.comment, kept.user_hash) == (None, "forgotten")


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
    folder = requests_folder(warehouse.place)
    log = Log(folder, lanes=1)
    lines = [as_line(first), as_line(first), as_line(text), b"nonsense\n"]
    lines += [as_line(Told(trace=first.trace, accepted=said, given=NOW)) for said in (True, False)]
    for line in lines:
        log.append(line).result(timeout=10)
    log.close()
    [segment] = complete_segments(folder)
    kept = segment.read_bytes()
    assert load_requests(warehouse) == 1
    assert len(warehouse.every(Feedback)) == 1
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
