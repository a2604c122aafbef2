"""What a verdict means where checkers differ: exact numbers, conflicts, types, undefined values."""

import signal
from contextlib import suppress
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planners import check
from planners.checking.check import judge_text
from planners.checking.checker import Checker
from planners.checking.explain import explain
from planners.checking.fallback import Fallback
from planners.checking.replay import replay
from planners.checking.steps import steps
from planners.clock import interrupted
from planners.errors import InvalidInput, NotJudged, PddlError
from planners.pddl import read_domain, read_task
from planners.pddl.formulas import number, number_text
from planners.records import Outcome, Plan, Verdict

DOMAIN = """(define (domain d) (:requirements :adl :numeric-fluents)
  (:types a b) (:constants k - a)
  (:predicates (p ?x - a) (q ?x - b) (r ?x))
  (:functions (f ?x - a) (g ?x - a))
  (:action act :parameters (?x ?y - a) :precondition {condition} :effect {effect}))"""
NUMBER_TEXT = r"[+-]?\d{1,9}(\.\d{0,9})?(e[+-]?[1-3]?\d)?"
PROBLEM = """(define (problem t) (:domain d) (:objects u v - a w - b)
  (:init (= (f u) {value}) (p u)) (:goal {goal}))"""


def verdict(
    effect: str = "(and)",
    *steps: str,
    condition: str = "(and)",
    goal: str = "(and)",
    value: str = "0",
) -> tuple[Outcome, str]:
    """The verdict on a plan; the naive checker must have the same."""
    task = read_task(
        DOMAIN.format(condition=condition, effect=effect), PROBLEM.format(value=value, goal=goal)
    )
    plan = Plan(tuple(("act", *step.split()) for step in steps))
    found = Checker(task).check(plan)
    assert (found.outcome, found.step) == replay(task, plan)
    return found.outcome, found.detail


@pytest.mark.parametrize(
    ("effect", "times", "goal"),
    [
        ("(increase (f ?x) 0.1)", 10, "(= (f u) 1)"),
        ("(increase (f ?x) 0.1)", 3, "(= (f u) 0.3)"),
        ("(decrease (f ?x) 1e-3)", 7, "(= (f u) -0.007)"),
        ("(increase (f ?x) (/ 1 3))", 3, "(= (f u) 1)"),
        ("(increase (f ?x) 9007199254740993)", 1, "(> (f u) 9007199254740992)"),
    ],
)
def test_numbers_are_exact(effect: str, times: int, goal: str) -> None:
    assert verdict(effect, *["u v"] * times, goal=goal) == (Outcome.VALID, "")


@given(
    st.from_regex(r"[+-]?\d{1,9}(\.\d{0,9})?(e[+-]?[1-3]?\d)?", fullmatch=True).filter(str.isascii)
)
def test_a_number_reads_back_from_its_text(word: str) -> None:
    assert number(number_text(number(word))) == number(word)


@pytest.mark.parametrize("word", ["1e401", "1e-401", "9" * 401, "1e99999999999"])
def test_a_number_that_would_fill_the_memory_is_refused(word: str) -> None:
    with pytest.raises(PddlError, match=r"line 2: the number .* is too large"):
        verdict(value=word)


def test_numbers_that_grow_without_bound_are_not_judged() -> None:
    with pytest.raises(NotJudged, match="grows beyond"):
        verdict("(scale-up (f ?x) (f ?x))", *["u v"] * 40, value="3")
    domain = DOMAIN.format(condition="(and)", effect="(scale-up (f ?x) (f ?x))")
    problem = PROBLEM.format(value="1e300", goal="(and)")[:-1] + "(:metric minimize (f u)))"
    with pytest.raises(NotJudged, match="larger than 1e308"):
        check(domain, problem, "(act u v)")


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        ("(and (assign (f ?x) 5) (assign (f ?y) 6))", "(f u) 5) conflicts with (assign (f u) 6)"),
        ("(and (assign (f ?x) 5) (increase (f ?y) 1))", "5) conflicts with (increase (f u) 1)"),
        ("(and (increase (f ?x) 5) (assign (f ?y) 1))", "5) conflicts with (assign (f u) 1)"),
        ("(and (increase (f ?x) 5) (scale-up (f ?y) 2))", "conflicts with (scale-up (f u) 2)"),
        ("(forall (?z - a) (assign (f ?x) (f ?z)))", "the change of (f u) is undefined"),
        ("(increase (g ?x) 1)", "the number (g u) is undefined"),
        ("(scale-down (f ?x) 0)", "division of (f u) by zero"),
    ],
)  # fmt: skip
def test_effects_that_conflict_make_the_action_inapplicable(effect: str, told: str) -> None:
    outcome, detail = verdict(effect, "u u")
    assert outcome == Outcome.PRECONDITION_FAILED
    assert told in detail


