"""`posterity audit` on a real small run: what it stores, what it says, what it cannot answer."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from curation.rewards import effective_reward
from flows.audit.audit import _diversity, audit
from flows.audit.generation import asked, empty
from flows.audit.ledger import Audit, Trained
from flows.audit.processes import side_by_side
from flows.audit.questions import PARTS, _together, what_is_preferred
from flows.experiments.experiment import Experiment
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.models.hardware import use_threads
from tests.conftest import small
from tests.flows.commands.test_cli import posterity
from warehouse import records, schema
from warehouse.findings import Figure
from warehouse.pool import PREFIX, TRAITS, traits_of, written_traits
from warehouse.store import Warehouse


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copy(finished, tmp_path / "posterity.duckdb")
    weights = finished.with_name(finished.name + ".checkpoints")
    shutil.copytree(weights, tmp_path / "posterity.duckdb.checkpoints")
    return tmp_path


def valid_share(store: Warehouse) -> float:
    """Deployed traces of generation 0 to valid ones."""
    deployed = "FROM stg_verdicts WHERE generation = 0 AND purpose = 'deploy'"
    counted = store.frame(f"SELECT count(*) / count(*) FILTER (WHERE outcome = 'VALID') {deployed}")
    return float(counted.to_numpy()[0, 0])


def best_of_three(store: Warehouse, kept: pd.DataFrame) -> list[float]:
    """The reward of keeping each task's shortest valid plan of its three samples, written out."""
    pool = store.frame(
        "SELECT trace, task, outcome = 'VALID' AS valid, plan_length FROM stg_verdicts "
        "WHERE generation = 0 AND purpose = 'deploy'"
    )
    assert (pool.groupby("task").size() == 3).all()
    found = []
    for trace in kept["trace_id"]:
        [row] = pool[pool["trace"] == trace].itertuples()
        mine = pool[(pool["task"] == row.task) & pool["valid"]]
        less = (mine["plan_length"] < row.plan_length).sum() / 3
        same = (mine["plan_length"] == row.plan_length).sum() / 3
        found.append(((1 - less) ** 3 - (1 - less - same) ** 3) / same)
    return found


