"""The loop itself with the embedded base: real sampling, checking, curation and training."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flows.audit.verify import verify_and_tell
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import checkpoint_of
from flows.generations.identity import warm_up_hash
from flows.generations.lessons import as_lessons, lessons_of_warm_up
from flows.iterate import Stages, iterate
from flows.loop import sample
from flows.loop.learn import train
from flows.loop.prepare import prepare
from flows.progress import Watch
from planners.checking.checker import Checker
from planners.domains.folder import SPLITS
from planners.errors import ComponentFailure, InvalidInput
from planners.models.checkpoint import weights_hash
from planners.models.hardware import use_threads
from planners.pddl.isomorphism import shape
from planners.prompts.formats import PROMPTS
from planners.records import derive_seed
from planners.training.curriculum import Pretraining
from planners.training.fine_tuning import fine_tune
from planners.training.pretraining import pretrain
from tests.conftest import contents, copied, small
from tests.forked import FORKS
from warehouse.places.connect import VIEWS
from warehouse.pool import lessons_of
from warehouse.store import Warehouse

EXPERIMENT = Experiment.model_validate(small())
SILENT = Watch(quiet=True)


def finish(path: Path, experiment: Experiment = EXPERIMENT) -> None:
    with Warehouse(path) as store:
        iterate(store, experiment, Watch(quiet=True))


def test_another_experiment_in_the_warehouse_changes_no_task(tmp_path: Path) -> None:
    mine = Experiment.model_validate(small(seed=1))
    texts = {}
    for others in ([], [EXPERIMENT]):
        with Warehouse(tmp_path / f"{len(others)}.duckdb") as store:
            for experiment in (*others, mine):
                prepare(store, experiment, Watch(quiet=True))
            texts[len(others)] = {
                task.key: task.pddl for split in SPLITS for task in store.tasks(mine.id, split)
            }
            if others:
                common = store.frame(
                    "SELECT task FROM experiment_tasks GROUP BY task HAVING count(*) = 2"
                )
                assert len(common) > 0
    assert texts[0] == texts[1]


def test_what_a_run_leaves_behind(finished: Path) -> None:
    with Warehouse(finished) as store:
        counts = store.frame(
            "SELECT generation, purpose, count(*) AS n FROM traces GROUP BY ALL ORDER BY ALL"
        )
        assert counts.values.tolist() == [
            [0, "deploy", 36],
            [0, "evaluate", 57],
            [1, "deploy", 36],
            [1, "evaluate", 57],
            [2, "evaluate", 57],
        ]
        assert store.frame("SELECT count(*) AS n FROM judgements")["n"][0] == 36 * 2 + 57 * 3
        lineage = store.frame("SELECT * FROM lineage").set_index("generation")
        assert lineage["start"].tolist() == ["none", "base", "base"]
        assert lineage["traces"].tolist()[0] == 0
        assert lineage["traces"][1] >= 1
        # nothing but valid deployed traces of training tasks ever trains anything
        taught = store.frame(
            """
            SELECT j.outcome, t.purpose, e.split FROM curated AS c
            JOIN traces AS t ON t.trace = c.trace_id
            JOIN judgements AS j ON j.trace = c.trace_id
            JOIN experiment_tasks AS e ON e.task = t.task AND e.experiment = t.experiment
            """
        )
        assert set(taught.itertuples(index=False, name=None)) == {("VALID", "deploy", "train")}
        # a decision on every trace of the pool
        decided = store.frame(
            "SELECT generation, count(*) AS n FROM decisions GROUP BY ALL ORDER BY ALL"
        )
        assert decided.values.tolist() == [[1, 36], [2, 72]]
        splits = store.frame(
            "SELECT split, count(DISTINCT task) AS n FROM experiment_tasks GROUP BY split ORDER "
            "BY 1"
        )
        assert splits.values.tolist() == [["heldout", 4], ["larger", 3], ["train", 12]]


def test_running_again_changes_nothing(finished: Path) -> None:
    before = contents(finished)
    finish(finished)
    assert contents(finished) == before


def test_going_further_keeps_what_is_there(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    finish(path, EXPERIMENT.model_copy(update={"generations": 1}))
    finish(path)
    assert contents(path) == contents(finished)


def test_a_failure_behind_any_stage_resumes_to_the_same(finished: Path, tmp_path: Path) -> None:
    """Behind each in turn, in one warehouse."""
    path = tmp_path / "w.duckdb"

    class Stop(Exception):
        pass

    def stopping(stage: str) -> Callable[..., None]:
        def then_stop(*arguments: Any) -> None:
            getattr(Stages(), stage)(*arguments)
            raise Stop

        return then_stop

    for stage in ("prepare", "deploy", "evaluate", "judge", "promote", "curate", "train"):
        with Warehouse(path) as store, pytest.raises(Stop):
            iterate(store, EXPERIMENT, Watch(quiet=True), Stages(**{stage: stopping(stage)}))
    finish(path)
    assert contents(path) == contents(finished)


@pytest.mark.slow  # `make chaos` kills too
def test_kills_at_random_moments_lose_and_double_nothing(finished: Path, tmp_path: Path) -> None:
    """POSTERITY_KILLS says how many."""
    rng = random.Random(os.environ.get("KILL_SEED", "0"))
    for name in ("first", "second"):  # the first loads libraries
        started = time.monotonic()
        process = FORKS.Process(target=finish, args=(tmp_path / f"{name}.duckdb",))
        process.start()
        process.join()
        assert process.exitcode == 0
    whole, runs, killed = time.monotonic() - started, 0, 0
    while killed < int(os.environ.get("POSTERITY_KILLS", "6")):
        runs += 1
        path = tmp_path / f"run{runs}.duckdb"
        while True:
            process = FORKS.Process(target=finish, args=(path,))
            process.start()
            process.join(rng.uniform(0.1, 1.0) * whole)
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            process.kill()
            process.join()
            killed += 1
        finish(path)
        assert contents(path) == contents(finished)
        with Warehouse(path) as store:
            assert verify_and_tell(store, Watch(quiet=True))
    assert list(tmp_path.rglob("*.partial")) == []


def test_a_control_needs_its_twin_and_matches_it(finished: Path, tmp_path: Path) -> None:
    control = Experiment.model_validate(
        small(name="control", curation={"curator": "uncurated", "match": "shortest"})
    )
    with pytest.raises(InvalidInput, match="run it there first"):
        finish(tmp_path / "alone.duckdb", control)
    path = tmp_path / "w.duckdb"
    finish(path)
    finish(path, control)
    with Warehouse(path) as store:
        counts = store.frame(
            "SELECT experiment, generation, traces FROM lineage WHERE generation > 0"
        )
    by_experiment = counts.groupby("experiment")["traces"].apply(list)
    assert by_experiment[control.id] == by_experiment[EXPERIMENT.id]


def test_a_warm_up_is_a_recorded_stage_that_a_control_shares(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    file, warmup = tmp_path / "w.duckdb", {"sizes": [3, 4], "shares": [0.5, 0.5], "steps": 4}
    begun = small(
        name="warm", generations=1, model={"base": str(tiny_checkpoint)},
        warmup=warmup, curation={"curator": "uncurated"},
    )  # fmt: skip
    grades = {"sizes": [3, 5], "horizons": [2, 4]}
    begun["tasks"] = {"domain": "blocksworld", "train": {"count": 9, **grades}}
    experiment = Experiment.model_validate(begun)
    other = Experiment.model_validate({**begun, "generations": 0, "deploy": {"samples": 2}})
    with Warehouse(file) as store:
        lessons = []
        for one in (experiment, other):
            prepare(store, one, SILENT)
            lessons.append(lessons_of_warm_up(store, one, SILENT))
        assert warm_up_hash(lessons[0]) == warm_up_hash(lessons[1])
        for lesson in lessons[0]:
            plan = PROMPTS["compact"].read(lesson.task, lesson.completion).plan
            assert Checker(lesson.task).check(plan).valid
        measured = {shape(task.parsed) for task in store.tasks(experiment.id, "train")}
        assert not measured & {shape(lesson.task) for lesson in lessons[0]}
        train(store, experiment, 0, SILENT)
        iterate(store, other, SILENT)
        first, second = (store.generation(one.id, 0) for one in (experiment, other))
        assert first is not None
        assert second is not None
        assert first.checkpoint == second.checkpoint
        assert first.weights_hash == second.weights_hash
        assert first.weights_hash != weights_hash(tiny_checkpoint)
        assert json.loads(first.training or "")["rows"] == 4 * 8
        assert verify_and_tell(store, SILENT)
    with duckdb.connect(file) as connection:
        connection.execute("UPDATE generations SET training_set_hash = 'another'")
    with Warehouse(file) as store:
        assert not verify_and_tell(store, SILENT)


def test_referees_leave_their_opinions(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    judging = {"referees": ["kairos", "val"], "traces": 10}
    finish(path, Experiment.model_validate(small(generations=1, judging=judging)))
    with Warehouse(path) as store:
        said = store.frame("SELECT referee, valid, note FROM opinions")
        counts = said["referee"].value_counts().to_dict()
        assert counts.pop("replay") <= 10  # of the valid ones, whoever else is asked
        assert counts == {"kairos": 10, "val": 10}
        assert said["valid"].notna().any()
        assert (said.loc[said["valid"].isna(), "note"] != "").all()
        assert store.frame("SELECT * FROM disagreements").empty
        shown = store.frame("SELECT DISTINCT kind FROM canaries")
        assert len(shown) >= 8


def test_a_changed_or_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    parent_start = Experiment.model_validate(
        small(generations=1, training={"steps": 2, "batch": 8, "start": "parent"})
    )
    finish(path, parent_start)
    [weights] = (tmp_path / "w.duckdb.checkpoints").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x01\x02\x03\x04")
    further = parent_start.model_copy(update={"generations": 2})
    with pytest.raises(InvalidInput, match="are not those that generation 1"):
        finish(path, further)
    weights.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="is missing"):
        finish(path, further)


def test_views_of_an_experiment_know_nothing_of_another_on_its_tasks(
    finished: Path, tmp_path: Path
) -> None:
    """It has all tasks in common, at other horizons, and results of its own."""
    path = copied(finished, tmp_path)
    own = Experiment.model_validate(small())
    other = Experiment.model_validate(small(training={"steps": 2, "batch": 8, "start": "parent"}))
    finish(path, other)
    with Warehouse(path) as both, both.writing() as connection:
        of = f"experiment = '{other.id}'"
        connection.exec_driver_sql(f"UPDATE experiment_tasks SET horizon = horizon + 5 WHERE {of}")
        connection.exec_driver_sql(
            f"UPDATE judgements SET outcome = 'VALID', plan_length = 1 WHERE {of} AND task IN "
            "(SELECT task FROM tasks USING SAMPLE 50% (bernoulli, 1))"
        )
    told = []
    with Warehouse(finished, read_only=True) as alone, Warehouse(path, read_only=True) as both:
        for view in VIEWS:
            columns = both.frame(f"DESCRIBE {view}")["column_name"].tolist()
            if "experiment" in columns:
                asked = f"SELECT * FROM {view} WHERE experiment = '{own.id}' ORDER BY ALL"
                found = alone.frame(asked)
                assert found.equals(both.frame(asked)), view
                told += [view] * (len(found) > 0)
    assert {"coverage", "plan_length", "lineage", "progress", "best_plans", "curated"} <= {*told}


@pytest.mark.parametrize(("start", "of"), [("base", 0), ("parent", 1)])
def test_training_begins_with_the_weights_that_it_should(
    tmp_path: Path, start: str, of: int
) -> None:
    use_threads(1)
    settings = small()
    settings["training"] = {**settings["training"], "start": start}
    experiment = Experiment.model_validate(settings)
    finish(tmp_path / "w.duckdb", experiment)
    with Warehouse(tmp_path / "w.duckdb", read_only=True) as store:
        fine_tune(
            checkpoint_of(store, experiment, of).folder,
            as_lessons(lessons_of(store, experiment.id, 2), experiment.model.prompt),
            experiment.training, tmp_path / "again", prompt=experiment.model.prompt,
            seed=derive_seed(experiment.seed, 2, "train"),
        )  # fmt: skip
        made = store.generation(experiment.id, 2)
    assert made is not None
    assert weights_hash(tmp_path / "again") == made.weights_hash


def test_several_domains_in_one_run(tmp_path: Path) -> None:
    use_threads(1)
    pretrain(tmp_path / "base", Pretraining(("ferry", "spanner"), steps=1, batch=4))
    grades = {"sizes": [1, 2], "horizons": [2, 3]}
    domain = {"train": {"count": 3, **grades}, "heldout": {"count": 1, **grades}}
    run = small(
        tasks={"domains": {"ferry": domain, "spanner": domain}},
        model={"threads": 1, "base": str(tmp_path / "base")},
    )
    with Warehouse(tmp_path / "w.duckdb") as store:
        prepare(store, Experiment.model_validate(run), Watch(quiet=True))
        found = store.frame(
            "SELECT domain, split, count(*) AS n, max(position) AS last "
            "FROM experiment_tasks JOIN tasks USING (task) GROUP BY ALL ORDER BY ALL"
        )
    assert list(found.itertuples(index=False, name=None)) == [
        ("ferry", "heldout", 1, 0),
        ("ferry", "train", 3, 2),
        ("spanner", "heldout", 1, 1),
        ("spanner", "train", 3, 5),
    ]


def test_a_deployment_that_is_half_made_is_not_taken_for_done(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after its first part, and again before another trace, as while a server is down."""
    monkeypatch.setattr("flows.generations.tasks.PART", 4)
    path, sampled = tmp_path / "w.duckdb", sample._sampled

    def until(parts: int) -> Callable[..., Any]:
        def failing(warehouse: Warehouse, stage: sample.Stage, *rest: Any) -> Any:
            done = 0
            for found in (
                sampled(warehouse, stage, *rest) if parts or stage.purpose != "deploy" else ()
            ):
                yield found
                done += found[2]
                if stage.purpose == "deploy" and done == parts:
                    break
            if stage.purpose == "deploy":
                raise ComponentFailure("the server is down")

        return failing

    for parts in (1, 0):
        monkeypatch.setattr(sample, "_sampled", until(parts))
        with Warehouse(path) as store, pytest.raises(ComponentFailure):
            iterate(store, EXPERIMENT, SILENT)
    monkeypatch.setattr(sample, "_sampled", sampled)
    finish(path)
    assert contents(path).keys() == contents(finished).keys()
    with Warehouse(path) as store, Warehouse(finished, read_only=True) as whole:
        for table in ("traces", "canaries", "opinions"):
            counted = f"SELECT count(*) AS n FROM {table}"
            assert store.frame(counted)["n"][0] == whole.frame(counted)["n"][0], table
