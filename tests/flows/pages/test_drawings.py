"""Pictures of plans: every piece stands where the state says, and names are only text."""

import json
from random import Random

import pytest

from flows.pages.drawings import MOST_OBJECTS, UNIT, picture
from flows.pages.trace import replayed
from planners.checking.steps import steps
from planners.domains import DOMAINS
from planners.pddl import Task, read_task
from planners.pddl.grounding import Grounded
from planners.pddl.printing import print_problem
from planners.records import Plan
from tests.conftest import blocks_task

PLAN = Plan((("unstack", "b1", "b2"), ("putdown", "b1")))


def states(task: Task, plan: Plan) -> list[frozenset[tuple[str, ...]]]:
    return [frozenset(task.problem.init), *(step.state for step in steps(task, plan))]


def tower() -> Task:
    text = """(define (problem p) (:domain blocksworld) (:objects b1 b2)
    (:init (arm-empty) (clear b1) (on b1 b2) (on-table b2)) (:goal (on-table b1)))"""
    return read_task(DOMAINS["blocksworld"].text, text)


def test_blocks_stand_on_each_other_and_hang_from_the_arm() -> None:
    task = tower()
    drawn = picture(task, states(task, PLAN))
    assert drawn is not None
    before, held, after = json.loads(drawn.frames)
    (x1, y1), (x2, y2) = before
    assert (x1, y2 - y1) == (x2, UNIT), "b1 stands on b2"
    assert held[0][1] == 0, "b1 hangs at the top"
    assert after[0][1] == after[1][1], "both stand on the table"
    assert after[0][0] != after[1][0]
    assert drawn.svg.count('class="piece"') == 2


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_every_domain_is_drawn_and_moves(name: str) -> None:
    entry, rng = DOMAINS[name], Random(1)
    found = None
    while found is None:
        found = entry.generate(4, 2, rng)
    task = read_task(entry.text, print_problem(found))
    seen = 0
    ground = Grounded(task)
    for action in [step for step, _ in ground.successors(ground.init)]:
        drawn = picture(task, states(task, Plan((action.action,))))
        assert drawn is not None, "there is something to see"
        before, after = json.loads(drawn.frames)
        assert len(before) == len(after) == drawn.svg.count('class="piece"')
        seen += before != after
    assert seen, "an action is seen"


def test_names_are_text_and_crowds_are_not_drawn() -> None:
    domain = """(define (domain d) (:predicates (near ?a ?b)) (:action go :parameters (?a ?b)
    :precondition (near ?a ?b) :effect (not (near ?a ?b))))"""
    name = "<script>alert</script>"
    problem = f"""(define (problem p) (:domain d) (:objects {name} b)
    (:init (near {name} b)) (:goal (near b b)))"""
    task = read_task(domain, problem)
    drawn = picture(task, states(task, Plan(())))
    assert drawn is not None
    assert "<script" not in drawn.svg
    assert "&lt;script&gt;alert&lt;/script&gt;" in drawn.svg
    crowd = " ".join(f"o{i}" for i in range(MOST_OBJECTS + 1))
    many = f"(define (problem p) (:domain d) (:objects {crowd}) (:init (near o1 o2)) (:goal (and)))"
    assert picture(read_task(domain, many), [frozenset({("near", "o1", "o2")})]) is None


def test_a_domain_like_blocks_or_a_grid_is_drawn_or_left_out() -> None:
    """Of users' own domains: `holding` of nothing, and goals that are more than atoms."""
    for atoms, init, goal in (
        ("(on ?a ?b) (on-table ?a) (clear ?a)", "(on-table a) (on b a) (holding)", "(on a b)"),
        ("(up ?a ?b)", "(up a b)", "(not (at b))"),
    ):
        domain = f"""(define (domain d) (:predicates {atoms} (at ?a) (holding))
        (:action go :parameters (?a) :precondition (at ?a) :effect (holding)))"""
        problem = f"""(define (problem p) (:domain d) (:objects a b) (:init (at a) {init})
        (:goal {goal}))"""
        moved, drawn, *_ = replayed(read_task(domain, problem), Plan((("go", "a"),)))
        assert len(moved) == 1
        assert (drawn is None) == ("not" in goal)


def test_a_plan_that_ends_early_has_a_frame_less() -> None:
    task = blocks_task(4, 3, seed=0)
    broken = Plan((("pickup", "nothing"), ("pickup", "b1")))
    moved = list(steps(task, broken))
    assert [step.bad is None for step in moved] == [False]
    assert moved[0].state == frozenset(task.problem.init)
