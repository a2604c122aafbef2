"""Reading PDDL: strict, with the place of the fault; keys by content."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.errors import PddlError
from planners.pddl import read_domain, read_task
from planners.pddl.printing import print_problem
from planners.pddl.sexpr import parse
from planners.records import Plan
from tests.conftest import blocks_task

DOMAIN = """
(define (domain d) (:requirements :strips :typing)
  (:types car truck - vehicle vehicle place)
  (:constants hub - place)
  (:predicates (at ?v - vehicle ?p - place))
  (:action go :parameters (?v - (either car truck) ?a ?b - place)
    :precondition (at ?v ?a) :effect (and (at ?v ?b) (not (at ?v ?a)))))
"""
PROBLEM = """
(define (problem p) (:domain d) (:objects c - car x y - place)
  (:init (at c x)) (:goal (at c hub)))
"""


def test_types_constants_and_case() -> None:
    task = read_task(DOMAIN.upper(), PROBLEM)
    assert task.domain.ancestors("car") == {"car", "vehicle", "object"}
    assert ("hub", "place") in task.problem.objects
    assert task.key == read_task(DOMAIN, PROBLEM.upper()).key


def test_key_ignores_order_names_and_comments_but_not_content() -> None:
    key = read_task(DOMAIN, PROBLEM).key
    reordered = PROBLEM.replace("x y - place", "y x - place ; a comment\n").replace(
        "problem p", "problem q"
    )
    assert read_task(DOMAIN, reordered).key == key
    assert read_task(DOMAIN, PROBLEM.replace("(at c hub)", "(at c y)")).key != key


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(at c x)", "(at c z)", "object 'z' is not declared"),
        ("(at c x)", "(at c)", "takes 2 arguments"),
        ("(at c x)", "(in c x)", "predicate 'in' is not declared"),
        ("c - car", "c c - car", "declared twice"),
        ("c - car", "c - bike", "type 'bike' is not declared"),
        (":domain d", ":domain e", "the problem is for domain"),
        ("(:goal (at c hub))", "", "needs one (:goal"),
        ("(at c hub)", "(forall (?z - place) (at c ?w))", "variable '?w' is not declared"),
        ("(at c x)", "(at 5 (at c x))", "timed initial literals"),
        ("(:init", "(:constraints (and)) (:init", "not supported"),
        ("(at c x)", "(= (at c) 1)", "function 'at' is not declared"),
        ("(at c hub)", "(preference p (at c hub))", "preferences are not supported"),
        ("x y - place", "x y hub", "of type object, and a constant of the domain of type"),
        ("hub)))", "hub))", "never closed"),
        ("hub)))", "hub))))) x", "unmatched ')'"),
    ],
)
def test_bad_problems_are_named(old: str, new: str, message: str) -> None:
    assert old in PROBLEM
    with pytest.raises(PddlError, match=re.escape(message)):
        read_task(DOMAIN, PROBLEM.replace(old, new, 1))


@pytest.mark.parametrize("again", ["car - object", "place vehicle - object"])
def test_a_type_that_is_also_an_object_is_declared_once(again: str) -> None:
    """As in Storage of 2006: every type is one, so that it says nothing."""
    known = "car truck - vehicle vehicle place"
    for types in (f"{known} {again}", f"{again} {known}"):
        assert known in DOMAIN
        read = read_task(DOMAIN.replace(known, types), PROBLEM)
        assert read.domain.types == read_task(DOMAIN, PROBLEM).domain.types


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":typing", ":durative-actions", "requires :durative-actions; supported"),
        ("(at ?v ?a) :effect", "(at ?v ?z) :effect", "variable '?z' is not declared"),
        ("vehicle place", "vehicle - car place", "its own ancestor"),
        (
            "(:action go",
            "(:derived (at ?v ?p) (at ?v ?p)) (:action go",
            "action 'go' changes 'at', which is derived",
        ),
        (
            "(:action go",
            "(:durative-action a) (:durative-action b) (:action go",
            "line 6: :durative-action is not supported (supported: :action",
        ),
        (
            "car truck - vehicle vehicle place",
            "car truck - vehicle vehicle place car - place",
            "line 3: type 'car' is declared twice",
        ),
        ("(:predicates", "(:predicates (when ?x)", "'when' is a PDDL keyword"),
        ("(:predicates", "(:predicates (increase ?x)", "line 5: 'increase' is a PDDL keyword"),
        ("(at ?v ?b)", "(at ?v ?w)", "line 7: variable '?w' is not declared"),
    ],
)
def test_bad_domains_are_named(old: str, new: str, message: str) -> None:
    assert old in DOMAIN
    with pytest.raises(PddlError, match=re.escape(message)):
        read_domain(DOMAIN.replace(old, new, 1))


def test_an_unclosed_parenthesis_names_its_line() -> None:
    with pytest.raises(PddlError, match="line 3"):
        parse("(define\n  (a))\n)) (b)")


def test_what_is_wrong_names_the_line_of_the_innermost_parenthesis() -> None:
    text = PROBLEM.replace("(at c hub)", "(and (at c hub)\n\n (at c nowhere))")
    with pytest.raises(PddlError, match=r"^line 5: object 'nowhere' is not declared"):
        read_task(DOMAIN, text)


def test_a_predicate_may_be_called_compare() -> None:
    domain = """(define (domain d) (:predicates (compare ?a ?b) (fluent ?a) (done))
      (:action a :parameters (?x) :precondition (and (compare ?x ?x) (not (fluent ?x)))
        :effect (and (done) (not (compare ?x ?x)))))"""
    problem = """(define (problem p) (:domain d) (:objects o) (:init (compare o o))
      (:goal (and (done) (not (compare o o)))))"""
    task = read_task(domain, problem)
    assert Checker(task).check(Plan((("a", "o"),))).valid
    assert not Checker(task).check(Plan(())).valid


def test_numbers_beyond_reach_are_refused() -> None:
    domain = DOMAIN.replace("(:action", "(:functions (cost)) (:action")
    with pytest.raises(PddlError, match="the number 1e999 is too large"):
        read_task(domain, PROBLEM.replace("(at c x)", "(at c x) (= (cost) 1e999)"))


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(PddlError, match="deeper"):
        parse("(" * 100_000)


@given(st.text(alphabet="()abc ;?-\n:=", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for reader in (read_domain, lambda t: read_task(DOMAIN, t)):
        with contextlib.suppress(PddlError):
            reader(text)


def test_printed_problems_read_back_the_same() -> None:
    task = blocks_task(6, 3, 0)
    again = read_task(
        "(define (domain blocksworld))", "(define (problem x) (:domain blocksworld) (:goal (and)))"
    )
    assert again.key != task.key
    from planners.domains import DOMAINS

    assert read_task(DOMAINS["blocksworld"].text, print_problem(task.problem)).key == task.key
