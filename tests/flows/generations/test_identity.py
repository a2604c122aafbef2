"""Ids that stand in warehouses already: another one for the same thing, and none resumes."""

import pytest

from flows.deployment.answered import answered_id
from flows.generations.identity import canary_id, ingested_id, trace_id
from planners.pddl import read_task
from planners.records import derive_seed

STRIPS = (
    "(define (domain d) (:predicates (on ?x ?y) (clear ?x)) (:action a :parameters (?x) "
    ":precondition (clear ?x) :effect (on ?x ?x)))",
    "(define (problem p) (:domain d) (:objects u v) (:init (clear u) (on u v)) (:goal (on u u)))",
)
NUMERIC = (
    "(define (domain n) (:requirements :fluents) (:predicates (r)) (:functions (f ?x)) (:action a "
    ":parameters () :effect (r)))",
    "(define (problem q) (:domain n) (:objects u) (:init (= (f u) 3)) (:goal (r)) "
    "(:metric minimize (f u)))",
)


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (derive_seed(0, 1, "deploy", "k", 2), 6370715592226143013),
        (trace_id("e", 1, "deploy", "k", 2), "ad0bc17282c8e26ef6f1026723ecf4f2"),
        (canary_id("e", 1, "k", "swap", "(a)"), "1434ca0604dae1b9d5b8ebfb9ab8f9c4"),
        (ingested_id("s", "k", "m", "(a)"), "a2fae43389d237532a34cf61bb99768a"),
        (answered_id("n", "h"), "553a6b4efa22cecbc294fed2b883aaca"),
        (read_task(*STRIPS).key, "cbffc812eab86b96f637613dfe19f1da"),
        (read_task(*NUMERIC).key, "20f31b9858a49f677151fa8a7d57e998"),
    ],
)
def test_what_is_stored_keeps_its_id(found: object, known: object) -> None:
    assert found == known
