"""Derived predicates, and types with several parents: against the naive replay and against VAL."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planners import Checker, NotJudged, Plan, check, read_task
from planners.checking.referees import REFEREES
from planners.checking.replay import replay
from planners.errors import PddlError
from planners.pddl.declarations import Rule, strata
from planners.pddl.grounding import Grounded
from planners.pddl.literals import signs
from planners.pddl.printing import print_task
from planners.prompts.formats import PROMPTS

NET = """(define (domain net) (:requirements :adl :derived-predicates)
  (:types host switch - node special - (either host switch))
  (:predicates (link ?a ?b - node) (reach ?a ?b - node) (alone ?a - node) (lit ?s - switch)
               (dark ?s - switch) (done))
  {rules}
  (:action connect :parameters (?a ?b - node) :precondition (not (reach ?a ?b))
   :effect (link ?a ?b))
  (:action cut :parameters (?a ?b - node) :precondition (link ?a ?b) :effect (not (link ?a ?b)))
  (:action light :parameters (?s - switch ?h - host) :precondition (and (dark ?s) (reach ?h ?s))
   :effect (when (alone ?s) (done))))"""
REACH = "(:derived (reach ?a ?b - node) {})"
RULES = (
    REACH.format("(or (link ?a ?b) (exists (?c - node) (and (reach ?a ?c) (link ?c ?b))))"),
    REACH.format("(link ?a ?b)")
    + REACH.format("(exists (?c - node) (and (reach ?a ?c) (reach ?c ?b)))"),
    REACH.format("(and (link ?a ?b) (not (= ?a ?b)))"),
    REACH.format("(imply (link ?b ?a) (link ?a ?b))"),
)  # fmt: skip
MORE = (
    "(:derived (alone ?a - node) (not (exists (?b - node) (reach ?a ?b))))"
    "(:derived (lit ?s - switch) (exists (?h - host) (reach ?h ?s)))"
    "(:derived (dark ?s - switch) (and (not (alone ?s)) (lit ?s)))"
    "(:derived (dark ?s - special) (alone ?s))"
)
OBJECTS = {"h1": "host", "h2": "host", "s1": "switch", "s2": "switch", "x": "special"}
PROBLEM = """(define (problem p) (:domain net) (:objects h1 h2 - host s1 s2 - switch x - special)
  (:init {init}) (:goal {goal}))"""
GOALS = (
    "(done)",
    "(reach h1 x)",
    "(and (not (alone h1)) (reach h1 s2))",
    "(forall (?n - node) (alone ?n))",
)


def net(seed: int) -> tuple[str, str, list[Plan]]:
    """A domain, a problem and plans of random actions that are mostly applicable."""
    rng, names = Random(seed), list(OBJECTS)
    init = {f"(link {rng.choice(names)} {rng.choice(names)})" for _ in range(rng.randrange(6))}
    domain = NET.format(rules=rng.choice(RULES) + MORE)
    problem = PROBLEM.format(init=" ".join(sorted(init)), goal=rng.choice(GOALS))
    plans = []
    for _ in range(6):
        steps = []
        for _ in range(rng.randrange(1, 5)):
            name = rng.choice(["connect", "cut", "light"])
            first = [n for n in names if name != "light" or OBJECTS[n] != "host"]
            second = [n for n in names if name != "light" or OBJECTS[n] in ("host", "special")]
            steps.append((name, rng.choice(first), rng.choice(second)))
        plans.append(Plan(tuple(steps)))
    return domain, problem, plans


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_the_checker_agrees_with_the_naive_replay(seed: int) -> None:
    domain, problem, plans = net(seed)
    task = read_task(domain, problem)
    checker = Checker(task)
    for plan in plans:
        verdict = checker.check(plan)
        assert (verdict.outcome, verdict.step) == replay(task, plan)
    assert read_task(domain, print_task(task)).key == task.key


def test_val_agrees() -> None:
    agreed, valid = 0, 0
    for seed in range(40):
        domain, problem, plans = net(seed)
        domain = domain.replace("special - (either host switch)", "special - host")
        domain = domain.replace("(dark ?s - special)", "(dark ?s - switch)")
        checker = Checker(read_task(domain, problem))
        for plan in plans:
            if any(a[0] == "light" and a[1] == "x" for a in plan.actions):
                continue  # here x is no switch
            verdict = checker.check(plan)
            [said] = REFEREES["val"](domain, problem, [plan])
            if said.valid is not None:
                agreed += 1
                valid += verdict.valid
                assert said.valid == verdict.valid, (seed, plan, verdict)
    assert agreed > 100
    assert valid > 5


def test_strata_put_what_is_negated_first() -> None:
    [reach, *rest] = read_task(*net(1)[:2]).domain.rules
    assert {rule.predicate for rule in reach} == {"reach", "lit"}
    level = {
        rule.predicate: number for number, stratum in enumerate([reach, *rest]) for rule in stratum
    }
    assert level == {"reach": 0, "lit": 0, "alone": 1, "dark": 2}
    assert set(signs(rest[-1][0].condition)) == {("alone", False), ("lit", True)}


@pytest.mark.parametrize(
    ("rules", "init", "message"),
    [
        ("(:derived (alone ?a - node) (not (alone ?a)))", "", "depends on its own negation"),
        (
            "(:derived (alone ?a - node) (not (reach ?a ?a)))"
            "(:derived (reach ?a ?b - node) (imply (alone ?a) (link ?a ?b)))",
            "",
            "depends on its own negation",
        ),
        (
            "(:derived (alone ?a - node) (not (reach ?a ?a)))"
            "(:derived (reach ?a ?b - node) (alone ?a))",
            "",
            "depends on its own negation",
        ),
        ("(:derived (link ?a ?b - node) (link ?b ?a))", "", "'connect' changes 'link'"),
        ("(:derived (alone ?a - node) (link ?a ?a))", "(alone h1)", "derived by rules"),
        ("(:derived (nothing ?a) (link ?a ?a))", "", "'nothing' is not declared"),
        ("(:derived alone (link h1 h1))", "", "expected .:derived"),
        ("(:derived (alone ?a ?b - node) (link ?a ?a))", "", "takes 1 arguments"),
        ("(:derived (alone ?a - node) (link ?a ?c))", "", "variable '.c' is not declared"),
    ],
)
def test_what_is_no_set_of_rules_is_refused(rules: str, init: str, message: str) -> None:
    domain = NET.format(rules=rules)
    problem = PROBLEM.format(init=init, goal="(done)")
    with pytest.raises(PddlError, match=message):
        read_task(domain, problem)


def test_an_object_of_a_type_with_two_parents_is_of_both() -> None:
    domain = NET.format(rules=RULES[0] + MORE)
    problem = PROBLEM.format(init="(link x s1) (link x x) (link s1 x)", goal="(and)")
    assert check(domain, problem, "(light x x)").valid
    assert check(domain, problem, "(light s1 x)").valid
    assert not check(domain, problem, "(light h1 x)").valid
    circle = domain.replace("switch - node special", "switch - special special")
    with pytest.raises(PddlError, match="its own ancestor"):
        read_task(circle, problem)


def test_a_rule_derives_of_objects_that_are_of_two_types_at_once() -> None:
    """Neither type is below the other, and `c` is below both."""
    domain = """(define (domain d) (:requirements :typing :derived-predicates)
        (:types a b - object {more} c - (either a b)) (:predicates (p ?x - a) (q ?x - b) (g))
        (:action n :parameters (?x - b) :precondition (p ?x) :effect (g))
        (:derived (p ?x - {wide}) (q ?x)))"""
    problem = "(define (problem x) (:domain d) (:objects o - c) (:init (q o)) (:goal {goal}))"
    for wide, more in (("b", ""), ("(either b d)", "d - a"), ("b", "e - c")):
        text = domain.format(wide=wide, more=more)
        assert check(text, problem.format(goal="(p o)"), ";").valid
        assert check(text, problem.format(goal="(g)"), "(n o)").valid
    apart = domain.format(wide="b", more="").replace("c - (either a b)", "c - b")
    with pytest.raises(PddlError, match=r"is of type b, and predicate 'p' takes a"):
        read_task(apart, problem.format(goal="(g)"))


def test_what_does_not_handle_rules_says_so() -> None:
    domain, problem, _ = net(3)
    task = read_task(domain, problem)
    with pytest.raises(NotJudged, match="derived predicates"):
        Grounded(task)
    assert "What follows from other facts:\n- ?a reach ?b if" in PROMPTS["natural"].write(task)
    assert "(:derived" in PROMPTS["obfuscated"].write(task)


@given(st.data())
def test_strata_are_the_lowest_that_are_allowed(data: st.DataObject) -> None:
    """As raising every level until all conditions hold finds them."""
    names = ["p", "q", "r", "s", "t"]
    uses = st.lists(st.tuples(st.sampled_from([*names, "fact"]), st.booleans()), max_size=3)
    told = data.draw(st.lists(st.tuples(st.sampled_from(names), uses), min_size=1, max_size=8))
    rules = [
        Rule(head, (), ("and", *((name,) if plain else ("not", (name,)) for name, plain in body)))
        for head, body in told
    ]
    level = {head: 0 for head, _ in told}
    for _ in range((len(level) + 1) ** 2):
        for head, body in told:
            lower = [level[name] + (not plain) for name, plain in body if name in level]
            level[head] = max([level[head], *lower])
    if max(level.values()) >= len(level):
        with pytest.raises(PddlError, match="depends on its own negation"):
            strata(rules)
        return
    wanted = [tuple(r for r in rules if level[r.predicate] == n) for n in sorted({*level.values()})]
    assert strata(rules) == tuple(wanted)
