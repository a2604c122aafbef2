"""Applicable actions against trying every ground action."""

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.checking.holes import exploits
from planners.checking.replay import Replay
from planners.errors import NotJudged
from planners.pddl import Task, read_task
from planners.pddl.grounding import Grounded
from planners.records import Action
from tests.conftest import blocks_task
from tests.planners.checking.test_checker import ADL, ADL_PROBLEM
from tests.planners.walker import Walker, random_walk


def by_trying(task: Task, past: tuple[Action, ...]) -> set[Action]:
    found = set()
    names = [name for name, _ in task.problem.objects]
    for schema in task.domain.actions.values():
        for arguments in product(names, repeat=len(schema.parameters)):
            run = Replay(task)
            for action in past:
                run.step(*action)
            if run.step(schema.name, *arguments) is None:
                found.add((schema.name, *arguments))
    return found


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.booleans())
def test_applicable_is_what_trying_finds(seed: int, adl: bool) -> None:
    task = read_task(ADL, ADL_PROBLEM) if adl else blocks_task(4, 2, seed)
    plan, _ = random_walk(task, Random(seed).randint(0, 5), Random(seed))
    walker = Walker(task)
    for action in plan.actions:
        assert walker.step(*action) is None
    applicable = walker.applicable()
    assert len(applicable) == len(set(applicable))
    found = by_trying(task, plan.actions)
    # running out of a number is found only by doing the action
    assert found <= set(applicable)
    assert all(a[0] == "move" for a in set(applicable) - found)


@given(st.integers(0, 10**6))
def test_walks_are_plans_as_far_as_they_go(seed: int) -> None:
    task = blocks_task(5, 2, seed)
    plan, state = random_walk(task, 12, Random(seed))
    verdict = Checker(task).check(plan)
    assert verdict.outcome.value in ("VALID", "GOAL_NOT_REACHED")
    assert verdict.valid == (set(task.problem.goal[1:]) <= state)


def test_a_task_with_too_many_ground_actions_is_not_grounded() -> None:
    """A user's task: four parameters that no static fact ties, over many objects."""
    domain = """(define (domain d) (:predicates (p ?a ?b) (q ?a ?b)) (:action go
        :parameters (?a ?b ?c ?d) :precondition (p ?a ?b)
        :effect (and (q ?c ?d) (not (p ?a ?b)))))"""
    names = " ".join(f"o{number}" for number in range(22))
    problem = f"""(define (problem x) (:domain d) (:objects {names}) (:init (p o1 o2))
        (:goal (q o1 o2)))"""
    task = read_task(domain, problem)
    with pytest.raises(NotJudged, match="more than 50,000 ground actions"):
        Grounded(task)
    assert list(exploits([task])) == []
