"""Advice on plans that are not valid."""

import json
import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.commands.main import app
from planners import DOMAINS, check, explain, read_task
from planners.checking.replay import Replay
from planners.domains.task_sets import generate
from planners.records import Plan
from tests.planners.checking.test_checker import ADL, ADL_PROBLEM, BLOCKS, PROBLEM, plan


@pytest.mark.parametrize(
    ("domain", "problem", "actions", "lines"),
    [
        (BLOCKS, PROBLEM, "pickup a, stack a b", []),
        (
            BLOCKS,
            PROBLEM,
            "pickup a, pickup b",
            [
                "step 1: (pickup b) is not applicable",
                "(arm-empty) is false since step 0 (pickup a) deleted it; "
                "applicable here and adds it: (putdown a), (stack a b)",
            ],
        ),
        (
            BLOCKS,
            PROBLEM,
            "pickup a, putdown a",
            [
                "after 2 steps, of the goal:",
                "(on a b) is false, as in the initial state; "
                "no action that is applicable here adds it",
            ],
        ),
        (BLOCKS, PROBLEM, "pick a",
         ["step 0: (pick a) is no action of the domain; perhaps pickup"]),
        (BLOCKS, PROBLEM, "pickup a b",
         ["step 0: (pickup a b) has the wrong arguments: (pickup ?x)"]),
        (
            BLOCKS,
            PROBLEM,
            "pickup c",
            ["step 0: (pickup c) names 'c', which is no object of the task; there are a, b"],
        ),
        (
            ADL,
            ADL_PROBLEM,
            "move x x x",
            ["step 0: (move x x x) has the wrong types: "
             "(move ?b - box ?from - place ?to - place)"],
        ),
        (
            ADL,
            ADL_PROBLEM,
            "flip x, move x here there",
            [
                "step 1: (move x here there) is not applicable",
                "(open x) is true and must not be since step 0 (flip x) added it; "
                "no action that is applicable here deletes it without a condition",
            ],
        ),
        (
            ADL,
            ADL_PROBLEM,
            "move x here there, move y here there, move x there here",
            [
                "step 2: (move x there here) is not applicable",
                "(>= (fuel) (weight x)) does not hold; (fuel) is 1; (weight x) is 2",
            ],
        ),
    ],
)  # fmt: skip
def test_advice(domain: str, problem: str, actions: str, lines: list[str]) -> None:
    found = explain(read_task(domain, problem), plan(actions))
    assert [line.strip() for line in found] == lines


@given(st.integers(0, 10**6), st.sampled_from(sorted(DOMAINS)))
def test_a_plan_has_advice_where_it_is_not_valid_and_what_it_names_helps(
    seed: int, domain: str
) -> None:
    rng = Random(seed)
    task, good = generate(domain, size=3, horizon=3, seed=seed % 7)
    actions = list(good.actions)
    for _ in range(rng.randrange(3)):  # cut, swap or repeat some
        at = rng.randrange(len(actions))
        actions[at : at + 1] = rng.choice([[], [actions[at]] * 2, [rng.choice(good.actions)]])
        if not actions:
            break
    tried = Plan(tuple(actions))
    lines = explain(task, tried)
    verdict = check(task, tried)
    assert (not lines) == verdict.valid
    for line in lines:
        if named := re.search(
            r"^  (\(.*?\)) is false.*applicable here and adds it: (\(.*?\))", line
        ):
            run = Replay(task)
            for action in tried.actions[: verdict.step]:
                assert run.step(*action) is None
            assert run.step(*named[2].strip("()").split()) is None
            assert tuple(named[1].strip("()").split()) in run.state


def test_no_action_is_advised_that_puts_back_what_it_deletes() -> None:
    domain = """(define (domain d) (:predicates (at ?x) (g)) (:action move :parameters (?f ?t)
        :precondition (at ?f) :effect (and (not (at ?f)) (at ?t))))"""
    problem = "(define (problem x) (:domain d) (:objects a{}) (:init (at a)) (:goal (not (at a))))"
    told = "\n".join(explain(read_task(domain, problem.format("")), Plan(())))
    assert "no action that is applicable here deletes it" in told
    told = "\n".join(explain(read_task(domain, problem.format(" b")), Plan(())))
    assert told.endswith("applicable here and deletes it: (move a b)")


def test_check_explains(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("domain.pddl", "problem.pddl", "plan")]
    for file, text in zip(files, (BLOCKS, PROBLEM, "(pickup a)\n(pickup b)\n"), strict=True):
        file.write_text(text)
    command = ["check", *map(str, files), "--explain"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 1
    assert "(arm-empty) is false since step 0 (pickup a) deleted it" in told.output
    [line] = CliRunner().invoke(app, [*command, "--json"]).output.splitlines()
    assert json.loads(line)["advice"][0] == "step 1: (pickup b) is not applicable"