def test_the_audit_fills_its_views_and_repeats(run: Path) -> None:
    first, again = (posterity("audit", folder=run) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == again.stdout
    assert "generation 2 learned" in first.stdout
    with Warehouse(run / "posterity.duckdb") as store:
        learned = store.frame("SELECT generation, traces FROM lineage WHERE generation > 0")
        rewards = store.frame("SELECT * FROM implicit_reward")
        assert rewards.groupby("generation").size().tolist() == learned["traces"].tolist()
        own = rewards[rewards["generation"] == 1]  # written by the weights that it starts from
        assert own["importance"].between(0.999, 1.001).all()
        assert own["effective_reward"].to_numpy() == pytest.approx(
            best_of_three(store, own), rel=0.01
        )
        assert own["effective_reward"].nunique() > 1, "not 1 for every kept trace"
        of = store.frame("SELECT generation, trace AS trace_id, valid_ratio, reward FROM rewards")
        both = rewards.merge(of, on=["generation", "trace_id"])
        told = effective_reward(both["reward"], both["importance"], 1.0, 1 / both["valid_ratio"])
        assert both["effective_reward"].to_numpy() == pytest.approx(told.to_numpy(), rel=1e-9)
        moved = store.frame("SELECT * FROM selection_differential WHERE transmission IS NOT NULL")
        assert set(moved["generation"]) == {1}
        total = moved["mean_before"] + moved["selection"] + moved["transmission"]
        assert (total - moved["mean_after"]).abs().max() < 1e-9
        steps = store.frame("SELECT * FROM audits WHERE question = 'equivalence'")
        first = steps[steps["generation"] == 1].set_index(["name", "measure"])["value"]
        assert first["all-valid", "cosine"] == pytest.approx(1.0, abs=1e-6)  # all of its own
        assert first["all-valid", "norm_ratio"] == pytest.approx(valid_share(store), rel=1e-6)
        asked = store.frame("SELECT * FROM preferences WHERE odds_ratio IS NOT NULL")
        assert set(asked["generation"]) <= {1, 2}
        assert len(asked)
        assert asked["q"].between(0, 1).all()
        assert asked["chance"].between(0, 1).all()
        pool = store.frame("SELECT * FROM between_tasks WHERE trait = 'plan_length'")
        assert pool["mean_pool"].notna().all()
        assert len(pool)
        last = store.frame("SELECT trait FROM selection_differential WHERE generation = 2")
        assert "plan_length" in set(last["trait"]), "a number, with a next generation or without"
        told = store.frame("SELECT * FROM audits WHERE value IS NULL AND note = ''")
        assert told.query("measure != 'trend'").empty or set(told["name"]) == {"trend"}
        counted = store.frame("SELECT count(*) AS n FROM audits")["n"][0]
        assert counted == store.count(schema.audits) > 50


def test_an_experiment_is_named_by_its_id_too(run: Path) -> None:
    with Warehouse(run / "posterity.duckdb", read_only=True) as store:
        [one] = store.every(records.Experiment)
    told = posterity("audit", one.id, folder=run)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == posterity("audit", folder=run).stdout
    other = posterity("audit", f"{one.id[:-12]}{12 * '0'}", folder=run)
    assert other.returncode == 2
    assert f"it holds {one.id}: name one by its id" in " ".join(other.stderr.split())
    changed = posterity("audit", one.id, "--set", "seed=1", folder=run)
    assert changed.returncode == 2
    assert "--set needs the preset or the file" in changed.stderr


def test_what_another_curator_would_have_kept_row_by_row(run: Path) -> None:
    assert posterity("audit", folder=run).returncode == 0
    with Warehouse(run / "posterity.duckdb") as store:
        differ = store.frame(
            "SELECT generation, trace, kept FROM alternatives WHERE curator = 'all-valid'"
        )
        expected = store.frame(
            "SELECT s.generation, s.trace, s.kept FROM stg_decisions AS s JOIN stg_verdicts AS v "
            "ON v.trace = s.trace WHERE s.kept <> (v.outcome = 'VALID')"
        )
        key = ["generation", "trace"]
        pd.testing.assert_frame_equal(
            differ.sort_values(key, ignore_index=True), expected.sort_values(key, ignore_index=True)
        )
        told = store.frame(
            "SELECT name, value FROM audits WHERE measure = 'effective_reward' AND generation = 1"
        ).set_index("name")["value"]
        assert told["shortest"] == pytest.approx(1.0, abs=1e-3), "all of its own, Z_pi = Z_beta"
        assert len(told) == 4


def test_a_curator_is_tried_on_the_pools_of_a_run(run: Path) -> None:
    (run / "mine.py").write_text(
        "from curation import keep\ndef valid(pool, options):\n"
        "    return keep(pool, pool.loc[pool['outcome'] == 'VALID', 'trace'], 'it works')\n"
        "def none(pool, options):\n    return keep(pool, [])\n"
    )
    before = (run / "posterity.duckdb").read_bytes()
    done = posterity("audit", "--curator", "mine:valid", folder=run)
    assert (done.returncode, done.stderr) == (0, "")
    with Warehouse(run / "posterity.duckdb", read_only=True) as store:
        counted = store.frame(
            "SELECT s.generation, count(*) AS traces, count(*) FILTER (WHERE outcome = 'VALID') AS "
            "valid, count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE kept AND outcome "
            "= 'VALID') AS overlap FROM stg_decisions AS s LEFT JOIN stg_verdicts AS v ON v.trace "
            "= s.trace GROUP BY ALL ORDER BY s.generation"
        )
    told = re.findall(
        r"(\d+) would learn (\d+) of (\d+) traces by mine:valid, of \d+ tasks; (\d+) of them are "
        r"among the (\d+) that shortest chose", " ".join(done.stdout.split()),
    )  # fmt: skip
    columns = ["generation", "valid", "traces", "overlap", "kept"]
    assert [tuple(map(int, one)) for one in told] == [
        tuple(map(int, row)) for row in counted[columns].itertuples(index=False)
    ]
    assert len(told) > 0
    refusals = {
        "nix": "unknown curator", "mine:none": "kept none of",
        "noisy": "curator 'noisy' needs curation.error_rate",
        "feedback": "curator 'feedback' needs curation.sources or deployment",
    }  # fmt: skip
    for name, message in refusals.items():
        refused = posterity("audit", "--curator", name, folder=run)
        assert refused.returncode == 2
        assert message in refused.stderr
    assert (run / "posterity.duckdb").read_bytes() == before


def test_traits_of_ones_own(run: Path) -> None:
    trait = "audit.traits.uses_b1=\"contains(text, ' b1')\""
    settings = run / "small.toml"
    settings.write_text(_toml(small()))
    done = posterity("audit", "small.toml", "--set", trait, folder=run)
    assert (done.returncode, done.stderr) == (0, "")
    with Warehouse(run / "posterity.duckdb") as store:
        names = store.frame("SELECT DISTINCT name FROM audits WHERE question = 'change'")["name"]
    assert "uses_b1" in set(names)


def test_a_broken_bound_is_exit_1(run: Path) -> None:
    (run / "small.toml").write_text(_toml(small()))
    loose = ["max_length_drift=99.0", "min_ess=0.0", "max_undeclared_odds_ratio=1e9"]
    partly = [loose[-1], "traits.partly=CASE WHEN sample > 0 THEN sample END"]
    cases = (loose, 0), (partly, 1), (["max_length_drift=0.0", "min_ess=1.0"], 1)
    for bounds, code in cases:
        settings = [word for bound in bounds for word in ("--set", f"audit.{bound}")]
        done = posterity("audit", "small.toml", *settings, folder=run)
        assert (done.returncode, done.stderr) == (code, "")
        assert ("is broken" in done.stdout) == bool(code)
    with Warehouse(run / "posterity.duckdb") as store:
        held = store.frame("SELECT DISTINCT name, value FROM audits WHERE measure = 'held'")
    assert ("max_length_drift", 0.0) in set(held.itertuples(index=False, name=None))
    again = posterity("audit", folder=run)  # by its id, which has no bounds
    assert (again.returncode, "they, and traits, are in the experiment's file" in again.stdout) == (
        0,
        True,
    )
    with Warehouse(run / "posterity.duckdb") as store:
        kept = store.frame("SELECT DISTINCT name, value FROM audits WHERE measure = 'held'")
    assert set(kept.itertuples(index=False)) == set(held.itertuples(index=False))


def test_a_referee_that_never_answers_leaves_its_bound_unanswered(run: Path) -> None:
    (run / "small.toml").write_text(_toml(small()))
    asked = "audit", "small.toml", "--set", "audit.max_disputed=0.0"
    assert posterity(*asked, folder=run).returncode == 0
    with Warehouse(run / "posterity.duckdb") as store, store.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO opinions SELECT trace, 'val', NULL, 'crashed (signal 11)' FROM opinions"
        )
    done = posterity(*asked, folder=run)
    assert (done.returncode, done.stderr) == (1, "")
    with Warehouse(run / "posterity.duckdb") as store, store.writing() as connection:
        connection.exec_driver_sql("UPDATE opinions SET valid = false WHERE referee = 'val'")
    disputed = posterity(*asked, folder=run)
    assert (disputed.returncode, disputed.stderr) == (1, "")
    assert "max_disputed (val) = 0.0 is broken: 1" in disputed.stdout
    assert re.search(r"val calls (\d+) of \1 valid plans invalid \(100.0%", disputed.stdout)
    assert re.search(r"val gave no answer on \d+ valid plans", done.stdout)
    assert "max_disputed = 0.0 is broken: the audit has no figure for it" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny"], "is not in posterity.duckdb"),
        (["--set", "audit.min_ess=0.9"], "--set needs the preset or the file"),
        (["small.toml", "--set", "audit.traits.x='text::INT'"], "the trait 'x' is not SQL"),
        (
            ["small.toml", "--set", "audit.traits.x=nowhere"],
            "the trait 'x' is not SQL over a trace",
        ),
        (
            [
                "small.toml",
                "--set",
                "audit.traits.x=(SELECT content FROM read_text('/etc/hostname'))",
            ],
            "the trait 'x' is not SQL over a trace",
        ),
    ],
)
def test_what_cannot_be_audited_is_one_message(
    run: Path, arguments: list[str], message: str
) -> None:
    (run / "small.toml").write_text(_toml(small()))
    done = posterity("audit", *arguments, folder=run)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_traces_without_log_probabilities_leave_a_question_open(run: Path) -> None:
    use_threads(1)
    experiment = Experiment.model_validate(small())
    with Warehouse(run / "posterity.duckdb") as store:
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE traces SET sampling_logprob = NULL")
        found = audit(store, experiment, Watch(quiet=True))
    figures = [one for one in found.records if isinstance(one, Figure)]
    stale = [one for one in figures if one.question == "staleness"]
    assert all(one.value is None and "no recorded log-probability" in one.note for one in stale)
    assert any(one.question == "change" for one in figures)