@pytest.mark.parametrize(
    "effect",
    [
        "(and (increase (f ?x) 2) (decrease (f ?y) 1) (increase (f ?x) 0.5))",
        "(and (assign (f ?x) 1.5) (assign (f ?y) 1.5))",
    ],
)
def test_effects_whose_order_makes_no_difference_add_up(effect: str) -> None:
    assert verdict(effect, "u u", goal="(= (f u) 1.5)") == (Outcome.VALID, "")


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("(< (g ?x) 1)", False),
        ("(not (< (g ?x) 1))", False),
        ("(imply (< (g ?x) 1) (p ?x))", True),
        ("(imply (< (g ?x) 1) (p k))", False),
        ("(or (not (< (g ?x) 1)) (p ?x))", True),
        ("(not (and (< (g ?x) 1) (p k)))", True),
        ("(forall (?z - a) (< (f ?z) 1))", False),
        ("(not (forall (?z - a) (< (f ?z) 1)))", False),
        ("(exists (?z - a) (< (f ?z) 1))", True),
        ("(not (exists (?z - a) (< 1 (f ?z))))", False),
        ("(not (exists (?z - a) (and (p ?z) (< 1 (f ?z)))))", True),
        ("(not (< (f ?x) (/ 1 0)))", False),
    ],
)
def test_a_comparison_with_an_undefined_value_is_unmet_also_under_not(
    condition: str, met: bool
) -> None:
    outcome, _ = verdict("(and)", "u u", condition=condition)
    assert (outcome == Outcome.VALID) is met


@st.composite
def conditions(draw: st.DrawFn, depth: int = 0, scope: tuple[str, ...] = ("?x", "?y")) -> str:
    """A condition over `a` objects, in which every variable is bound."""
    kind = draw(st.integers(0, 8 if depth < 4 else 3))
    one, other = (draw(st.sampled_from((*scope, "k"))) for _ in range(2))
    if kind <= 3:
        value = draw(st.integers(-1, 1))
        return (f"(p {one})", f"(r {one})", f"(= {one} {other})", f"(< (f {one}) {value})")[kind]
    if kind <= 5:
        parts = draw(st.lists(conditions(depth + 1, scope), max_size=3))
        return f"({('and', 'or')[kind - 4]} {' '.join(parts)})"
    if kind == 6:
        return f"(not {draw(conditions(depth + 1, scope))})"
    if kind == 7:
        return f"(imply {draw(conditions(depth + 1, scope))} {draw(conditions(depth + 1, scope))})"
    names = draw(st.lists(st.sampled_from(("?x", "?z", "?t")), min_size=1, max_size=3, unique=True))
    inner = draw(conditions(depth + 1, (*scope, *names)))
    head = draw(st.sampled_from(("forall", "exists")))
    return f"({head} ({' '.join(names)} - a) {inner})"


@settings(max_examples=300)
@given(conditions(), st.sampled_from(("u", "v", "k")), st.sampled_from(("u", "v", "k")))
def test_quantifiers_by_backtracking_equal_the_naive_ones(condition: str, x: str, y: str) -> None:
    verdict("(and)", f"{x} {y}", condition=condition, value="0")


@pytest.mark.parametrize(
    ("condition", "goal", "told"),
    [
        ("(q ?x)", "(and)", r"line 5: \?x in \(q \?x\) is of type a, and predicate 'q' takes b"),
        ("(forall (?z - b) (p ?z))", "(and)", "line 5: .* is of type b, and predicate 'p' takes a"),
        ("(< (f ?z) 1)", "(and)", r"line 5: variable '\?z' is not declared"),
        ("(and)", "(p w)", r"line 2: w in \(p w\) is of type b, and predicate 'p' takes a"),
        ("(and)", "(q k)", "k in .* is of type a, and predicate 'q' takes b"),
        ("(and)", "(< (f w) 1)", "w in .* is of type b, and function 'f' takes a"),
    ],
)
def test_ill_typed_atoms_are_refused_with_their_line(condition: str, goal: str, told: str) -> None:
    with pytest.raises(PddlError, match=told):
        verdict(condition=condition, goal=goal)


