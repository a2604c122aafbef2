"""All ten domains: the fast checker against the naive replay and the referees, on damaged plans.

POSTERITY_CASES sets the number of cases a domain; 10,000 make the 100,000 of a full comparison.
"""

import os
from dataclasses import replace
from importlib.resources import files
from random import Random

import pytest

from planners.checking.canaries import DAMAGES
from planners.checking.checker import Checker
from planners.checking.referees import REFEREES
from planners.checking.replay import replay
from planners.domains.worlds import WORLDS
from planners.pddl import Task, read_task
from planners.pddl.printing import print_problem
from planners.records import Outcome, Plan
from tests.conftest import blocks_task
from tests.planners.walker import random_walk

CASES = int(os.environ.get("POSTERITY_CASES", "400"))
PLANS = 40
"""Plans a task: the walk that reaches its goal, and damaged ones."""
NAMES = ["blocksworld", *WORLDS]


def text_of(name: str) -> str:
    return files("planners.domains").joinpath(f"{name}.pddl").read_text("utf-8")


def walked_task(name: str, seed: int) -> tuple[str, Task, Plan]:
    """A task of a domain whose goal is part of where a walk ends, as text and read, and the
    walk.
    """
    rng = Random(f"{name} {seed}")
    domain = text_of(name)
    if name == "blocksworld":
        problem = blocks_task(rng.randint(3, 5), 1, seed).problem
    else:
        world = WORLDS[name]
        problem = world.problem(world.smallest + rng.randint(0, 2), rng)
    plan, end = random_walk(read_task(domain, print_problem(problem)), rng.randint(1, 12), rng)
    goal = rng.sample(sorted(end), min(4, len(end)))
    text = print_problem(replace(problem, goal=("and", *goal)))
    return text, read_task(domain, text), plan


def damaged(task: Task, plan: Plan, rng: Random) -> list[Plan]:
    plans, current = [plan], list(plan.actions)
    for _ in range(10 * PLANS):
        if len(plans) == PLANS:
            break
        try:
            new = DAMAGES[rng.choice(list(DAMAGES))](list(current), task, rng)
        except (IndexError, KeyError, ValueError):  # too short, or too broken already
            current = list(plan.actions)
            continue
        plans.append(Plan(tuple(new)))
        current = new if rng.random() < 0.4 else list(plan.actions)
    return plans


@pytest.mark.parametrize("name", NAMES)
def test_the_fast_checker_is_the_naive_replay(name: str) -> None:
    outcomes: dict[Outcome, int] = {}
    for seed in range(max(2, CASES // PLANS)):
        _, task, plan = walked_task(name, seed)
        checker = Checker(task)
        assert checker.check(plan).valid
        for candidate in damaged(task, plan, Random(seed)):
            verdict = checker.check(candidate)
            assert (verdict.outcome, verdict.step) == replay(task, candidate), str(candidate)
            outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
    wanted = {o for o in Outcome if o not in (Outcome.NO_PLAN, Outcome.TRUNCATED)}
    untyped = {Outcome.WRONG_TYPE} if name == "blocksworld" else set()
    assert set(outcomes) == wanted - untyped


@pytest.mark.parametrize("referee", REFEREES)
@pytest.mark.parametrize("name", NAMES)
def test_referees_agree(name: str, referee: str) -> None:
    asked = 0
    for seed in range(2):
        text, task, plan = walked_task(name, seed)
        checker = Checker(task)
        plans = [p for p in damaged(task, plan, Random(seed)) if len(p)][
            : 8 if referee == "up" else 16
        ]
        for candidate, opinion in zip(
            plans, REFEREES[referee](text_of(name), text, plans), strict=True
        ):
            if opinion.valid is not None:
                asked += 1
                assert opinion.valid == checker.check(candidate).valid, (str(candidate), opinion)
    assert asked >= 2, "the referee judged hardly anything"
