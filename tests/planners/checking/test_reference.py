"""Plan quality: what greedy action elimination finds, and where it has nothing to say."""

from planners.checking.checker import Checker
from planners.checking.reference import redundant_actions
from planners.pddl import read_task
from planners.prompts.extraction import extract_lines
from planners.records import Plan

DOMAIN = """(define (domain lamps) (:requirements :strips{needs})
(:predicates (lit ?l) (near ?l))
(:action go :parameters (?l) :precondition () :effect (near ?l))
(:action press :parameters (?l) :precondition (near ?l) :effect {effect}))"""
PROBLEM = """(define (problem p) (:domain lamps) (:objects a b) (:init ) (:goal (lit a)))"""


def plan_of(text: str) -> Plan:
    plan = extract_lines(text).plan
    assert plan is not None
    return plan


def test_an_action_goes_with_those_that_only_it_made_possible() -> None:
    checker = Checker(read_task(DOMAIN.format(needs="", effect="(lit ?l)"), PROBLEM))
    assert redundant_actions(checker, plan_of("(go a) (press a)")) == 0
    assert redundant_actions(checker, plan_of("(go b) (press b) (go a) (go a) (press a)")) == 3


def test_conditional_effects_are_beyond_it() -> None:
    effect = "(when (near ?l) (lit ?l))"
    task = read_task(DOMAIN.format(needs=" :conditional-effects", effect=effect), PROBLEM)
    assert redundant_actions(Checker(task), plan_of("(go a) (press a)")) is None
