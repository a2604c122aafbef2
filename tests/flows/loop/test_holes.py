"""A checker with a hole is found out before anything is curated; the true one never is."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from flows.experiments.experiment import Experiment
from flows.iterate import Stages, iterate
from flows.loop import judge as judging
from flows.loop.judge import judge
from flows.progress import Watch
from planners.checking.checker import Checker
from planners.checking.holes import _without, exploits
from planners.checking.replay import replay
from planners.domains import DOMAINS
from planners.domains.task_sets import generate
from planners.errors import CanaryAccepted, CheckerDisputed, InvalidInput
from planners.pddl import Task, read_task
from planners.records import Outcome
from tests.conftest import small
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
STACK, PICKUP = (f"the precondition (clear {part}" for part in ("?y) of stack", "?x) of pickup"))
EXPERIMENT = Experiment.model_validate(small(generations=1))


def smallest(domain: str, sizes: tuple[int, ...] = (2, 3, 4)) -> list[Task]:
    """Tasks of a domain, the smallest first."""
    found = []
    for size in sizes:
        with suppress(InvalidInput):  # there are none so small
            for seed in range(6):
                found.append(generate(domain, size=size, horizon=2, seed=seed)[0])
    return sorted(found, key=lambda task: (len(task.problem.objects), task.key))


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_every_exploit_is_valid_for_the_blind_and_for_nobody_else(domain: str) -> None:
    tasks = smallest(domain)
    blind = dict(_without(tasks[0].domain))
    found = list(exploits(tasks, states=1000))
    assert len(found) >= 10
    kinds = {exploit.hole.partition(" of ")[0].partition(" ?")[0][:8] for exploit in found}
    assert {"the prec", "the goal"} <= kinds
    # Elsewhere, what is of no such type never satisfies the other conditions.
    assert ("the type" in kinds) == (
        domain in ("childsnack", "ferry", "satellite", "spanner", "transport")
    )
    for exploit in found:
        assert replay(exploit.task, exploit.plan)[0] is not Outcome.VALID
        assert not Checker(exploit.task).check(exploit.plan).valid
        if exploit.hole in blind:
            without = replace(exploit.task, domain=blind[exploit.hole])
            assert Checker(without).check(exploit.plan).valid, exploit.hole


def test_no_precondition_of_blocksworld_escapes() -> None:
    tasks = smallest("blocksworld")
    wanted = {hole for hole, _ in _without(tasks[0].domain)}
    assert wanted <= {exploit.hole for exploit in exploits(tasks)}
    assert sum(hole.startswith("the precondition") for hole in wanted) == 9


def blind_to(hole: str) -> Callable[[str, str], Checker]:
    """A checker that overlooks a part of the domain."""

    def checker(domain: str, problem: str) -> Checker:
        task = read_task(domain, problem)
        return Checker(replace(task, domain=dict(_without(task.domain))[hole]))

    return checker


def test_a_hole_stops_the_run_before_the_first_curation(tmp_path: Path) -> None:
    stages = Stages(judge=partial(judge, checker_of=blind_to(STACK)))
    with Warehouse(tmp_path / "w.duckdb") as store:
        with pytest.raises(CanaryAccepted, match=r"example 'hole: "):
            iterate(store, EXPERIMENT, QUIET, stages)
        assert store.frame("FROM selections").empty
        accepted = store.frame("SELECT kind FROM canaries WHERE outcome = 'VALID'")
        assert f"hole: {STACK}" in set(accepted["kind"])


def test_the_naive_replay_stops_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the search, the first valid plan that is none stops the run."""
    monkeypatch.setattr(judging, "exploits", lambda tasks: [])
    monkeypatch.setattr(judging, "canaries", lambda task, plan, rng: [])
    stages = Stages(judge=partial(judge, checker_of=blind_to(PICKUP)))
    settings = small(
        generations=2, deploy={"samples": 12, "max_new_tokens": 48, "temperature": 1.6}
    )
    with Warehouse(tmp_path / "w.duckdb") as store:
        with pytest.raises(CheckerDisputed, match="not by our naive replay"):
            iterate(store, Experiment.model_validate(settings), QUIET, stages)
        disputed = store.frame("FROM disagreements")
        assert set(disputed["referee"]) == {"replay"}
        assert len(disputed) > 0


def test_the_true_checker_is_never_stopped(finished: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        holes = store.frame("SELECT kind, outcome FROM canaries WHERE starts_with(kind, 'hole: ')")
        assert len(holes) >= 10
        assert "VALID" not in set(holes["outcome"])
        asked = store.frame(
            "SELECT DISTINCT generation FROM opinions JOIN traces USING (trace) "
            "WHERE referee = 'replay'"
        )
        assert set(asked["generation"]) == {0, 1}
        assert store.frame("FROM disagreements").empty