def test_ill_typed_effects_and_facts_are_refused_and_wider_variables_are_not() -> None:
    with pytest.raises(PddlError, match="is of type a, and predicate 'q' takes b"):
        verdict("(when (p ?x) (not (q ?x)))")
    with pytest.raises(PddlError, match=r"line 2: w in \(p w\) is of type b"):
        verdict(value="0) (p w")
    assert verdict(condition="(exists (?o - object) (p ?o))") == (Outcome.VALID, "")


PEERS_ACCEPT = [
    ("(:objects u v - a w - b)", "(:objects u v k - a w - b)", "object 'k' is a constant"),
    ("(:objects u v - a w - b)", "(:objects u v -a w - b)", "'-a' was read as '- a'"),
    ("(:goal (and)))", "(:goal (and)))) ; end\n", "a surplus ')' at the end was left out"),
]


@pytest.mark.parametrize(("before", "after", "note"), PEERS_ACCEPT)
def test_what_all_peers_accept_is_judged_with_a_note(before: str, after: str, note: str) -> None:
    domain = DOMAIN.format(condition="(and)", effect="(and)")
    problem = PROBLEM.format(value="0", goal="(and)")
    assert before in problem
    found = check(domain, problem.replace(before, after), "(act u k)")
    assert found.valid
    assert found.detail.startswith("note: problem line ") or found.detail.startswith("note: object")
    assert note in found.detail
    assert note in check(domain, problem.replace(before, after), "(act u w)").detail


def test_a_problem_of_another_domain_is_read_where_that_is_asked_for() -> None:
    domain = DOMAIN.format(condition="(and)", effect="(and)")
    problem = PROBLEM.format(value="0", goal="(and)").replace("(:domain d)", "(:domain other)")
    with pytest.raises(PddlError, match="is for domain 'other'"):
        read_task(domain, problem)
    assert "for domain 'other'" in read_task(domain, problem, any_domain=True).notes[0]


MANY = " ".join(f"o{i}" for i in range(60))
CHAIN = "(forall (?s ?t ?u ?v) (imply (and (e ?s ?t) (e ?t ?u) (e ?u ?v)) (e ?s ?v)))"


def sixty(condition: str, facts: str = "") -> Checker:
    """A task with 60 objects and one action that needs the condition."""
    domain = f"""(define (domain d) (:requirements :adl) (:predicates (e ?x ?y))
      (:action act :parameters () :precondition {condition} :effect (and)))"""
    problem = (
        f"""(define (problem p) (:domain d) (:objects {MANY}) (:init {facts}) (:goal (and)))"""
    )
    return Checker(read_task(domain, problem), timeout=0.5)


def test_quantifiers_over_many_objects_leave_dead_ends_at_once_or_are_not_judged() -> None:
    act = Plan((("act",),))
    loops = " ".join(f"(e o{i} o{i})" for i in range(60))
    assert sixty(CHAIN, loops).check(act).valid  # 60 ** 4 bindings, of which few are tried
    never = "(exists (?s ?t ?u ?v) (and (e ?s ?v) (e ?v ?s) (not (= ?s ?s))))"
    assert not sixty(never, loops).check(act).valid
    with pytest.raises(NotJudged, match="the time for this plan is over"):
        sixty("(forall (?s ?t ?u ?v) (and (= ?s ?s) (= ?t ?t) (= ?u ?u) (= ?v ?v)))").check(act)


@pytest.mark.parametrize(
    ("requirement", "section"),
    [
        (":durative-actions", "(:durative-action act :parameters () :duration (= ?duration 1) "
         ":condition (and) :effect (at end (done)))"),
        (":goal-utilities", "(:action act :effect (and))"),
    ],
)  # fmt: skip
def test_a_task_that_nobody_judges_is_refused_before_any_plan_is_read(
    requirement: str, section: str
) -> None:
    domain = (
        f"(define (domain d) (:requirements :strips {requirement}) (:predicates (done)) {section})"
    )
    problem = "(define (problem p) (:domain d) (:init) (:goal (done)))"
    with pytest.raises(NotJudged) as refused:
        read_task(domain, problem)
    with pytest.raises(NotJudged, match="unified-planning"):
        Fallback(domain, problem, refused.value)