def test_a_generation_that_is_not_judged_yet_has_not_collapsed(run: Path) -> None:
    """As where a run was killed while it deployed."""
    with Warehouse(run / "posterity.duckdb") as store:
        with store.writing() as connection:
            connection.exec_driver_sql(
                "DELETE FROM judgements WHERE generation = 1 AND purpose = 'deploy'"
            )
        found = empty(Experiment.model_validate(small()))
        _diversity(store, found, [0, 1, 2])
    told = [one for one in found.records if isinstance(one, Figure) and one.name == ""]
    assert {one.generation for one in told} == {0}


def test_generations_asked_side_by_side_give_the_same_findings(run: Path) -> None:
    experiment, heard = Experiment.model_validate(small()), []
    with Warehouse(run / "posterity.duckdb", read_only=True) as store:
        both = side_by_side(store.place, experiment, [1, 2], 2, heard.append)
        one_by_one = [asked(store, experiment, index, part) for index in (1, 2) for part in PARTS]
    assert both == one_by_one
    assert sum(heard) == 2 * sum(map(len, PARTS))


def test_an_error_in_a_process_is_the_users_message(run: Path) -> None:
    experiment = Experiment.model_validate(small(audit={"traits": {"broken": "x("}}))
    with (
        Warehouse(run / "posterity.duckdb", read_only=True) as store,
        pytest.raises(InvalidInput, match="'broken'"),
    ):
        side_by_side(store.place, experiment, [1], 2, lambda count: None)


