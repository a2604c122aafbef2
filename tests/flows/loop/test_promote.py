"""Which generation is deployed: decided by the run, or by a person; rolled back, gone on from."""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from flows.audit.ledger import Audit
from flows.audit.verify import verify
from flows.experiments.experiment import Experiment
from flows.generations.lineage import ancestors, deployed
from flows.iterate import iterate
from flows.loop.promote import _if_better, promote_by_hand, without_forgotten
from flows.progress import Watch
from planners.errors import InvalidInput, NotPromoted
from planners.models.hardware import use_threads
from tests.conftest import small
from tests.flows.commands.test_cli import SMALL, posterity
from warehouse import schema
from warehouse.findings import Forgotten
from warehouse.records import Generation, Mark, Promotion
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_threads(1)


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate(small(**changes))


def decisions(store: Warehouse, of: Experiment) -> list[tuple[int, bool, str]]:
    rows = store.promotions(of.id)
    assert [row.position for row in rows] == list(range(len(rows)))
    return [(row.generation, row.promoted, row.decided_by) for row in rows]


def parents(store: Warehouse, of: Experiment) -> dict[int, int | None]:
    return {one.index: one.parent for one in store.generations(of.id)}


def wrong(store: Warehouse) -> list[str]:
    return [line for check in verify(store, QUIET) for line in check.wrong]


def deployed_by(store: Warehouse, generation: int) -> int:
    found = store.frame(
        "SELECT count(*) AS n FROM traces WHERE purpose = 'deploy' AND generation = :g",
        g=generation,
    )
    return int(found["n"][0])


def _until_a_candidate_waits(warehouse: Warehouse, of: Experiment) -> None:
    """Three generations, of which the last is judged and not decided on."""
    for index, parent in ((0, None), (1, 0), (2, 1)):
        warehouse.write([Generation(of.id, index, parent, "base", "embedded", f"w{index}")])
        warehouse.write([], Mark(of.id, index, "judge"))
        if index < 2:
            warehouse.promote(
                Promotion(
                    experiment=of.id, generation=index, promoted=True, decided_by="if-preferred",
                    reason="",
                )
            )  # fmt: skip


def test_a_candidate_that_learned_what_was_forgotten_is_refused(warehouse: Warehouse) -> None:
    """Users compare it still, so that nothing else has decided on it."""
    users = {"alone": True, "fewest": 5, "candidate": 0.5}
    of = experiment(
        promote="if-preferred", deployment=users, curation={"curator": "feedback"}
    )  # fmt: skip
    _until_a_candidate_waits(warehouse, of)
    decided = {"trace": ["t"], "kept": [True], "weight": [1.0], "reason": ["r"], "task": ["k"],
               "from_generation": [1], "plan_length": [2], "reasoning_tokens": [0],
               "accepted": [True]}  # fmt: skip
    warehouse.decide(pd.DataFrame(decided), Mark(of.id, 2, "curate"))
    assert without_forgotten(warehouse, of) == (of, None)
    warehouse.forget([Forgotten("t", of.id, 1, "k", "h", datetime(2026, 1, 1))])
    again, back_to = without_forgotten(warehouse, of)
    assert decisions(warehouse, of)[2:] == [(2, False, "person")]
    assert (back_to, deployed(warehouse, of), again.generations) == (None, 1, 3)
    assert again.deployment is not None
    assert again.deployment.fewest == 0, "what the next learns from is there already"


def test_what_is_not_better_is_not_deployed_until_a_person_says_so(warehouse: Warehouse) -> None:
    strict = experiment(promote="if-better")  # three steps of training better nothing
    for _ in range(2):
        with pytest.raises(NotPromoted, match="generation 1 is not promoted: held-out tasks"):
            iterate(warehouse, strict, QUIET)
        with Warehouse(warehouse.place.published, read_only=True) as snapshot:
            assert len(snapshot.promotions(strict.id)) == 2, "readers see the decision"
        assert decisions(warehouse, strict) == [(0, True, "if-better"), (1, False, "if-better")]
        assert list(parents(warehouse, strict)) == [0, 1]
        assert deployed(warehouse, strict) == 0
        assert deployed_by(warehouse, 1) == 0
    promote_by_hand(warehouse, strict, 1, "I looked at it")
    iterate(warehouse, experiment(), QUIET)
    assert decisions(warehouse, strict)[2:] == [(1, True, "person"), (2, True, "always")]
    assert deployed_by(warehouse, 1) == 36
    assert parents(warehouse, strict) == {0: None, 1: 0, 2: 1}
    assert wrong(warehouse) == []


