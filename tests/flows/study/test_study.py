"""Studies: arms and seeds side by side, killed and resumed, and compared as pandas would."""

import io
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from scipy import stats

from flows.audit.verify import verify
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.iterate import iterate
from flows.loop.ingest import ingest
from flows.progress import Watch
from flows.study.reading import STUDIES, read_study
from flows.study.running import run_study
from planners.errors import InvalidInput
from tests.conftest import contents, small
from tests.forked import ran
from tests.processes import at_work, kill, posterity
from warehouse import schema
from warehouse.findings import Member
from warehouse.integrity import written_otherwise
from warehouse.landing import take_in
from warehouse.load import amend
from warehouse.store import Warehouse

GRADES = "sizes = [3, 4], horizons = [1, 2]"
STUDY = f"""
name = "curated"
extends = "tiny"
seeds = [0, 1]
[settings]
generations = 1
tasks.train = {{ count = 10, {GRADES} }}
tasks.heldout = {{ count = 4, {GRADES} }}
tasks.larger = {{ count = 3, sizes = [5, 6], horizons = [1, 2] }}
training.steps = 3
deploy.samples = 4
[arms.shortest]
[arms.control]
curation = {{ curator = "uncurated", match = "shortest" }}
[arms.all]
curation = {{ curator = "all-valid" }}
"""


def written(folder: Path, text: str) -> Path:
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


PAIR = STUDY.partition("[arms.all]")[0]
TWO = (
    STUDY.split("[arms.shortest]")[0].replace("[0, 1]", "[0]").replace("curated", "two")
    + """
[arms.first]
[arms.other]
curation = { curator = "all-valid" }
"""
)
STUDIED = ("study", "study.toml", "--at-once", "2", "--warehouse", "w.duckdb")


