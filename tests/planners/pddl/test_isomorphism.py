"""Symmetries of a task's map, and which constants are objects like any other."""

from itertools import permutations, product
from random import Random

import pytest

from planners.domains.task_sets import generate
from planners.pddl import Task, read_domain, read_task
from planners.pddl.isomorphism import fixed, shape, symmetries
from planners.pddl.reader import changing
from planners.pddl.renaming import rename

NAMED = """(define (domain d) (:requirements :strips :typing) (:types cell way)
  (:constants north south - way)
  (:predicates (at ?c - cell) (road ?a ?b - cell ?w - way))
  (:action go :parameters (?a ?b - cell ?w - way)
    :precondition (and (at ?a) (road ?a ?b {way})) :effect (and (at ?b) (not (at ?a)))))"""
TWO = """(define (problem p) (:domain d) (:objects x y - cell)
  (:init (at x) (road x y {way}) (road y x {back})) (:goal (at y)))"""


def every_symmetry(task: Task) -> set[frozenset[tuple[str, str]]]:
    """All symmetries, by trying every permutation within a type: the oracle."""
    changed = changing(task.domain)
    static = {fact for fact in task.problem.init if fact[0] not in changed}
    names = {name for fact in static for name in fact[1:]}
    kinds: dict[str, list[str]] = {}
    for name, kind in task.problem.objects:
        if name in names:
            kinds.setdefault(kind, []).append(name)
    found = set()
    for images in product(*(permutations(group) for group in kinds.values())):
        mapped = {
            name: image
            for group, image_of in zip(kinds.values(), images, strict=True)
            for name, image in zip(group, image_of, strict=True)
        }
        still = all(mapped[name] == name for name in fixed(task.domain) & names)
        if still and {(f[0], *(mapped[n] for n in f[1:])) for f in static} == static:
            found.add(frozenset(mapped.items()))
    return found


@pytest.mark.parametrize("domain", ["transport", "childsnack", "miconic", "satellite", "rovers"])
@pytest.mark.parametrize("seed", range(5))
def test_every_symmetry_of_a_small_task_is_found(domain: str, seed: int) -> None:
    task, _ = generate(domain, 3, 2, seed)
    assert {frozenset(one.items()) for one in symmetries(task)} == every_symmetry(task)


@pytest.mark.parametrize("side", [4, 5, 6])
def test_a_square_room_has_eight_symmetries_and_the_first_changes_nothing(side: int) -> None:
    task, _ = generate("sokoban", side, 3)
    found = symmetries(task)
    assert len(found) == 8
    assert all(name == image for name, image in found[0].items())


def test_a_metric_and_the_names_of_functions_are_of_the_shape() -> None:
    """A function may be called like an object; what is to be maximized makes another task."""
    domain = """(define (domain d) (:functions (f ?o) (b ?o)) (:predicates (p ?o))
        (:action go :parameters (?o) :precondition (p ?o) :effect (increase (f ?o) 1)))"""

    def posed(first: str, second: str, metric: str = "") -> Task:
        return read_task(
            domain,
            f"""(define (problem x) (:domain d) (:objects {first} {second})
            (:init (p {first}) (= (f {first}) 0) (= (f {second}) 1)) (:goal (> (f {second}) 2))
            {metric})""",
        )

    assert shape(posed("f", "b")) == shape(posed("c", "b")) == shape(posed("c", "d"))
    renamed = rename(posed("f", "b").problem, {"f": "z"})
    assert renamed.goal == posed("z", "b").problem.goal
    one = posed("c", "d", "(:metric minimize (f c))")
    assert shape(one) == shape(posed("e", "g", "(:metric minimize (f e))"))
    for other in ("(:metric maximize (f c))", "(:metric minimize (f d))", ""):
        assert shape(posed("c", "d", other)) != shape(one)


def test_the_mirror_image_of_a_task_has_its_shape() -> None:
    for seed in range(10):
        task, _ = generate("sokoban", 4, 3, seed)
        mapped = Random(seed).choice(symmetries(task)[1:])
        mirrored = Task(
            task.domain, rename(task.problem, mapped), task.values, task.metric, "other"
        )
        assert shape(mirrored) == shape(task)
        assert mirrored.problem != task.problem


def test_a_constant_that_an_action_names_stands_for_itself() -> None:
    free, named = NAMED.format(way="?w"), NAMED.format(way="north")
    there, back = TWO.format(way="north", back="south"), TWO.format(way="south", back="north")
    assert fixed(read_domain(free)) == frozenset()
    assert fixed(read_domain(named)) == {"north"}
    assert shape(read_task(free, there)) == shape(read_task(free, back))
    assert shape(read_task(named, there)) != shape(read_task(named, back))
    assert len(symmetries(read_task(free, there))) == 2
    assert len(symmetries(read_task(named, there))) == 1


def test_a_task_without_static_facts_has_no_symmetry_but_one() -> None:
    assert symmetries(generate("blocksworld", 4, 2)[0]) == ({},)


@pytest.mark.parametrize("goal", ["(and (at y))", "(and (at y) (at y))", "(and (and (at y)))"])
def test_a_goal_written_otherwise_is_the_same_task(goal: str) -> None:
    domain = NAMED.format(way="north")
    plain = TWO.format(way="north", back="south")
    other = plain.replace("(:goal (at y))", f"(:goal {goal})")
    assert shape(read_task(domain, plain)) == shape(read_task(domain, other))


WISH = "(or (at x) (exists (?c - cell) (and (at ?c) (not (road ?c x north)))))"


@pytest.mark.parametrize(
    ("goal", "same"),
    [
        ("(or (exists (?c - cell) (and (not (road ?c x north)) (at ?c))) (at x))", True),
        ("(or (at x) (or (exists (?d - cell) (and (at ?d) (not (road ?d x north))))))", True),
        ("(not (and (not (at x)) (forall (?c - cell) (imply (at ?c) (road ?c x north)))))", True),
        ("(or (at y) (exists (?c - cell) (and (at ?c) (not (road ?c y north)))))", True),
        (
            "(or (or (at x) (at x)) (exists (?c - cell) (not (imply (at ?c) (road ?c x north)))))",
            True,
        ),
        ("(or (at y) (exists (?c - cell) (and (at ?c) (not (road ?c x north)))))", False),
        ("(or (at x) (exists (?c - cell) (and (at ?c) (road ?c x north))))", False),
        ("(or (at x) (forall (?c - cell) (and (at ?c) (not (road ?c x north)))))", False),
        ("(and (at x) (exists (?c - cell) (and (at ?c) (not (road ?c x north)))))", False),
        ("(or (at x) (exists (?c - way) (and (at x) (not (road x x ?c)))))", False),
    ],
)
def test_a_goal_with_connectives_is_compared_by_what_it_asks(goal: str, same: bool) -> None:
    domain = NAMED.format(way="north").replace(":typing", ":adl")
    alike = TWO.format(way="north", back="north").replace("(at x)", "(at x) (at y)")
    one, other = (alike.replace("(:goal (at y))", f"(:goal {asked})") for asked in (WISH, goal))
    assert (shape(read_task(domain, one)) == shape(read_task(domain, other))) is same