def test_another_try_after_a_refusal_is_made_from_the_parent(warehouse: Warehouse) -> None:
    audited = experiment(promote="if-audited", audit={"max_length_drift": 0.0}, generations=3)
    with pytest.raises(NotPromoted, match="max_length_drift = 0"):
        iterate(warehouse, audited, QUIET)
    asked = warehouse.frame("SELECT DISTINCT generation FROM audits")["generation"].tolist()
    assert asked == [1]
    promote_by_hand(warehouse, audited, 0, "another try")
    loose = experiment(promote="if-audited", audit={"max_length_drift": 1e9}, generations=3)
    iterate(warehouse, loose, QUIET)
    assert parents(warehouse, audited) == {0: None, 1: 0, 2: 0, 3: 2}
    assert ancestors(warehouse, audited, 3) == [0, 2]
    assert (deployed_by(warehouse, 1), deployed_by(warehouse, 2)) == (0, 36)
    learned = warehouse.frame(
        "SELECT DISTINCT from_generation FROM stg_decisions WHERE generation = 3"
    )
    assert sorted(learned["from_generation"]) == [0, 2]
    assert wrong(warehouse) == []


def test_a_rollback_is_gone_on_from(warehouse: Warehouse) -> None:
    iterate(warehouse, experiment(), QUIET)
    promote_by_hand(warehouse, experiment(), 0, "2 is odd")
    iterate(warehouse, experiment(), QUIET)
    assert list(parents(warehouse, experiment())) == [0, 1, 2], "nothing is left to do"
    iterate(warehouse, experiment(generations=3), QUIET)
    assert parents(warehouse, experiment()) == {0: None, 1: 0, 2: 1, 3: 0}
    assert deployed_by(warehouse, 2) == 0, "what is rolled back is not put to work"
    sources = warehouse.frame("SELECT traces_by_source FROM lineage WHERE generation = 3")
    assert set(sources["traces_by_source"][0]) == {0}
    assert wrong(warehouse) == []


def test_what_cannot_be_promoted_is_one_message(warehouse: Warehouse) -> None:
    of = experiment()
    with pytest.raises(InvalidInput, match="has no generation 0; it has none"):
        promote_by_hand(warehouse, of, 0, "")
    iterate(warehouse, experiment(generations=1), QUIET)
    with pytest.raises(InvalidInput, match="has no generation 9; it has 0 to 1"):
        promote_by_hand(warehouse, of, 9, "")
    warehouse.write([], Mark(of.id, 2, "curate"))
    with pytest.raises(InvalidInput, match=r"generation 2 .* is unfinished"):
        promote_by_hand(warehouse, of, 0, "")
    with warehouse.writing() as connection:
        connection.execute(sa.delete(schema.marks).where(schema.marks.c.generation == 2))
        connection.execute(sa.delete(schema.promotions).where(schema.promotions.c.generation == 1))
    with pytest.raises(InvalidInput, match=r"generation 1 .* is unfinished"):
        promote_by_hand(warehouse, of, 0, "")


def test_who_waits_for_users_keeps_nobody_from_rolling_back(warehouse: Warehouse) -> None:
    users = {"fewest": 5, "candidate": 0.5}
    of = experiment(promote="if-preferred", deployment=users, curation={"curator": "feedback"})
    _until_a_candidate_waits(warehouse, of)
    promote_by_hand(warehouse, of, 0, "1 is worse")
    assert decisions(warehouse, of)[2:] == [(2, False, "person"), (0, True, "person")]
    assert deployed(warehouse, of) == 0