def test_a_study_that_is_killed_goes_on_and_compares_its_arms(tmp_path: Path) -> None:
    written(tmp_path, PAIR)
    with subprocess.Popen(posterity(*STUDIED), cwd=tmp_path, stdout=subprocess.DEVNULL) as first:
        parts = tmp_path / "w.duckdb.study-curated"
        while not list(parts.glob("*.duckdb.snapshot")):
            assert first.poll() is None
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    again = subprocess.Popen(posterity(*STUDIED), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    with again as it:
        while not (workers := at_work(it.pid, "spawn_main")):
            assert it.poll() is None
            time.sleep(0.05)
        kill(workers[0])  # and the study begins anew what ran
        said = it.communicate()[0]
    assert it.returncode == 0
    assert "a process was killed" in said
    assert "control, seed 1: coverage" in said
    assert "2 seeds tell very large effects only" in said
    assert not parts.exists()
    with Warehouse(tmp_path / "w.duckdb", read_only=True) as store:
        effects = store.frame("FROM study_effects WHERE split = 'train' AND generation = 1")
        rows = store.frame(
            "SELECT s.arm, s.seed, r.task, r.valid > 0 AS solved FROM studies AS s "
            "JOIN stg_task_results AS r USING (experiment) "
            "WHERE r.split = 'train' AND r.generation = 1"
        )
        kept = store.frame(
            "SELECT s.arm, s.seed, count(*) AS traces FROM studies AS s "
            "JOIN curated AS c USING (experiment) GROUP BY ALL"
        )
    table = rows.pivot(index=["seed", "task"], columns="arm", values="solved").astype(float)
    assert len(table) == 20, "the same tasks in every arm"
    for row in effects.itertuples():
        differ = table[row.arm] - table["shortest"]
        by_seed = differ.groupby("seed").mean()
        over_seeds = stats.t.ppf(0.975, 1) * by_seed.std(ddof=1) / np.sqrt(2)
        # As if there were one task more, in which the arms do not differ.
        varied = (differ**2).sum() - differ.sum() ** 2 / (len(differ) + 1)
        over_tasks = 1.96 * np.sqrt(varied) / len(differ)
        told = f"{row.arm} against shortest, coverage at the last generation: train "
        told += f"{100 * row.effect:+.1f} points"
        assert row.effect == pytest.approx(by_seed.mean())
        if not differ.any():
            assert np.isnan(row.low), "where no task differs, nobody knows how few might"
        else:
            half = max(over_seeds, over_tasks)
            assert row.high - row.effect == pytest.approx(half, rel=1e-3, abs=1e-9)
            told += f" ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
        assert told in said
    counts = kept.pivot(index="seed", columns="arm", values="traces")
    assert (counts["control"] == counts["shortest"]).all(), "the control learns from as many"
    again = ran(*STUDIED, folder=tmp_path)
    assert "4 runs, 4 of them finished before" in again.stdout
    written(tmp_path, PAIR.replace("training.steps = 3", "training.steps = 4"))
    changed = ran(*STUDIED, folder=tmp_path)
    assert (changed.returncode, "a name of its own" in changed.stderr) == (2, True)
    checked = ran("verify", "--warehouse", "w.duckdb", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout
    told = ran("report", "--warehouse", "w.duckdb", folder=tmp_path)
    assert told.returncode == 0
    assert "Study curated</h2>" in (tmp_path / "posterity.html").read_text("utf-8")
    with Warehouse(tmp_path / "w.duckdb") as store:
        with store.writing() as connection:
            connection.exec_driver_sql(
                "DELETE FROM judgements WHERE generation = 1 AND experiment IN "
                "(SELECT experiment FROM studies WHERE arm = 'control' AND seed = 1)"
            )
        halfway = store.query("report_effects")
        with store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM studies WHERE seed = 1")
        alone = store.frame("FROM study_effects")
    assert set(halfway["generation"]) == {0}, "the last that every run has"
    assert set(halfway["arm"]) == {"control"}
    assert len(alone) == 6, "an arm, two generations, three splits"
    assert alone["low"].isna().all(), "one seed has no interval over seeds"


def test_the_others_go_on_where_an_arm_cannot_be_taken_in(tmp_path: Path) -> None:
    study, place = read_study(str(written(tmp_path, TWO))), tmp_path / "w.duckdb"
    first, other = (run.experiment for run in study.runs)
    with Warehouse(place) as store:
        iterate(store, first.model_copy(update={"generations": 0}), Watch(quiet=True))
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE generations SET weights_hash = 'of another machine'")
    with pytest.raises(InvalidInput, match="has other weights in"):
        run_study(study, place, 1, Watch(quiet=True))
    with Warehouse(place, read_only=True) as store:
        members = store.every(Member)
        assert [one.arm for one in members] == ["other"], "which is whole"
        assert [one.index for one in store.generations(other.id)] == [0, 1]
    assert (tmp_path / "w.duckdb.study-two" / f"{first.id}.duckdb").exists(), "nothing is lost"


def test_a_warehouse_is_taken_in_once(finished: Path, tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as store:
        killed = patch.object(Warehouse, "record", side_effect=KeyboardInterrupt)
        with killed, pytest.raises(KeyboardInterrupt):
            take_in(store, finished)
        weights = {path.name for path in finished.with_name("w.duckdb.checkpoints").glob("*/*")}
        assert {path.name for path in store.checkpoints.glob("*/*")} == weights, "first of all"
        take_in(store, finished)
        once = contents(tmp_path / "w.duckdb")
        take_in(store, finished)
    assert contents(tmp_path / "w.duckdb") == once
    original = contents(finished)
    assert {n: rows for n, rows in once.items() if n != "landed"} == {
        n: rows for n, rows in original.items() if n != "landed"
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "UPDATE generations SET weights_hash = 'x' WHERE generation = 2",
            r"generation 2 of small-.* has other weights",
        ),
        (
            "UPDATE traces SET text = 'x' WHERE trace = (SELECT min(trace) FROM traces)",
            r"the trace .* of small-.* has another text",
        ),
    ],
)
def test_runs_that_differ_are_not_mixed(
    finished: Path, tmp_path: Path, change: str, told: str
) -> None:
    """As after another machine, or another version's verdicts, made a generation of the same."""
    with Warehouse(tmp_path / "w.duckdb") as store:
        take_in(store, finished)
        with store.writing() as connection:
            connection.exec_driver_sql(change)
        with pytest.raises(InvalidInput, match=told):
            take_in(store, finished)


def test_a_run_that_went_on_elsewhere_ends_what_was_decided_here(
    finished: Path, tmp_path: Path
) -> None:
    """A study that is given more generations makes a run from its beginning, beside the study."""
    where = tmp_path / "w.duckdb"
    with Warehouse(where) as store:
        iterate(store, Experiment.model_validate(small()), Watch(quiet=True), last=1)
        take_in(store, finished)
        assert written_otherwise(store)[1] == []
        assert not [wrong for check in verify(store, Watch(quiet=True)) for wrong in check.wrong]
    assert contents(where)["selections"] == contents(finished)["selections"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = [0, 1]", "seeds = [0, 0]", "a seed stands twice"),
        ("generations = 1", "generations = 1\nseed = 4", "'shortest': seed of its runs follow"),
        ("seeds = [0, 1]", "seeds = []", "seeds"),
        ("[arms.all]", "[arms.'../all']", "arms"),
        ('curation = { curator = "all-valid" }', "", "'shortest' and 'all' are the same"),
        ("[arms.all]", "[arms.all]\ntasks.heldout.count = 9", "differ in 'tasks'"),
        ("[arms.all]", "[arms.all]\nevaluate.samples = 9", "differ in 'evaluate'"),
        ("[arms.all]", "[arms.all]\ntraining.step = 9", "training.steps"),
        ("[arms.all]", "[arms.all]\ndeployment.alone = true", "waits for users"),
        ('extends = "tiny"', 'extends = "tny"', "did you mean 'tiny'"),
        ("[settings]", "[setting]", "setting"),
        ("name =", "name", "cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_said_first(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert old in STUDY
    with pytest.raises(InvalidInput, match=said):
        read_study(str(written(tmp_path, STUDY.replace(old, new))))


def test_a_study_on_a_lake_is_refused(tmp_path: Path) -> None:
    written(tmp_path, STUDY)
    refused = ran(*STUDIED[:-1], "ducklake:postgres:dbname=lake?data=/shared/lake", folder=tmp_path)
    assert (refused.returncode, "needs a warehouse in a file" in refused.stderr) == (2, True)
    assert [one.name for one in tmp_path.iterdir()] == ["study.toml"]


def test_a_study_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a study: run it with `posterity study"):
        load_experiment(str(written(tmp_path, STUDY)))


def test_ours_are_read_and_others_are_named() -> None:
    for name in STUDIES:
        assert len(read_study(name).runs) % 3 == 0
    with pytest.raises(InvalidInput, match="neither one of ours"):
        read_study("papr")


def test_a_control_follows_the_arm_that_it_matches(tmp_path: Path) -> None:
    chains = list(read_study(str(written(tmp_path, STUDY))).chains())
    assert [[run.arm for run in chain] for chain in chains] == [
        ["shortest", "control"], ["all"], ["shortest", "control"], ["all"]
    ]  # fmt: skip


def test_runs_that_are_crossed_share_a_warehouse() -> None:
    chains = [[(r.arm, r.experiment.seed) for r in c] for c in read_study("crossing").chains()]
    crossed = [("crossed", seed) for seed in (0, 1, 2)]
    assert chains == [[("alone", 0)], crossed, [("alone", 1)], [("alone", 2)]]


def test_a_study_of_any_name_touches_nothing_beside_the_warehouse(tmp_path: Path) -> None:
    """One named `checkpoints` had the folder of all weights for its own, and deleted it."""
    place = tmp_path / "w.duckdb"
    other = Experiment.model_validate(small(generations=1))
    with Warehouse(place) as store:
        iterate(store, other, Watch(quiet=True))
    told = written(tmp_path, TWO.replace('name = "two"', 'name = "checkpoints"'))
    run_study(read_study(str(told)), place, 1, Watch(quiet=True))
    with Warehouse(place, read_only=True) as store:
        assert not any(check.wrong for check in verify(store, Watch(quiet=True)))
        assert store.count(schema.generations) == 6


def test_a_study_is_taken_in_in_its_own_order_or_refused(tmp_path: Path) -> None:
    """An ingested trace's task may list its objects otherwise; other prompts would be written."""
    study = read_study(str(written(tmp_path, TWO)))
    with Warehouse(tmp_path / "first.duckdb") as store:
        iterate(store, study.runs[0].experiment, Watch(quiet=True))
        task = store.every_task()[0]
    names = re.findall(r"b\d+", task.pddl.partition("(:init")[0])
    turned = task.pddl.replace("\n    ".join(names), "\n    ".join(reversed(names)))
    assert turned != task.pddl
    line = {"domain": task.domain_pddl, "problem": turned, "completion": "(pickup b1)"}
    with Warehouse(tmp_path / "w.duckdb") as store:
        ingest(store, io.BytesIO(json.dumps(line).encode()), "shop")
        assert [one.key for one in store.every_task()] == [task.key]
        take_in(store, tmp_path / "first.duckdb")
        assert store.every_task()[0].pddl == task.pddl, "nothing but that trace rests on its order"
        assert not any(check.wrong for check in verify(store, Watch(quiet=True)))
        with store.writing() as connection:
            amend(connection, schema.tasks, schema.tasks.c.task == task.key, pddl=turned)
        with pytest.raises(InvalidInput, match="objects or facts in another order"):
            take_in(store, tmp_path / "first.duckdb")


def test_an_ingested_tasks_order_changes_no_run(tmp_path: Path) -> None:
    """Its objects are written as the experiment has them, or other prompts would be."""
    one = Experiment.model_validate(small(generations=0))
    with Warehouse(tmp_path / "plain.duckdb") as store:
        iterate(store, one, Watch(quiet=True))
        task = store.tasks(one.id)[0]
        texts = store.frame("SELECT trace, text FROM traces ORDER BY trace")
    names = re.findall(r"b\d+", task.pddl.partition("(:init")[0])
    turned = task.pddl.replace("\n    ".join(names), "\n    ".join(reversed(names)))
    line = {"domain": task.domain_pddl, "problem": turned, "completion": "(pickup b1)"}
    with Warehouse(tmp_path / "w.duckdb") as store:
        ingest(store, io.BytesIO(json.dumps(line).encode()), "shop")
        iterate(store, one, Watch(quiet=True))
        again = store.frame(
            "SELECT trace, text FROM traces WHERE purpose <> 'ingest' ORDER BY trace"
        )
        assert not any(check.wrong for check in verify(store, Watch(quiet=True)))
    assert turned != task.pddl
    assert again.equals(texts)
