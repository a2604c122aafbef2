"""Hostile tasks and plans: what takes too long is not judged, and nothing runs on."""

import importlib.metadata
from itertools import pairwise

import pytest

from planners import Task, check, read_task
from planners.checking.checker import Checker
from planners.checking.explain import explain
from planners.checking.fallback import Fallback
from planners.checking.steps import steps
from planners.errors import NotJudged, PddlError
from planners.pddl.formulas import number, number_text
from planners.pddl.grounding import Grounded
from planners.pddl.isomorphism import shape, symmetries
from planners.pddl.pictures import draw
from planners.pddl.reader import read_domain
from planners.prompts.formats import PROMPTS
from planners.records import Plan

MANY = " ".join(f"(p{number})" for number in range(3000))
LARGE = f"""(define (domain d) (:predicates {MANY} (g))
    (:action a :parameters () :effect (and {MANY})))"""
EMPTY = "(define (problem x) (:domain d) (:init) (:goal (g)))"


def test_steps_of_many_literals_end_with_the_time() -> None:
    task, plan = read_task(LARGE, EMPTY), Plan((("a",),) * 200_000)
    with pytest.raises(NotJudged, match="time for this plan is over"):
        Checker(task, timeout=0.1).check(plan)
    with pytest.raises(NotJudged, match="takes too long"):
        list(steps(task, plan, 0.1))


def test_a_long_sum_ends_with_the_time() -> None:
    sum_of = "(+ " + "(f) " * 50_000 + ")"
    domain = f"""(define (domain d) (:predicates (g)) (:functions (f))
        (:action a :parameters () :precondition (>= {sum_of} 0) :effect (g)))"""
    problem = "(define (problem x) (:domain d) (:init (= (f) 0)) (:goal (g)))"
    with pytest.raises(NotJudged, match="time for this plan is over"):
        Checker(read_task(domain, problem), timeout=0.1).check(Plan((("a",),) * 1000))


def test_types_that_overlap_are_looked_up_once() -> None:
    types = " ".join(f"t{number}" for number in range(3000))
    atoms = "(p ?x) " * 1000
    text = f"""(define (domain d) (:types a b - object {types} - (either a b))
        (:predicates (p ?x - b))
        (:action go :parameters (?x - a) :precondition (and {atoms}) :effect (p ?x)))"""
    with pytest.raises(PddlError, match="takes b"):  # its effect names what may be no b
        read_domain(text)


def test_facts_that_join_to_too_many_actions_are_refused() -> None:
    names = " ".join(f"o{number}" for number in range(80))
    facts = " ".join(f"(p o{n}) (q o{n}) (s o{n})" for n in range(80))
    task = read_task(
        """(define (domain d) (:predicates (p ?x) (q ?x) (s ?x) (g))
        (:action a :parameters (?x ?y ?z) :precondition (and (p ?x) (q ?y) (s ?z)) :effect (g)))""",
        f"(define (problem x) (:domain d) (:objects {names}) (:init {facts}) (:goal (g)))",
    )
    with pytest.raises(NotJudged, match="join in more than 200,000 ways"):
        Grounded(task)


def test_a_predicate_may_be_called_like_our_own_marks() -> None:
    """And an object of a task like an action, or like `one` in another."""
    domain = """(define (domain d) (:predicates (fluent ?x) (q ?x))
        (:action go :parameters (?x) :precondition (or (fluent ?x) (q ?x)) :effect (q ?x)))"""

    def task(name: str) -> Task:
        return read_task(
            domain,
            f"(define (problem x) (:domain d) (:objects {name} v) (:init) (:goal (fluent {name})))",
        )

    assert shape(task("one")) == shape(task("two"))
    for prompt in ("compact", "letters"):
        assert "pipe1" not in PROMPTS[prompt].write(task("pipe1"))
    assert "undefined" not in " ".join(explain(task("one"), Plan((("go", "v"),))))