@pytest.mark.parametrize(
    ("trait", "level", "way"),
    [("again", "", 1), ("saved", "", -1), ("kind", "long", 1), ("kind", "short", -1)],
)
def test_a_trait_that_is_another_in_disguise_is_expected_in_the_direction_of_that(
    trait: str, level: str, way: int
) -> None:
    """Within tasks: between these, the numbers would go the other way."""
    length = pd.Series([2, 4, 2, 12, 14, 12])
    traits = pd.DataFrame(
        {
            "plan_length": length,
            "again": [102, 104, 102, 12, 14, 12],
            "saved": [0, -2, 0, 110, 108, 110],
            "kind": ["short", "long", "short"] * 2,
        }
    )
    valid = pd.DataFrame({"task": ["a"] * 3 + ["b"] * 3})
    row = pd.Series({"trait": trait, "level": level})
    assert _together(valid, traits, row, "plan_length") == way


def test_every_trait_is_sql(finished: Path) -> None:
    experiment = Experiment.model_validate(small(audit={"traits": dict.fromkeys(TRAITS, "1")}))
    with Warehouse(finished, read_only=True) as store:
        broken = Experiment.model_validate(small(audit={"traits": {"broken": "x("}}))
        with pytest.raises(InvalidInput, match="'broken'"):
            audit(store, broken, Watch(quiet=True))
        for told in "quota", "(PID 7)", "the directory":  # as a trace's text may be
            wrong = small(audit={"traits": {"broken": f"CAST('{told}' AS INT)"}})
            with pytest.raises(InvalidInput, match="'broken' is not SQL over a trace"):
                audit(store, Experiment.model_validate(wrong), Watch(quiet=True))
        odd = {"Plan_Length": "plan_length * 2", "bytes": "encode(text)"}
        found = traits_of(written_traits(store, experiment.id, {"plan_length": "1", **odd}, 1))
    assert [*found.columns] == ["plan_length", *odd]
    assert found.nunique().min() == 1
    assert experiment.id == Experiment.model_validate(small()).id, "asking is no part of a run"


