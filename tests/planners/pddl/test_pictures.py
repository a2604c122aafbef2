"""Pictures of states: what is where, for every domain that has one."""

from random import Random

import pytest

from planners.checking.replay import Replay
from planners.domains import DOMAINS
from planners.pddl import Task, read_task
from planners.pddl.pictures import draw, layout
from planners.pddl.printing import print_problem

TOWER = """(define (problem p) (:domain blocksworld) (:objects a b c d)
(:init (holding d) (clear a) (clear c) (on-table b) (on-table c) (on a b)) (:goal (on a b)))"""
PUSH = """(define (problem p) (:domain sokoban)
(:objects x0 x1 x2 y1 - location k - box)
(:init (at-robot x0) (at k x1) (clear x2) (clear y1)
  (adjacent x0 x1 right) (adjacent x1 x0 left) (adjacent x1 x2 right) (adjacent x2 x1 left)
  (adjacent x1 y1 down) (adjacent y1 x1 up))
(:goal (at k x2)))"""
PAINT = """(define (problem p) (:domain floortile)
(:objects t1 t2 - tile r - robot red - color)
(:init (up t2 t1) (down t1 t2) (robot-at r t1) (robot-has r red) (available-color red)
  (painted t2 red)) (:goal (painted t2 red)))"""


def task(domain: str, problem: str) -> Task:
    return read_task(DOMAINS[domain].text, problem)


def test_towers() -> None:
    of = task("blocksworld", TOWER)
    assert draw(of, of.problem.init) == "held: d\na\nb c\n---"


def test_a_push_on_a_grid() -> None:
    of = task("sokoban", PUSH)
    run = Replay(of)
    assert draw(of, run.state) == "@$.\n#·#"
    assert run.step("push", "x0", "x1", "x2", "right", "k") is None
    assert draw(of, run.state) == "·@*\n#·#"


def test_painted_tiles() -> None:
    of = task("floortile", PAINT)
    assert draw(of, of.problem.init) == "r\n@"


def test_what_is_no_grid_and_no_tower_has_no_picture_or_an_end() -> None:
    of = task("blocksworld", TOWER)
    nonsense = {("on-table", "a"), ("on", "b", "a"), ("on", "a", "b")}
    assert draw(of, nonsense).splitlines()[-1] == "-"
    roads = """(define (domain roads) (:predicates (adjacent ?a ?b) (at ?a))
    (:action go :parameters (?a ?b)
        :precondition (and (at ?a) (adjacent ?a ?b)) :effect (at ?b)))"""
    there = """(define (problem p) (:domain roads) (:objects x y)
    (:init (at x) (adjacent x y)) (:goal (at y)))"""
    assert draw(read_task(roads, there), read_task(roads, there).problem.init) == ""


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_generated_task_is_drawn_or_has_no_picture(domain: str) -> None:
    problem = None
    rng = Random(0)
    while problem is None:
        problem = DOMAINS[domain].generate(4, 3, rng)
    of = task(domain, print_problem(problem))
    picture = draw(of, of.problem.init)
    assert bool(picture) == (domain in ("blocksworld", "sokoban", "floortile"))
    if domain == "blocksworld":
        assert all(name in picture for name, _ in of.problem.objects)
    elif picture:
        cells = layout(of.problem.init)
        assert len(set(cells.values())) == len(cells), "no two places on one cell"
        assert sum(mark != "#" for mark in picture.replace("\n", "")) == len(cells)
