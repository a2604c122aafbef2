"""Curators of users: functions of a file of theirs, found by name and held to its hash."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from curation import CURATORS, Options, curate, keep
from curation.own import code_of, curator_named, rehearse
from flows.audit.verify import verify_and_tell
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.iterate import iterate
from flows.progress import Watch
from planners.errors import InvalidInput
from tests.flows.commands.test_cli import SMALL, posterity
from warehouse.store import Warehouse

LONGEST = """
from curation import Selection, keep

def longest(pool, options):
    valid = pool[pool["outcome"] == "VALID"].sort_values(["plan_length", "trace"])
    best = valid.drop_duplicates("task", keep="last")
    return keep(pool, dict(zip(best["trace"], best["plan_length"] / 10)), "the longest of its task")

def everything(pool, options):
    return keep(pool, pool["trace"])

def nothing(pool, options):
    return list(pool["trace"])

def half(pool, options):
    return keep(pool.head(1), pool["trace"].head(1))

def negative(pool, options):
    return keep(pool, dict.fromkeys(pool["trace"], -1.0))

def broken(pool, options):
    return pool["no such column"]

def by_feedback(pool, options):
    return keep(pool, pool.loc[pool["accepted"].eq(True), "trace"])

def dropper(pool, options):
    valid = pool[pool["outcome"] == "VALID"]
    return keep(valid, valid["trace"])

def tamper(pool, options):
    found = keep(pool, pool["trace"].head(2)).frame.iloc[::-1]
    pool["outcome"] = "VALID"
    found = found.assign(task="nope", from_generation=77, plan_length=-3, weight=2.0)
    return Selection(found)

def exiter(pool, options):
    raise SystemExit(0)

def wordless(pool, options):
    return Selection(keep(pool, pool["trace"]).frame.assign(reason=float("nan")))

def unsure(pool, options):
    return Selection(keep(pool, pool["trace"]).frame.assign(kept=None))

def twice(pool, options):
    found = keep(pool, pool["trace"]).frame
    found.insert(0, "kept", True, allow_duplicates=True)
    return Selection(found)

def weightless(pool, options):
    return keep(pool, dict.fromkeys(pool["trace"], 0.0))

def picky(pool, options):
    return keep(pool, [])

number = 7
"""
POOL = pd.DataFrame(
    {
        "trace": ["a", "b", "c"],
        "task": ["k", "k", "l"],
        "generation": [0, 0, 0],
        "outcome": ["VALID", "VALID", "NO_PLAN"],
        "plan_length": [2, 4, None],
        "reasoning_tokens": [0, 0, 0],
    }
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's file, as the working directory."""
    (tmp_path / "mine.py").write_text(LONGEST)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner.py").write_text(LONGEST)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("mine", "pack", "pack.inner", "raises"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["mine:longest", "pack.inner:longest"])
def test_a_users_curator_chooses(name: str, mine: Path) -> None:
    found = curate(curator_named(name, code_of(name)), POOL, 1, "all", Options()).frame
    assert found[["trace", "kept", "weight"]].values.tolist() == [
        ["a", False, 0.0], ["b", True, 0.4], ["c", False, 0.0],
    ]  # fmt: skip
    assert set(found["reason"]) == {"the longest of its task", "not kept", "invalid: NO_PLAN"}


