"""Runs that are crossed take turns, and learn each other's traces."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from flows.audit.audit import audit
from flows.audit.verify import verify
from flows.experiments.experiment import Experiment
from flows.iterate import iterate
from flows.loop.forecast import FORECAST
from flows.progress import Watch
from planners.pddl.isomorphism import shape
from tests.conftest import contents, small
from warehouse.findings import Figure, Forgotten
from warehouse.pool import pool_traits, written_traits
from warehouse.records import Promotion
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)


def crossed(seed: int, **settings: Any) -> Experiment:
    """One of two runs, on tasks so small that some of one are held out by the other."""
    settings = small(seed=seed, curation={"curator": "all-valid", "crossing": [0, 1]}, **settings)
    settings["tasks"]["train"]["horizons"] = [1, 1]
    settings["training"]["start"] = "parent"
    return Experiment.model_validate(settings)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crossing") / "w.duckdb"
    with Warehouse(path) as store:
        for seed in (0, 1):
            iterate(store, crossed(seed), QUIET)
    return path


def test_each_learns_what_both_wrote_and_what_none_holds_out(both: Path) -> None:
    with Warehouse(both, read_only=True) as store:
        ids = [crossed(seed).id for seed in (0, 1)]
        for own, other in (ids, ids[::-1]):
            learned = store.frame(
                "SELECT d.generation, d.from_generation, t.experiment, t.task, d.kept, d.reason, "
                "v.outcome FROM stg_decisions AS d JOIN traces AS t USING (trace) "
                "LEFT JOIN stg_verdicts AS v USING (trace) WHERE d.experiment = :own",
                own=own,
            )
            for generation in (1, 2):
                pool = learned[learned["generation"] == generation]
                counted = pool.groupby(["experiment", "from_generation"]).size().to_dict()
                assert counted == {
                    (one, index): 36 for one in (own, other) for index in range(generation)
                }
            kept = learned[learned["kept"]]
            assert set(kept["experiment"]) == {own, other}
            measured = {shape(t.parsed) for t in store.tasks(own) if t.split != "train"}
            apart = {t.key for t in store.tasks(other) if shape(t.parsed) in measured}
            left = learned[learned["task"].isin(apart)]
            assert not left["kept"].any()
            assert set(left["reason"].str.partition(":")[0]) <= {"reserved for evaluation"}
        assert any(
            reason.startswith("reserved for evaluation")
            for reason in store.frame("FROM decisions")["reason"]
        ), "no task of one was held out by the other, so that nothing was tried"
        assert not [wrong for check in verify(store, QUIET) for wrong in check.wrong]


def test_the_audit_sees_the_whole_pool_and_only_own_texts(both: Path) -> None:
    own, other = crossed(0).id, crossed(1).id
    with Warehouse(both, read_only=True) as store:
        pool = pool_traits(store, own, FORECAST, 1)
        decided = store.frame(
            "SELECT trace FROM stg_decisions WHERE experiment = :own AND generation = 1 "
            "AND plan_length IS NOT NULL", own=own,
        )  # fmt: skip
        assert set(pool["trace"]) == set(decided["trace"])
        written = store.frame("SELECT trace FROM traces WHERE experiment = :other", other=other)
        assert set(pool["trace"]) & set(written["trace"])
        assert not set(written_traits(store, own, FORECAST, 0)["trace"]) & set(written["trace"])


def test_the_audit_knows_whose_generation_wrote_a_trace(both: Path) -> None:
    """Generation 1 of the other run is another model than the own one that training began with."""
    of = crossed(0)
    with Warehouse(both, read_only=True) as store:
        found = audit(store, of, QUIET, [2])
    told = {
        (one.name, one.measure): one.value
        for one in found.records
        if isinstance(one, Figure) and one.generation == 2
    }
    other = f"generation 1 of {crossed(1).id}"
    assert told["generation 1", "kl"] < 1e-9, "the sampler is the model that was trained"
    assert min(told[name, "traces"] for name in ("generation 1", other)) > 0


def test_runs_that_stop_and_go_on_in_another_order_end_the_same(both: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    for seed, last in ((1, 1), (0, 0), (1, 2), (0, 2)):
        with Warehouse(path) as store:
            iterate(store, crossed(seed), QUIET, last=last)
    assert contents(path) == contents(both)


def test_what_another_run_descends_from_later_changes_no_pool_of_before(
    tmp_path: Path,
) -> None:
    with Warehouse(tmp_path / "w.duckdb") as store:
        iterate(store, crossed(0), QUIET)
        assert len(store.generations(crossed(1).id)) == 2, "the other run is a generation behind"
        store.promote(
            Promotion(
                experiment=crossed(1).id, generation=0, promoted=True, decided_by="person",
                reason="a test",
            )
        )  # fmt: skip
        assert not [wrong for check in verify(store, QUIET) for wrong in check.wrong]


def test_what_one_forgets_taints_the_other(both: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(both.read_bytes())
    own, other = crossed(0).id, crossed(1).id
    with Warehouse(path) as store:
        taught = store.frame(
            "SELECT trace, task FROM stg_decisions WHERE kept AND experiment = :other "
            "AND generation = 1 LIMIT 1", other=other,
        )  # fmt: skip
        [trace], [task] = taught["trace"], taught["task"]
        store.forget([Forgotten(trace, other, 0, task, "h", datetime(2026, 1, 1))])
        tainted = store.frame("FROM tainted ORDER BY ALL")
        generations = set(zip(tainted["experiment"], tainted["generation"], strict=True))
    # The second generation of `own` learned what the first of `other` wrote.
    assert generations >= {(other, 1), (other, 2), (own, 2)}


@pytest.mark.parametrize("seeds", [[0], [1, 2], [1, 0], [0, 0, 1]])
def test_seeds_that_cannot_be_crossed(seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="name two or more seeds"):
        Experiment.model_validate(small(curation={"crossing": seeds}))
