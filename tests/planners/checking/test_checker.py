"""The checker against the naive replay, and its verdicts one by one."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.checking.replay import replay
from planners.domains import DOMAINS
from planners.domains import blocksworld as bw
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.records import Outcome, Plan
from tests.conftest import blocks_task

BLOCKS = DOMAINS["blocksworld"].text
PROBLEM = """
(define (problem p) (:domain blocksworld) (:objects a b)
  (:init (arm-empty) (clear a) (clear b) (on-table a) (on-table b))
  (:goal (on a b)))
"""
ADL = """
(define (domain adl) (:requirements :adl :typing :numeric-fluents)
  (:types box place)
  (:predicates (at ?b - box ?p - place) (lit) (open ?b - box))
  (:functions (fuel) (weight ?b - box) (total-cost))
  (:action light :parameters () :precondition (or (lit) (exists (?b - box) (open ?b)))
    :effect (and (lit) (increase (total-cost) 5)))
  (:action move :parameters (?b - box ?from ?to - place)
    :precondition (and (at ?b ?from) (not (= ?from ?to)) (not (open ?b)) (>= (fuel) (weight ?b)))
    :effect (and (not (at ?b ?from)) (at ?b ?to)
      (decrease (fuel) (weight ?b)) (increase (total-cost) 1)
      (when (lit) (open ?b))
      (forall (?o - box) (when (at ?o ?to) (not (open ?o))))))
  (:action flip :parameters (?b - box) :precondition (imply (open ?b) (lit))
    :effect (and (when (open ?b) (not (open ?b))) (when (not (open ?b)) (open ?b))))
  (:action again :parameters (?b - box) :precondition (forall (?o - box) (open ?o))
    :effect (and (not (open ?b)) (open ?b))))
"""
ADL_PROBLEM = """
(define (problem p) (:domain adl) (:objects x y - box here there - place)
  (:init (at x here) (at y here) (= (fuel) 5) (= (weight x) 2) (= (weight y) 2) (= (total-cost) 0))
  (:goal (and (at x there) (or (open y) (lit)))) (:metric minimize (total-cost)))
"""


def plan(text: str) -> Plan:
    return Plan(tuple(tuple(line.split()) for line in text.split(",") if line.strip()))


@pytest.mark.parametrize(
    ("actions", "outcome", "step", "detail"),
    [
        ("pickup a, stack a b", Outcome.VALID, None, ""),
        ("", Outcome.GOAL_NOT_REACHED, None, "(on a b)"),
        ("pickup a, putdown a", Outcome.GOAL_NOT_REACHED, None, "(on a b)"),
        ("stack a b", Outcome.PRECONDITION_FAILED, 0, "(holding a)"),
        ("pickup a, fly a", Outcome.UNKNOWN_ACTION, 1, "'fly'"),
        ("pickup a, stack a c", Outcome.UNKNOWN_OBJECT, 1, "'c'"),
        ("pickup a b", Outcome.WRONG_ARITY, 0, "takes 1 arguments, found 2"),
        ("pickup", Outcome.WRONG_ARITY, 0, "takes 1 arguments, found 0"),
    ],
)
def test_outcomes(actions: str, outcome: Outcome, step: int | None, detail: str) -> None:
    verdict = Checker(read_task(BLOCKS, PROBLEM)).check(plan(actions))
    assert (verdict.outcome, verdict.step) == (outcome, step)
    assert detail in verdict.detail
    assert verdict.cost == (2.0 if verdict.valid else None)


def test_wrong_type_and_metric() -> None:
    checker = Checker(read_task(ADL, ADL_PROBLEM))
    assert checker.check(plan("move here x there")).outcome is Outcome.WRONG_TYPE
    verdict = checker.check(plan("flip y, light, move x here there"))
    assert verdict.valid
    assert verdict.cost == 6.0


def test_deletes_come_before_adds() -> None:
    checker = Checker(read_task(ADL, ADL_PROBLEM))
    assert checker.check(
        plan("flip x, flip y, again y, again y, light, flip x, move x here there")
    ).valid


def test_an_action_text_seen_bad_once_stays_bad() -> None:
    checker = Checker(read_task(BLOCKS, PROBLEM))
    assert [checker.check(plan("pickup a z")).outcome for _ in range(2)] == [
        Outcome.WRONG_ARITY
    ] * 2


def mutate(actions: list[tuple[str, ...]], rng: Random) -> list[tuple[str, ...]]:
    """One random damage: drop, repeat, swap, a wrong object, an argument more or fewer, an
    unknown word.
    """
    actions = list(actions)
    if not actions:
        return [("pickup", "b1")]
    i = rng.randrange(len(actions))
    action = actions[i]
    kind = rng.randrange(8)
    if kind == 0:
        del actions[i]
    elif kind == 1:
        actions.insert(i, action)
    elif kind == 2:
        j = rng.randrange(len(actions))
        actions[i], actions[j] = actions[j], actions[i]
    else:
        changed = {
            3: (*action[:-1], f"b{rng.randint(1, 7)}"),
            4: (*action, action[-1]),
            5: action[:-1],
            6: (rng.choice(["fly", "stack", "unstack", "holding"]), *action[1:]),
            7: (*action[:-1], "nobody"),
        }
        actions[i] = changed[kind]
    return [a for a in actions if a]


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 10**6))
def test_agrees_with_the_naive_replay_on_blocksworld(size: int, horizon: int, seed: int) -> None:
    rng = Random(seed)
    found = bw.solved_example(size, horizon, rng, attempts=50)
    if found is None:
        return
    task = read_task(BLOCKS, print_problem(found[0]))
    checker, actions = Checker(task), list(found[1].actions)
    for _ in range(20):
        candidate = Plan(tuple(actions))
        verdict = checker.check(candidate)
        assert (verdict.outcome, verdict.step) == replay(task, candidate)
        actions = mutate(actions if rng.random() < 0.7 else list(found[1].actions), rng)


ADL_WORDS = st.sampled_from(
    [
        "light",
        "flip x",
        "flip y",
        "again x",
        "move x here there",
        "move y here there",
        "move x there here",
        "move x here here",
        "move y there here",
        "light x",
        "flip here",
    ]
)


@given(st.lists(ADL_WORDS, max_size=8))
def test_agrees_with_the_naive_replay_on_adl_and_numbers(words: list[str]) -> None:
    task = read_task(ADL, ADL_PROBLEM)
    candidate = plan(",".join(words))
    verdict = Checker(task).check(candidate)
    assert (verdict.outcome, verdict.step) == replay(task, candidate)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_said_does_not_depend_on_what_was_judged_before(seed: int) -> None:
    blocks = ("b1", "b2", "b3", "b4")
    plans = [Plan((("stack", a, b),)) for a in blocks for b in blocks]
    details = []
    for order in (plans, plans[::-1]):
        checker = Checker(blocks_task(4, 3, seed))
        details.append({str(plan): checker.check(plan).detail for plan in order})
    assert details[0] == details[1]


def test_the_cost_by_a_number_without_a_value_is_unknown() -> None:
    domain = """(define (domain s) (:requirements :fluents) (:predicates (r)) (:functions (f))
        (:action a :parameters () :effect (r)))"""
    problem = "(define (problem x) (:domain s) (:init) (:goal (r)) (:metric minimize (f)))"
    verdict = Checker(read_task(domain, problem)).check(Plan((("a",),)))
    assert (verdict.valid, verdict.cost) == (True, None)
