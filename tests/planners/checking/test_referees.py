"""Second opinions: they agree where they are right, and a crash is never a verdict."""

from random import Random

import pytest

from planners.checking.checker import Checker
from planners.checking.referees import REFEREES, VAL_LONGEST
from planners.domains import DOMAINS
from planners.domains import blocksworld as bw
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.records import Plan
from tests.planners.checking.test_checker import ADL, ADL_PROBLEM, mutate, plan

BLOCKS = DOMAINS["blocksworld"].text


@pytest.mark.parametrize("name", REFEREES)
def test_referees_agree_on_blocksworld(name: str) -> None:
    rng, asked = Random(3), 0
    for seed in range(6):
        found = bw.solved_example(5, 3, Random(seed))
        assert found is not None
        problem = print_problem(found[0])
        checker = Checker(read_task(BLOCKS, problem))
        plans = [found[1]]
        plans += [Plan(tuple(mutate(list(found[1].actions), rng))) for _ in range(20)]
        for candidate, opinion in zip(plans, REFEREES[name](BLOCKS, problem, plans), strict=True):
            if opinion.valid is not None:
                asked += 1
                assert opinion.valid == checker.check(candidate).valid, (candidate, opinion)
            else:
                assert opinion.note
    assert asked >= 60


def test_val_is_not_asked_what_it_cannot_judge() -> None:
    problem = print_problem(DOMAINS["blocksworld"].generate(3, 1, Random(0)))
    texts = ["pickup", "pickup b1 b1", "fly b1", "pickup b99"]
    opinions = REFEREES["val"](BLOCKS, problem, [plan(text) for text in texts])
    assert [o.valid for o in opinions] == [None] * 4
    long = Plan((("pickup", "b1"),) * (VAL_LONGEST + 1))
    assert "longer than" in REFEREES["val"](BLOCKS, problem, [long])[0].note


@pytest.mark.parametrize("name", ["kairos", "up"])
def test_referees_on_adl_and_numbers(name: str) -> None:
    checker = Checker(read_task(ADL, ADL_PROBLEM))
    texts = ["flip y, light, move x here there", "move x here there", "light", "again x", ""]
    plans = [plan(text) for text in texts]
    opinions = REFEREES[name](ADL, ADL_PROBLEM, plans)
    for candidate, opinion in zip(plans, opinions, strict=True):
        assert opinion.valid in (None, checker.check(candidate).valid), (candidate, opinion)
