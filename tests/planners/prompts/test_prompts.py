"""Prompt formats (golden) and what comes back out of a completion."""

import re
from pathlib import Path
from random import Random

import pytest

from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.domains.task_sets import generate
from planners.errors import InvalidInput
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.pddl.renaming import rename, shuffle
from planners.prompts.extraction import extract
from planners.prompts.formats import PROMPTS, READABLE
from planners.records import Outcome, Plan, Problem

TINY = Problem(
    "blocksworld",
    "p",
    (("b1", "object"), ("b2", "object")),
    (("arm-empty",), ("clear", "b1"), ("on", "b1", "b2"), ("on-table", "b2")),
    ("and", ("on", "b2", "b1"), ("on-table", "b1")),
)
BLOCKS = DOMAINS["blocksworld"].text
TINY_TASK = read_task(BLOCKS, print_problem(TINY))
GOLDEN = Path(__file__).parent / "golden"


def test_compact_is_as_agreed() -> None:
    assert str(PROMPTS["compact"]) == "compact-2"
    assert PROMPTS["compact"].write(TINY_TASK) == (
        " arm-empty\n b1 clear on b2 >@on b2 >on-table\n b2 @on b1 on-table >on b1\n"
    )


def test_letters_are_as_agreed() -> None:
    assert str(PROMPTS["letters"]) == "letters-1"
    assert PROMPTS["letters"].write(TINY_TASK) == (
        " arm-empty\n a clear on b > @on b on-table\n b @on a on-table > on a\n"
    )


@pytest.mark.parametrize(("prompt", "word"), [("letters", "a"), ("compact", "b1")])
def test_no_object_is_named_like_an_action(prompt: str, word: str) -> None:
    domain = f"""(define (domain d) (:predicates (at ?x) (done ?x)) (:action {word}
    :parameters (?x) :precondition (at ?x) :effect (done ?x)))"""
    problem = "(define (problem p) (:domain d) (:objects foo) (:init (at foo)) (:goal (done foo)))"
    task = read_task(domain, problem)
    [named] = {*PROMPTS[prompt].write(task).split()} & {"a", "b", "b1", "b2"}
    assert PROMPTS[prompt].read(task, f"({word} {named})").plan == Plan(((word, "foo"),))


def test_compact_tells_types_and_static_facts_once() -> None:
    domain = """(define (domain roads) (:requirements :typing) (:types place car)
    (:constants home - place) (:predicates (road ?a ?b - place) (in ?c - car ?p - place))
    (:action go :parameters (?c - car ?a ?b - place)
     :precondition (and (in ?c ?a) (road ?a ?b)) :effect (and (in ?c ?b) (not (in ?c ?a)))))"""
    problem = """(define (problem p) (:domain roads) (:objects x y - place van - car)
    (:init (road home x) (in van home) (road x y) (road home y)) (:goal (in van y)))"""
    assert PROMPTS["compact"].write(read_task(domain, problem)) == (
        "\n home :place @in b3 road b1 b2\n b1 :place road b2\n b2 :place >@in b3\n"
        " b3 :car in home >in b2\n"
    )


def test_compact_names_no_more_objects_than_it_has_names_for() -> None:
    blocks = " ".join(f"x{i}" for i in range(65))
    problem = (
        f"(define (problem p) (:domain blocksworld) (:objects {blocks}) (:init) (:goal (and)))"
    )
    with pytest.raises(InvalidInput, match="at most 64 objects, p has 65"):
        PROMPTS["compact"].write(read_task(BLOCKS, problem))


def test_compact_refuses_what_it_cannot_say() -> None:
    goal = ("or", ("clear", "b1"), ("clear", "b2"))
    problem = Problem(TINY.domain, TINY.name, TINY.objects, TINY.init, goal)
    task = read_task(BLOCKS.replace(":strips", ":adl"), print_problem(problem))
    with pytest.raises(InvalidInput, match="conjunction of atoms"):
        PROMPTS["compact"].write(task)


@pytest.mark.parametrize("name", ["pddl", "natural", "obfuscated", "task", "validate"])
def test_wordy_prompts_are_as_agreed(name: str) -> None:
    """A changed text needs a new version, and the golden file of that version."""
    prompt = PROMPTS[name]
    assert prompt.write(TINY_TASK) == (GOLDEN / f"{prompt}.txt").read_text()


@pytest.mark.parametrize(
    "name", ["natural-2", "natural-3", "obfuscated-2", "validate-1", "validate-2"]
)
def test_older_prompts_are_still_read(name: str) -> None:
    assert READABLE[name].write(TINY_TASK) == (GOLDEN / f"{name}.txt").read_text()