def _toml(settings: dict[str, object], path: str = "") -> str:
    """Nested tables as dotted keys."""
    lines = []
    for key, value in settings.items():
        if isinstance(value, dict):
            lines.append(_toml(value, f"{path}{key}."))
        else:
            told = f'"{value}"' if isinstance(value, str) else str(value)
            lines.append(f"{path}{key} = {told}")
    return "\n".join(lines)


def test_a_preference_that_nobody_declared_breaks_its_bound() -> None:
    rng, tasks = np.random.default_rng(0), 100
    length = rng.integers(4, 12, 8 * tasks).astype(float)
    pool = pd.DataFrame({
        "trace": [f"{n:06x}" for n in range(8 * tasks)], "task": np.repeat(range(tasks), 8),
        "valid": True, "plan": [f"(a b{n})" for n in range(8 * tasks)], "weight": 1.0,
        "kept": rng.random(8 * tasks) < 1 / (1 + np.exp(8 - length)),
        f"{PREFIX}plan_length": length,
    })  # fmt: skip
    texts = pd.DataFrame({"trace": pool["trace"], "text": pool["plan"]})
    experiment = Experiment.model_validate(
        small(audit={"max_undeclared_odds_ratio": 1.5}, curation={"curator": "all-valid"})
    )
    found = Audit(experiment, {})
    what_is_preferred(Trained(None, experiment, 1, 0, 0, pool, {}, texts), found)
    [broken] = found.broken
    assert "max_undeclared_odds_ratio (plan_length) = 1.5 is broken" in broken


def test_a_sampler_that_is_another_model_breaks_its_bound(run: Path) -> None:
    use_threads(1)
    experiment = Experiment.model_validate(small(audit={"max_mismatch": 0.01}))
    with Warehouse(run / "posterity.duckdb") as store:
        assert not audit(store, experiment, Watch(quiet=True)).broken
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE traces SET sampling_logprob = sampling_logprob + 1")
        found = audit(store, experiment, Watch(quiet=True))
    assert found.broken
    assert all("max_mismatch = 0.01 is broken: 0.368" in one for one in found.broken)
    assert any("is not the model that was trained: KL 0.37" in one for one in found.lines)


def test_weights_within_tasks_are_no_kept_promise() -> None:
    """Traces that are all kept, the long ones at a thousandth: no bound may hold for that."""
    rng, tasks = np.random.default_rng(0), 60
    length = rng.integers(4, 12, 8 * tasks)
    pool = pd.DataFrame({
        "trace": [f"{n:06x}" for n in range(8 * tasks)], "task": np.repeat(range(tasks), 8),
        "valid": True, "plan": [f"(a b{n})" for n in range(8 * tasks)], "kept": True,
        f"{PREFIX}plan_length": length.astype(float),
    })  # fmt: skip
    texts = pd.DataFrame({"trace": pool["trace"], "text": pool["plan"]})
    experiment = Experiment.model_validate(
        small(audit={"max_undeclared_odds_ratio": 1.5}, curation={"curator": "all-valid"})
    )
    for weight, held in (1.0, True), (np.where(length <= 7, 1.0, 0.001), False):
        found = Audit(experiment, {})
        trained = Trained(None, experiment, 1, 0, 0, pool.assign(weight=weight), {}, texts)
        what_is_preferred(trained, found)
        assert any("is not answered" in line for line in found.lines) is not held
        assert ((1, "max_undeclared_odds_ratio") in found.asked) is held