@pytest.mark.parametrize("prompt", ["compact", "letters", "obfuscated"])
def test_an_object_may_be_called_like_an_action(prompt: str) -> None:
    task = read_task(
        """(define (domain d) (:predicates (clear ?x) (held ?x))
        (:action lift :parameters (?x) :precondition (clear ?x) :effect (held ?x)))""",
        """(define (problem p) (:domain d) (:objects lift a) (:init (clear a) (clear lift))
        (:goal (held a)))""",
    )
    own = Plan((("lift", "a"), ("lift", "lift")))
    restated = PROMPTS[prompt].restate(task, str(own), own)
    assert PROMPTS[prompt].read(task, restated).plan == own


def test_what_only_a_condition_or_a_rule_changes_is_not_told_as_out_of_reach() -> None:
    domain = """(define (domain d) (:predicates (p) (g) (h ?x) (far))
        (:action a :parameters () :effect (when (p) (g)))
        (:action b :parameters () :effect (forall (?x) (h ?x)))
        (:derived (far) (forall (?x) (h ?x))))"""
    problem = """(define (problem x) (:domain d) (:objects o) (:init (p))
        (:goal (and (g) (h o) (far))))"""
    task = read_task(domain, problem)
    assert check(task, "(a)(b)").valid
    told = " ".join(explain(task, Plan(())))
    assert told.count("applicable here adds it without a condition") == 2
    assert "no action changes it by itself" in told


def test_an_action_of_very_many_parameters_has_no_advice() -> None:
    names = " ".join(f"?x{number}" for number in range(3000))
    task = read_task(
        f"""(define (domain d) (:predicates (p ?x) (g))
        (:action a :parameters ({names}) :precondition (p ?x0) :effect (g)))""",
        "(define (problem x) (:domain d) (:objects o) (:init (p o)) (:goal (g)))",
    )
    assert explain(task, Plan(()))


def test_the_checker_alone_names_the_feature_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("planners.checking.fallback.version", missing)
    with pytest.raises(NotJudged, match=r"constraints.*unified-planning is not installed"):
        Fallback("(define (domain d))", "(define (problem p))", NotJudged("constraints"))


@pytest.mark.parametrize("text", ["1e-400", "1e400", "-3.5e-380", "0.1"])
def test_a_number_near_the_limit_reads_back(text: str) -> None:
    value = number(text)
    assert number(number_text(value)) == value


def test_a_number_is_changed_of_its_own_types_alone() -> None:
    domain = """(define (domain d) (:types t) (:predicates (g)) (:functions (f ?x - t))
        (:action a :parameters (?x - object) :effect (assign (f ?x) 5)))"""
    with pytest.raises(PddlError, match="is of type object, and function 'f' takes t"):
        read_domain(domain)


def test_a_goal_of_more_than_atoms_has_no_marks() -> None:
    task = read_task(
        """(define (domain d) (:predicates (at ?b ?l) (at-robot ?l) (move-dir ?f ?t ?d))
        (:action go :parameters (?f ?t ?d) :precondition (move-dir ?f ?t ?d)
         :effect (at-robot ?t)))""",
        """(define (problem x) (:domain d) (:objects b l m right left up down)
        (:init (at b l) (at-robot m) (move-dir l m right)) (:goal (not (at b l))))""",
    )
    draw(task, task.problem.init)


def test_a_long_chain_of_facts_has_the_symmetry_that_changes_nothing() -> None:
    names = [f"o{number}" for number in range(1100)]
    facts = " ".join(f"(next {one} {other})" for one, other in pairwise(names))
    task = read_task(
        """(define (domain d) (:predicates (next ?x ?y) (on ?x))
        (:action a :parameters (?x ?y) :precondition (next ?x ?y) :effect (on ?y)))""",
        f"(define (problem x) (:domain d) (:objects {' '.join(names)}) (:init {facts}) "
        "(:goal (on o1)))",
    )
    assert symmetries(task) == ({},)