def test_plain_words_negate_in_pddl_what_is_more_than_a_fact() -> None:
    domain = """(define (domain d) (:requirements :adl) (:types a b - object c - (either a b))
        (:predicates (p) (q) (g)) (:action n :parameters ()
        :precondition (and (not (and (p) (q))) (g)) :effect (g)))"""
    problem = """(define (problem x) (:domain d) (:objects o - c) (:init (g))
        (:goal (and (not (p)) (not (or (p) (q))))))"""
    text = PROMPTS["natural"].write(read_task(domain, problem))
    assert "- (n): possible if g; (not (and (p) (q)))." in text
    assert "The goal: not: p; (not (or (p) (q)))." in text
    assert "Every c is a a and a b." in text


def test_made_up_names_leave_numbers_and_words_of_pddl_alone() -> None:
    domain = """(define (domain d) (:predicates (problem ?x) (g)) (:functions (total-cost) - number)
        (:action n :parameters (?x) :precondition (problem ?x)
        :effect (and (g) (increase (total-cost) 1))))"""
    problem = """(define (problem x) (:domain d) (:objects 1 minimize o)
        (:init (problem 1) (= (total-cost) 0)) (:goal (g)) (:metric minimize (total-cost)))"""
    task = read_task(domain, problem)
    prompt = PROMPTS["obfuscated"]
    names = prompt.names(task)
    assert "(problem 1)" in prompt.write(task)
    assert prompt.read(task, f"({names['n']} 1)").plan == Plan((("n", "1"),))


@pytest.mark.parametrize("name", ["natural", "validate"])
def test_plain_words_say_which_types_are_kinds_of_others(name: str) -> None:
    domain = """(define (domain d) (:requirements :typing) (:types car tram - vehicle vehicle thing)
    (:predicates (new ?x - thing) (old ?x - vehicle)) (:action age :parameters (?v - vehicle)
    :precondition (new ?v) :effect (old ?v)))"""
    problem = """(define (problem p) (:domain d) (:objects a - car) (:init (new a))
    (:goal (old a)))"""
    task = read_task(domain.replace("vehicle thing", "vehicle vehicle - thing thing"), problem)
    said = PROMPTS[name].write(task)
    told = "Every car is a vehicle; every tram is a vehicle; every vehicle is a thing."
    assert f"There are: a (car).\n{told}\n" in said
    older = next(one for one in READABLE.values() if one.name == name)
    assert told not in older.write(task)


def test_a_name_that_the_prompt_does_not_show_stands_for_nothing() -> None:
    """A model that knows the domain by heart is not asked for that; nor is one that guesses."""
    task, plan = generate("blocksworld", size=4, horizon=3, seed=0)
    prompt = PROMPTS["obfuscated"]
    assert "blocksworld" not in prompt.write(task)
    own = prompt.names(task)
    known = Plan(tuple((name, *(own[word] for word in rest)) for name, *rest in plan.actions))
    read = prompt.read(task, str(known)).plan
    assert read is not None
    assert Checker(task).check(read).outcome is Outcome.UNKNOWN_ACTION
    problem = print_problem(rename(task.problem, {"b1": "zz"}))
    renamed = read_task(task.domain.text, problem)
    shown = PROMPTS["compact"].names(renamed)
    assert "zz" in shown
    read = PROMPTS["compact"].read(renamed, "(pickup zz)\n").plan
    assert read is not None
    assert Checker(renamed).check(read).outcome is Outcome.UNKNOWN_OBJECT


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_can_be_answered_in_every_domain(name: str, domain: str) -> None:
    entry, prompt = DOMAINS[domain], PROMPTS[name]
    found = entry.solved_example(entry.smallest + 2, 3, Random(1))
    assert found is not None
    task = read_task(entry.text, print_problem(found[0]))
    text, names = prompt.write(task), prompt.names(task)
    answer = Plan(tuple(tuple(names.get(w, w) for w in a) for a in found[1].actions))
    for completion in (str(answer), f"Well.\n<plan>\n{answer}</plan>"):
        plan = prompt.read(task, completion).plan
        assert plan == found[1]
        assert Checker(task).check(plan).valid
    if name == "obfuscated":
        own = {n for n, _ in task.problem.objects} | set(task.domain.actions)
        own |= set(task.domain.predicates)
        assert not own & set(
            re.findall(r"[^\s()]+", text.split("Find a plan")[0].replace("problem in it", ""))
        )


def test_rename_and_shuffle_keep_the_content() -> None:
    there, back = {"b1": "b7", "b2": "b1"}, {"b7": "b1", "b1": "b2"}
    assert rename(rename(TINY, there), back) == TINY
    mixed = shuffle(TINY, Random(1))
    assert set(mixed.init) == set(TINY.init)
    assert set(mixed.goal) == set(TINY.goal)