# Where the signal that ends a plan's time comes within a callback, Python drops its error once.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_checker_is_given_the_same_plan() -> None:
    """The domain's actions tell where an answer goes on after a semicolon."""
    domain = """(define (domain d) (:predicates (p ?x) (q ?x) (g))
        (:action n :parameters (?x) :precondition (p ?x) :effect (g)))"""
    problem = """(define (problem x) (:domain d) (:objects o r) (:init (p o)) (:goal (g))
        (:constraints (always (p o))))"""
    with pytest.raises(NotJudged) as refused:
        read_task(domain, problem)
    other = Fallback(domain, problem, refused.value)
    assert judge_text(other, "(n o)", find=True)[1].valid
    assert not judge_text(other, "(n o); (n r)", find=True)[1].valid
    for text, outcome, step in (
        ("(n o)(m o)", Outcome.UNKNOWN_ACTION, 1),
        ("(n o)(n o o)", Outcome.WRONG_ARITY, 1),
        ("(n s)", Outcome.UNKNOWN_OBJECT, 0),
        ("(n r)(n s)", Outcome.PRECONDITION_FAILED, 0),
        ("(n o)(n r)", Outcome.PRECONDITION_FAILED, 1),
    ):
        found = judge_text(other, text)[1]
        assert (found.outcome, found.step) == (outcome, step)
    with pytest.raises(NotJudged, match="the time for this plan is over"):
        judge_text(Fallback(domain, problem, refused.value, 0.5), "(n o)\n" * 100_000)


def test_a_librarys_time_is_over_where_its_errors_are_dropped() -> None:
    """Python drops what `__del__` raises, and a library may catch what is not its own."""

    def busy(seconds: float) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            pass

    class Slow:
        def __del__(self) -> None:
            busy(0.2)

    def library() -> None:
        Slow()
        with suppress(NotJudged):
            busy(60)
        busy(60)

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(NotJudged, match="the time for this plan is over"), interrupted(0.05):
        library()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


SMALL = """(define (domain s) (:requirements :typing :fluents) (:types t u)
    (:predicates (p ?x - t) (r) (q ?x ?y)) (:functions (f) {functions})
    (:action a :parameters {parameters} :precondition {condition} :effect {effect}))"""


def judged(problem: str, plan: str, timeout: float = 10.0, **parts: str) -> Verdict:
    filled = {"functions": "", "parameters": "()", "condition": "()", "effect": "(r)"} | parts
    text = f"(define (problem x) (:domain s) {problem})"
    return check(SMALL.format(**filled), text, plan, timeout=timeout)


def test_the_time_of_a_plan_is_kept_however_small_its_quantifiers_are() -> None:
    """Three quantifiers inside each other, of which no single one takes long; and many steps."""
    many = " ".join(f"o{i}" for i in range(700))
    facts = " ".join(f"(q o{i} o{i})" for i in range(700))
    hard = "(forall (?x) (exists (?y) (forall (?z) (or (q ?x ?z) (q ?y ?z) (q ?z ?z)))))"
    problem = f"(:objects {many}) (:init (= (f) 0) {facts}) (:goal (r))"
    each = "(forall (?x) (q ?x ?x))"
    for condition, plan in ((hard, "(a)"), (each, "(a)\n" * 5000)):
        with pytest.raises(NotJudged, match="time for this plan is over"):
            judged(problem, plan, 0.3, condition=condition)


def test_the_naive_replay_bounds_numbers_too() -> None:
    """Pages and `show` follow plans with it."""
    domain = SMALL.format(
        functions="", parameters="()", condition="()", effect="(scale-up (f) (f))"
    )
    task = read_task(domain, "(define (problem x) (:domain s) (:init (= (f) 3)) (:goal (r)))")
    with pytest.raises(NotJudged, match="grows beyond"):
        list(steps(task, Plan((("a",),) * 60)))


def test_the_time_of_a_plan_is_kept_by_effects_too() -> None:
    many = " ".join(f"o{i}" for i in range(2000))
    names = " ".join(f"(f{i})" for i in range(400))
    none = " ".join("(forall (?x - u) (r))" for _ in range(300))
    whens = " ".join(f"(when (> (f{i}) 1) (r))" for i in range(400))
    values = " ".join(f"(= (f{i}) 0)" for i in range(400))
    problem = f"(:objects {many} - t) (:init (= (f) 0) {values}) (:goal (r))"
    for effect in (f"(and {whens})", f"(and {none})"):
        with pytest.raises(NotJudged, match="time for this plan is over"):
            judged(problem, "(a)\n" * 5000, 0.3, effect=effect, functions=names)


def test_a_deep_or_wide_hierarchy_of_types_is_read_quickly_or_refused() -> None:
    chain = " ".join(f"t{i + 1} - t{i}" for i in range(3000))
    domain = f"(define (domain d) (:types {chain}) (:predicates (p ?x - t0)))"
    with pytest.raises(NotJudged, match="types in 3001 levels; up to 100 are supported"):
        read_domain(domain)
    short = " ".join(f"t{i + 1} - t{i}" for i in range(98))
    many = " ".join(f"o{i}" for i in range(3000))
    facts = " ".join(f"(p o{i})" for i in range(3000))
    task = read_task(
        f"(define (domain d) (:types {short}) (:predicates (p ?x - t0)))",
        f"(define (problem x) (:domain d) (:objects {many} - t98) (:init {facts}) (:goal (p o0)))",
    )
    assert Checker(task).check(Plan(())).valid