def test_a_file_that_is_changed_between_two_runs_is_run_again(mine: Path) -> None:
    for reason in ("first", "second"):
        (mine / "mine.py").write_text(
            f"from curation import keep\ndef one(p, o): return keep(p, ['b'], {reason!r}, '-')"
        )
        found = curate(curator_named("mine:one"), POOL, 1, "all", Options()).frame
        assert reason in set(found["reason"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("longest", "unknown curator 'longest'; known: shortest"),
        ("nowhere:longest", "there is no module 'nowhere'"),
        ("../mine:longest", "there is no module '../mine'"),
        ("mine:shortest", "cannot be loaded: AttributeError"),
        ("mine:number", "is not a function"),
        ("raises:longest", "cannot be loaded: RuntimeError: not today"),
        ("mine:broken", "raised KeyError"),
        ("mine:half", "decisions on 1 traces, of a pool of 5"),
        ("mine:by_feedback", "raised KeyError: 'accepted'"),
    ],
)
def test_what_cannot_curate_is_one_message_before_a_run(
    name: str, message: str, mine: Path
) -> None:
    (mine / "raises.py").write_text("raise RuntimeError('not today')")
    with pytest.raises(InvalidInput, match=message):
        rehearse(curator_named(name), users=False)
    done = posterity("run", "tiny", "--set", f"curation.curator={name}", folder=mine)
    assert (done.returncode, done.stderr.count("error:")) == (2, 1)
    assert "Traceback" not in done.stderr
    assert not list(mine.glob("*.duckdb*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine:nothing", "returned a list, not a curation.Selection"),
        ("mine:half", "decisions on 1 traces, of a pool of 3"),
        ("mine:negative", "a weight below 0, -1"),
        ("mine:broken", "raised KeyError"),
        ("mine:dropper", "decisions on 2 traces, of a pool of 3"),
        ("mine:exiter", "raised SystemExit"),
        ("mine:wordless", "a reason that is no text"),
        ("mine:unsure", "neither kept nor dropped"),
        ("mine:twice", "a column twice"),
        ("mine:weightless", "a weight of 0 for all that it keeps"),
    ],
)
def test_what_is_no_selection_is_refused(name: str, message: str, mine: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        curate(curator_named(name), POOL, 1, "all", Options())


def test_of_a_curator_decisions_alone_are_taken(mine: Path) -> None:
    """The facts beside them are the pool's, and what is dropped weighs nothing."""
    before = POOL.copy()
    found = curate(curator_named("mine:tamper"), POOL, 1, "all", Options()).frame
    pd.testing.assert_frame_equal(POOL, before)
    meant = keep(POOL, {"a": 2.0, "b": 2.0}).frame
    pd.testing.assert_frame_equal(found, meant.assign(reason=found["reason"]))


def test_a_curator_of_feedback_or_of_nothing_is_rehearsed(mine: Path) -> None:
    rehearse(curator_named("mine:by_feedback"), users=True)
    rehearse(curator_named("mine:picky"), users=False)
    changes = ["curation.curator=mine:by_feedback", "curation.sources=['shop']"]
    assert load_experiment("tiny", changes).curation.code == code_of("mine:by_feedback")


def test_a_file_that_changed_is_not_run(mine: Path) -> None:
    before = code_of("mine:longest")
    (mine / "mine.py").write_text("raise SystemExit('run')")
    with pytest.raises(InvalidInput, match="has changed since the experiment was begun"):
        curator_named("mine:longest", before)


def test_a_run_learns_what_the_users_curator_keeps(mine: Path) -> None:
    changes = [one for one in SMALL if one != "--set"]
    experiment = load_experiment("tiny", [*changes, "curation.curator=mine:longest"])
    assert experiment.curation.code == code_of("mine:longest")
    assert experiment.id != load_experiment("tiny", changes).id
    quiet = Watch(quiet=True)
    with Warehouse(mine / "w.duckdb") as store:
        iterate(store, experiment, quiet)
        kept = store.frame("SELECT DISTINCT weight, plan_length FROM curated")
        assert (kept["weight"] * 10).round().tolist() == kept["plan_length"].tolist()
        assert verify_and_tell(store, quiet)
        again = Experiment.model_validate_json(experiment.model_dump_json())
        assert again.id == experiment.id
    (mine / "mine.py").write_text("raise SystemExit('run')")
    told = posterity("verify", "--warehouse", "w.duckdb", folder=mine)
    assert "not checked: the file of curator 'mine:longest' has changed" in told.stdout
    assert "NOT VERIFIED: " in told.stdout
    assert told.returncode == 1
    os.remove(mine / "mine.py")
    told = posterity("verify", "--warehouse", "w.duckdb", folder=mine)
    assert "not checked: there is no module 'mine'" in told.stdout


def test_the_registry_is_named() -> None:
    assert all(name == curator.name for name, curator in CURATORS.items())


def test_an_id_of_no_trace_is_refused() -> None:
    assert keep(POOL, ["b"]).frame["kept"].sum() == 1
    with pytest.raises(InvalidInput, match="'d' is the id of no trace of the pool"):
        keep(POOL, ["b", "d"])