TWO = "(pickup b1)\n(stack b1 b2)\n"
BOTH = (("pickup", "b1"), ("stack", "b1", "b2"))


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("(pickup b1)\n(stack b1 b2)\n", (("pickup", "b1"), ("stack", "b1", "b2"))),
        (
            "<think>(fly b9)</think>(PICKUP B1) ; first\n; cost = 1 (unit cost)\n",
            (("pickup", "b1"),),
        ),
        ("; nothing to do\n", ()),
        (
            "(pickup b1) (stack b1 b2)(pickup b3)",
            (("pickup", "b1"), ("stack", "b1", "b2"), ("pickup", "b3")),
        ),
        ("((pickup b1) (stack b1 b2))", BOTH),
        ("```pddl\n(pickup b1)\n```\n", (("pickup", "b1"),)),
        (
            "0: (pickup b1) [1]\r\n1.5: (stack b1 b2) [1] ; end\r\n",
            (("pickup", "b1"), ("stack", "b1", "b2")),
        ),
        ("(pickup \u0430)", (("pickup", "\u0430"),)),
        ("(pickup \x00)", (("pickup", "\x00"),)),
        ("1: (pickup b1)\n0: (stack b1 b2)", None),
        ("plan: (pickup b1)", (("pickup", "b1"),)),
        ("(pickup b1)\nand then (stack b1 b2)", None),
        ("(pickup b1 ; half\n)", None),
        ("", None),
        ("pickup b1", None),
        ("(pickup b1) (stack b1 b2", None),
        ("()", None),
        ("(pickup (b1))", None),
        ("Sure! Here is the plan", None),
        ("<think>never (ends b1)\n(pickup b1)", None),
        # found in what stands around it
        (f"Sure!\n\n```pddl\n{TWO}```\nDone (in two steps).", BOTH),
        (f"Draft: (fly b1)\n<plan>\n{TWO}</plan> It works.", BOTH),
        (f"[PLAN]\n{TWO}[PLAN END]", BOTH),
        ("The plan:\n1. (PICKUP B1)\n2. (STACK B1 B2) ; on top\n\nGood luck", BOTH),
        ("The plan:\n- (pickup b1)\n\n- (stack b1 b2)", BOTH),
        ("Step 1: (pickup b1)\nStep 2: `(stack b1 b2)`", BOTH),
        ("* **(pickup b1)**\n* **(stack b1 b2)**\n", BOTH),
        (f"```\n{TWO}```\nagain:\n```\n{TWO}```", BOTH),
        (f"Let me think.\n{TWO}That is all.", BOTH),
        (f"<Reasoning>(fly b9)</Reasoning>\n{TWO}", BOTH),
        (f"{TWO}\nWhy:\n- pickup comes first\n", BOTH),
        ("1. (pickup b1)\n1. (stack b1 b2)", BOTH),
        ("1. (pickup b1)\n(stack b1 b2)\nDone.", BOTH),
        (f"```\n{TWO}```\n\n```\n{TWO}```", BOTH),
        (f"```\n{TWO}", BOTH),
        ("```\n1. (pickup b1)\n2. (stack b1 b2)\n```", BOTH),
        # ambiguous or broken
        (f"```\n{TWO}```\nor\n```\n(pickup b2)\n```", None),
        (f"First\n(pickup b2)\nno, rather\n{TWO}", None),
        ("Go:\n(pickup b1)\nand (stack b1 b2", None),
        ("Go:\n(pickup b1)\n(unstack(unstack b2)\n(stack b1 b2)", None),
        ("```\nI give up\n```\n(pickup b1)", None),
        ("<plan></plan>\n(pickup b1)", None),
        (f"```\n{TWO}```\n\n```\n(pickup b2)\n```", None),
        (f"Draft:\n```\n(pickup b2)\n```\nThat fails. Better:\n```\n{TWO}", None),
        (f"<plan>(pickup b2)</plan>\nNo:\n<plan>\n{TWO}", None),
        ("1. (pickup b1)\n2. (stack b1 b2)\n\n1. (pickup b2)\n2. (stack b2 b1)", None),
        ("2. (stack b1 b2)\n1. (pickup b1)", None),
        (f"<thinking>\n{TWO}</thinking>\nI found no plan.", None),
        (f"<THINK>\n{TWO}", None),
        ("(pickup b1)\nFinally ( stack b1 b2 )", None),
        ("1. (pickup b1)\n2. stack b1 b2", None),
    ],
)
def test_extraction(text: str, actions: tuple[tuple[str, ...], ...] | None) -> None:
    found = extract(text, {"pickup", "putdown", "stack", "unstack"})
    assert found.plan == (None if actions is None else Plan(actions))
    assert bool(found.reason) == (actions is None)