def test_sums_of_many_terms_and_many_variables_are_judged_or_refused() -> None:
    many = [f"(f{i})" for i in range(1500)]
    values = " ".join(f"(= {one} 1)" for one in many)
    parts = {"functions": " ".join(many)}
    problem = f"(:init (= (f) 0) {values}) (:goal (> (+ {' '.join(many)}) 1499))"
    assert judged(f"{problem} (:metric minimize (+ {' '.join(many)}))", ";", **parts).cost == 1500
    names = " ".join(f"?x{i}" for i in range(101))
    with pytest.raises(NotJudged, match="'exists' over 101 variables; up to 100"):
        judged("(:init (= (f) 0)) (:goal (r))", "(a)", condition=f"(exists ({names}) (r))")


def test_a_wider_effect_is_refused_and_a_wider_rule_derives_what_the_predicate_takes() -> None:
    objects = "(:objects b - u) (:init (= (f) 0)) (:goal (exists (?y) (p ?y)))"
    with pytest.raises(InvalidInput, match=r"\?x in \(p \?x\) is of type object"):
        judged(objects, "(a b)", parameters="(?x)", effect="(p ?x)")
    domain = """(define (domain s) (:requirements :typing :derived-predicates) (:types t u)
        (:predicates (p ?x - t) (s ?x - t)) (:action a :parameters () :effect ())
        (:derived (s ?x) (not (p ?x))))"""
    problem = (
        "(define (problem x) (:domain s) (:objects b - u) (:init) (:goal (exists (?y) (s ?y))))"
    )
    assert check(domain, problem, ";").outcome is Outcome.GOAL_NOT_REACHED


def test_a_metric_is_part_of_the_task() -> None:
    text = "(define (problem x) (:domain s) (:init (= (f) 2)) (:goal (r)) {})"
    metrics = "", "(:metric minimize (f))", "(:metric maximize (f))", "(:metric minimize (* 2 (f)))"
    domain = SMALL.format(functions="", parameters="()", condition="()", effect="(r)")
    keys = [read_task(domain, text.format(metric)).key for metric in metrics]
    assert len(set(keys)) == 4


def test_what_is_said_twice_differently_or_looks_like_a_variable_is_refused() -> None:
    with pytest.raises(InvalidInput, match="two initial values"):
        judged("(:init (= (f) 1) (= (f) 2)) (:goal (r))", "(a)")
    for both in ("(r) (not (r))", "(not (r)) (r)"):
        with pytest.raises(InvalidInput, match=r"\(r\) is true and false at the beginning"):
            judged(f"(:init (= (f) 1) {both}) (:goal (r))", "(a)")
    with pytest.raises(NotJudged, match="requires :preferences"):
        judged("(:requirements :preferences) (:init (= (f) 1)) (:goal (r))", "(a)")
    domain = SMALL.replace("(r) (q", "(?r) (q").format(
        functions="", parameters="()", condition="()", effect="(p)"
    )
    with pytest.raises(InvalidInput, match="looks like a variable"):
        read_domain(domain)


def test_line_ends_and_marks_of_other_systems_are_read() -> None:
    domain = SMALL.format(functions="", parameters="()", condition="()", effect="(r)")
    problem = "(define (problem x) (:domain s) ; here\r(:init (= (f) 0)) (:goal (r)))"
    assert check("\ufeff" + domain, problem, "; first\r(a)\r").valid
    with pytest.raises(InvalidInput, match="half of a surrogate pair"):
        read_domain(domain.replace("(r)", "(\ud800)"))


def test_steps_and_advice_know_numbers() -> None:
    domain = SMALL.format(
        functions="(g)", parameters="()", condition="()", effect="(and (r) (increase (f) 0.5))"
    )
    problem = "(define (problem x) (:domain s) (:init (= (f) 1234567)) (:goal (r)))"
    task = read_task(domain, problem)
    [step] = steps(task, Plan((("a",),)))
    assert step.changes == ["+(r)", "(f)=1234567.5"]
    undefined = read_task(domain, problem.replace("(= (f) 1234567)", ""))
    [_, line] = explain(undefined, Plan(()))
    assert "no action that is applicable here adds it" in line