def test_a_bound_that_cannot_be_told_is_broken() -> None:
    found = Audit(experiment(audit={"min_ess": 0.0, "max_length_drift": 9.0}), {})
    found.bound(1, "min_ess", "", 0.5)
    found.require_asked(1)
    assert found.broken == [
        "generation 1: max_length_drift = 9.0 is broken: the audit has no figure for it"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promote": "if-better", "evaluate": {"samples": 1}}, "evaluate.samples of at least 2"),
        ({"promote": "if-better", "evaluate": {"samples": 3, "temperature": 0}}, "above 0"),
        ({"promote": "if-audited"}, "needs a bound"),
        ({"promote": "sometimes"}, "'always', 'if-better', 'if-audited' or 'if-preferred'"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experiment(**changes)


def test_promotion_on_the_command_line(tmp_path: Path) -> None:
    better = ["--set", "promote=if-better"]  # two steps of training better nothing
    stopped = posterity("run", "tiny", *SMALL, *better, "--plain", folder=tmp_path)
    assert stopped.returncode == 1
    assert "posterity promote 1" in " ".join(stopped.stderr.split())
    assert "Traceback" not in stopped.stderr
    assert "generation 1 is not promoted" in posterity("status", folder=tmp_path).stdout
    taken = posterity("promote", "1", "--reason", "fine [/as it is]", folder=tmp_path)
    assert (taken.returncode, taken.stderr) == (0, "")
    assert (
        "generation 1 is deployed: fine [/as it is]" in posterity("status", folder=tmp_path).stdout
    )
    twice = posterity("promote", "1", folder=tmp_path)
    assert (twice.returncode, "is deployed already" in twice.stdout) == (0, True)
    with Warehouse(tmp_path / "posterity.duckdb", read_only=True) as store:
        assert len(store.frame("FROM promotions WHERE generation = 1 AND promoted")) == 1
    again = posterity("run", "tiny", *SMALL, *better, "--plain", folder=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    unknown = posterity("promote", "7", folder=tmp_path)
    assert unknown.returncode == 2
    assert "has no generation 7; it has 0 to 1" in " ".join(unknown.stderr.split())
    [folder] = (tmp_path / "posterity.duckdb.checkpoints").glob("*/generation-001")
    shutil.rmtree(folder)
    lost = posterity("promote", "1", folder=tmp_path)
    assert (lost.returncode, "generation 1 is missing" in lost.stderr) == (2, True)


def test_a_generation_that_was_once_the_last_is_put_to_work_before_one_learns_from_it(
    warehouse: Warehouse,
) -> None:
    iterate(warehouse, experiment(generations=1), QUIET)
    assert deployed_by(warehouse, 1) == 0
    promote_by_hand(warehouse, experiment(), 0, "back")
    iterate(warehouse, experiment(generations=2), QUIET)
    assert parents(warehouse, experiment())[2] == 0
    promote_by_hand(warehouse, experiment(), 1, "on second thoughts")
    iterate(warehouse, experiment(generations=3), QUIET)
    assert parents(warehouse, experiment())[3] == 1
    assert deployed_by(warehouse, 1) == 36
    assert wrong(warehouse) == []


@pytest.mark.parametrize("better", [True, False])
def test_who_solves_more_is_promoted(finished: Path, tmp_path: Path, better: bool) -> None:
    """All held-out tasks but one sample, where the parent solves none; or the other way round."""
    path = tmp_path / finished.name
    shutil.copy(finished, path)
    good, bad = (1, 0) if better else (0, 1)
    held_out = "SELECT task FROM experiment_tasks WHERE split = 'heldout'"
    of = f"purpose = 'evaluate' AND task IN ({held_out})"
    with Warehouse(path) as store:
        with store.writing() as connection:
            for generation, outcome in (good, "VALID"), (bad, "NO_PLAN"):
                connection.exec_driver_sql(
                    f"UPDATE judgements SET outcome = '{outcome}' WHERE generation = {generation} "
                    f"AND {of}"
                )
            connection.exec_driver_sql(
                "UPDATE judgements SET outcome = 'NO_PLAN' WHERE trace = (SELECT min(trace) FROM "
                f"judgements WHERE generation = {good} AND {of})"
            )
        assert _if_better(store, experiment(), 1, QUIET)[0] is better


def test_what_one_generation_alone_was_judged_on_is_not_compared(
    finished: Path, tmp_path: Path
) -> None:
    """Else a generation would be better for running out of time on what it cannot solve."""
    path = tmp_path / finished.name
    shutil.copy(finished, path)
    of = experiment()
    held_out = (
        "SELECT t.task, t.sample, t.trace, t.generation, v.outcome = 'VALID' AS solved "
        "FROM traces AS t JOIN stg_verdicts AS v USING (trace) JOIN experiment_tasks AS e "
        "ON e.task = t.task AND e.experiment = t.experiment "
        "WHERE t.purpose = 'evaluate' AND e.split = 'heldout' AND t.generation < 2 ORDER BY ALL"
    )
    with Warehouse(path) as store:
        found = store.frame(held_out)
        failed = found[(found["generation"] == 1) & ~found["solved"]]["trace"].tolist()[:1]
        with store.writing() as connection:
            for trace in failed:
                connection.exec_driver_sql(
                    f"UPDATE judgements SET superseded = true WHERE trace = '{trace}'"
                )
        told = _if_better(store, of, 1, QUIET)[1]
    left = found[~found["trace"].isin(failed)].pivot(
        index=["sample", "task"], columns="generation", values="solved"
    )
    shares = left.dropna().astype(float).groupby("sample").mean().mean()
    assert len(failed) == 1
    assert f"{shares[1]:.1%}, of generation 0 {shares[0]:.1%}" in told
    assert "; 1 judged in one generation alone left out" in told
