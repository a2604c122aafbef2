"""What is printed is read as the same task: types, numbers, quantifiers, metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.errors import InvalidInput
from planners.pddl import Task, read_task
from planners.pddl.printing import formula_text, print_problem, print_task
from planners.prompts.formats import PROMPTS
from planners.records import Outcome, Plan, Problem

DOMAIN = """
(define (domain trucks) (:requirements :adl :fluents :typing)
  (:types truck place - object)
  (:constants depot - place)
  (:predicates (at ?x - object ?p - place) (free ?x))
  (:functions (fuel ?t - truck) (total-cost))
  (:action drive :parameters (?t - truck ?a ?b - place)
    :precondition (and (at ?t ?a) (>= (fuel ?t) (+ 1 (* 2 0.5)))
                       (forall (?o - truck) (or (= ?o ?t) (not (at ?o ?b)))))
    :effect (and (not (at ?t ?a)) (at ?t ?b) (decrease (fuel ?t) 2) (increase (total-cost) 1))))
"""
PROBLEM = """
(define (problem p) (:domain trucks) (:objects thing t1 t2 - truck x - place)
  (:init (at t1 x) (at t2 depot) (= (fuel t1) 3.5) (= (fuel t2) 0) (= (total-cost) 0) (free x))
  (:goal (and (at t1 depot) (forall (?p ?q - place) (imply (at t2 ?p) (= ?p ?q)))
              (not (< (fuel t1) 0.1))))
  (:metric maximize (- 5 (total-cost))))
"""
TASK = read_task(DOMAIN, PROBLEM)


def same(task: Task, again: Task) -> bool:
    """Whether all is the same that a task is made of."""
    return (task.key, dict(task.values), task.metric, task.maximize) == (
        again.key, dict(again.values), again.metric, again.maximize,
    )  # fmt: skip


def test_a_printed_task_is_the_same_task() -> None:
    assert same(read_task(DOMAIN, print_task(TASK)), TASK)
    assert TASK.maximize
    assert "(:metric maximize (- 5 (total-cost)))" in print_task(TASK)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_is_the_same_number(value: float) -> None:
    task = read_task(DOMAIN, PROBLEM.replace("3.5", repr(value)))
    assert same(read_task(DOMAIN, print_task(task)), task)


def test_objects_without_a_type_stay_without_one() -> None:
    problem = Problem("trucks", "p", (("a", "object"), ("b", "truck")), (), ("and",))
    again = read_task(DOMAIN, print_problem(problem)).problem
    assert dict(again.objects) == {"depot": "place", "a": "object", "b": "truck"}


@pytest.mark.parametrize("name", ["pddl", "task", "obfuscated", "natural"])
def test_prompts_tell_numbers_and_metric(name: str) -> None:
    text = PROMPTS[name].write(TASK)
    assert "3.5)" in text
    assert "maximize (- 5 (" in text


def test_the_compact_prompt_refuses_what_it_cannot_tell() -> None:
    with pytest.raises(
        InvalidInput, match="cannot express numeric conditions, which actions of truck"
    ):
        PROMPTS["compact"].write(TASK)


def test_unmet_numbers_and_quantifiers_are_a_verdict_in_pddl() -> None:
    checker = Checker(TASK)
    blocked = checker.check(Plan((("drive", "t1", "x", "depot"),)))
    assert blocked.outcome is Outcome.PRECONDITION_FAILED
    assert blocked.detail == "(forall (?o - truck) (or (= ?o t1) (not (at ?o depot))))"
    empty = checker.check(Plan((("drive", "t2", "depot", "x"),)))
    assert (empty.outcome, empty.detail) == (
        Outcome.PRECONDITION_FAILED,
        "(>= (fuel t2) (+ 1 (* 2 0.5)))",
    )
    poor = Checker(read_task(DOMAIN, PROBLEM.replace("(< (fuel t1) 0.1)", "(< (fuel t1) 9)")))
    verdict = poor.check(Plan(()))
    assert verdict.outcome is Outcome.GOAL_NOT_REACHED
    assert "(not (< (fuel t1) 9))" in verdict.detail


def test_a_bound_variable_is_not_replaced() -> None:
    formula = ("exists", (("?x", ("truck",)),), ("and", ("free", "?x"), ("free", "?y")))
    told = formula_text(formula, {"?x": "t1", "?y": "t2"})
    assert told == "(exists (?x - truck) (and (free ?x) (free t2)))"
