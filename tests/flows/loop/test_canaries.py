"""Canaries: every kind is made, none is valid, and a checker that accepts one is found out."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from flows.experiments.experiment import Experiment
from flows.iterate import Stages, iterate
from flows.loop.judge import judge
from flows.progress import Watch
from planners import generate
from planners.checking.canaries import DAMAGES, TEXTS, canaries
from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.domains import blocksworld as bw
from planners.errors import CanaryAccepted
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.prompts.extraction import extract
from planners.records import Outcome, Plan, Verdict
from tests.conftest import small
from warehouse.store import Warehouse


def test_all_kinds_are_made_and_none_is_valid() -> None:
    kinds: dict[str, set[Outcome]] = {}
    for seed in range(40):
        problem, plan = bw.solved_example(5, 3, Random(seed)) or (None, Plan(()))
        assert problem is not None
        task = read_task(DOMAINS["blocksworld"].text, print_problem(problem))
        checker = Checker(task)
        for canary in canaries(task, plan, Random(seed)):
            found = extract(canary.text)
            outcome = checker.check(found.plan).outcome if found.plan else Outcome.NO_PLAN
            kinds.setdefault(canary.kind, set()).add(outcome)
    assert set(kinds) == {*DAMAGES, *TEXTS}
    assert Outcome.VALID not in set().union(*kinds.values())
    assert kinds["argument more"] == {Outcome.WRONG_ARITY}
    assert kinds["unknown object"] == {Outcome.UNKNOWN_OBJECT}
    assert kinds["garbage"] == {Outcome.NO_PLAN}


def test_damage_that_leaves_a_plan_valid_makes_no_canary() -> None:
    """Two cars board two ferries, say, in any order: a true checker would stop the loop."""
    left_valid = 0
    for seed in range(30):
        task, plan = generate("satellite", 3, 4, seed=seed)
        checker = Checker(task)
        for damage in DAMAGES.values():
            with suppress(IndexError, ValueError):
                broken = Plan(tuple(damage(list(plan.actions), task, Random(seed))))
                left_valid += checker.check(broken).valid
        for canary in canaries(task, plan, Random(seed)):
            found = extract(canary.text)
            assert found.plan is None or not checker.check(found.plan).valid, canary.kind
    assert left_valid > 5


class Lenient(Checker):
    """A checker with a hole: it does not count arguments."""

    def check(self, plan: Plan) -> Verdict:
        cut = tuple(
            action[: 1 + len(self.task.domain.actions[action[0]].parameters)]
            if action[0] in self.task.domain.actions
            else action
            for action in plan.actions
        )
        return super().check(Plan(cut))


@pytest.mark.parametrize("domain", ["blocksworld", "ferry"])
def test_an_accepted_canary_stops_the_loop_before_curation(tmp_path: Path, domain: str) -> None:
    """Also where the prompt gives objects other names than the task: ferry's do."""

    def lenient(domain: str, problem: str) -> Checker:
        return Lenient(read_task(domain, problem))

    experiment = Experiment.model_validate(small())
    tasks = experiment.tasks.model_copy(update={"domain": domain})
    experiment = experiment.model_copy(update={"tasks": tasks})
    stages = Stages(judge=partial(judge, checker_of=lenient))
    with Warehouse(tmp_path / "w.duckdb") as store:
        with pytest.raises(CanaryAccepted, match="argument more"):
            iterate(store, experiment, Watch(quiet=True), stages)
        assert store.frame("SELECT * FROM selections").empty
        accepted = store.frame("SELECT DISTINCT kind FROM canaries WHERE outcome = 'VALID'")
        assert accepted["kind"].tolist() == ["argument more"]
