"""Generators of all domains: solvable, graded, reproducible, no task twice under other names."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.checking.replay import Replay
from planners.domains import DOMAINS
from planners.domains.task_sets import TRACES, fresh_tasks, write_tasks
from planners.domains.worlds import WORLDS, open_roads
from planners.errors import InvalidInput
from planners.pddl import Task, read_task
from planners.pddl.grounding import Grounded, reduced
from planners.pddl.isomorphism import require_no_leak, shape
from planners.pddl.printing import print_problem
from planners.pddl.renaming import rename, shuffle
from planners.prompts.extraction import extract
from planners.records import Plan
from tests.planners.walker import Walker

SIZES = {name: (entry.smallest + 2, entry.smallest + 3) for name, entry in DOMAINS.items()}
HORIZONS = (1, 5)


def some_tasks(domain: str, count: int, seed: int = 0) -> list[Task]:
    source = fresh_tasks(domain, SIZES[domain], HORIZONS, Random(seed))
    text = DOMAINS[domain].text
    return [read_task(text, print_problem(task.problem)) for task in islice(source, count)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_task_has_the_plan_that_its_grade_promises(domain: str) -> None:
    entry, rng, found = DOMAINS[domain], Random(domain), 0
    for horizon in (1, 2, 3, 5, 8):
        for _ in range(4):
            example = entry.solved_example(SIZES[domain][1], horizon, rng)
            if example is None:
                continue
            found += 1
            problem, plan = example
            assert len(plan) == horizon * (2 if domain == "blocksworld" else 1)
            checker = Checker(read_task(entry.text, print_problem(problem)))
            assert checker.check(plan).valid
            assert not checker.check(Plan(())).valid
            for index in range(len(plan)):  # no action can be left out alone
                rest = plan.actions[:index] + plan.actions[index + 1 :]
                assert not checker.check(Plan(rest)).valid
    assert found >= 10


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_task_set_has_no_task_twice_and_stays_in_its_bounds(domain: str) -> None:
    source = fresh_tasks(domain, SIZES[domain], HORIZONS, Random(1))
    tasks = list(islice(source, 30))
    assert len({task.shape for task in tasks}) == len({task.key for task in tasks}) == 30
    assert all(SIZES[domain][0] <= task.size <= SIZES[domain][1] for task in tasks)
    assert {task.horizon for task in tasks} <= set(range(1, 6))
    assert len({task.horizon for task in tasks}) > 1


@settings(max_examples=40)
@given(st.sampled_from(sorted(DOMAINS)), st.integers(0, 10**6))
def test_a_shape_forgets_names_and_order_and_nothing_else(domain: str, seed: int) -> None:
    rng = Random(seed)
    [task, other] = some_tasks(domain, 2, seed)
    own = replace(task.problem, objects=task.problem.objects[len(task.domain.constants) :])
    names = [name for name, _ in own.objects]
    renamed = rename(own, dict(zip(names, rng.sample(names, len(names)), strict=True)))
    again = read_task(task.domain.text, print_problem(shuffle(renamed, rng)))
    assert shape(again) == shape(task)
    assert shape(other) != shape(task)
    goals = task.problem.goal[1:]
    if len(goals) > 1:
        fewer = print_problem(replace(own, goal=("and", *goals[1:])))
        assert shape(read_task(task.domain.text, fewer)) != shape(task)


@given(st.integers(3, 9), st.integers(0, 10**6))
def test_all_of_a_town_can_be_reached_though_roads_are_closed(size: int, seed: int) -> None:
    places = [f"l{i + 1}" for i in range(size)]
    roads = open_roads(places, Random(seed))
    town = {place: {place} for place in places}
    for here, there in roads:
        assert int(there[1:]) - int(here[1:]) in (1, 2)
        together = town[here] | town[there]
        town |= dict.fromkeys(together, together)
    assert town["l1"] == set(places)
    assert size - 1 <= len(roads) <= size - 2 + size // 2


def test_a_leak_is_named_with_both_tasks() -> None:
    require_no_leak({"train": [("p1", "a"), ("p2", "a")], "heldout": [("p3", "b")]})
    with pytest.raises(InvalidInput, match="heldout task p3 is train task p1"):
        require_no_leak({"train": [("p1", "a")], "heldout": [("p3", "a")]})


@pytest.mark.parametrize("domain", WORLDS)
def test_ground_actions_are_what_the_lifted_walk_finds(domain: str) -> None:
    for seed in range(3):
        rng = Random(seed)
        [task] = some_tasks(domain, 1, seed)
        grounded, walker = Grounded(task), Walker(task)
        state = grounded.init
        for _ in range(6):
            assert {*grounded.static, *grounded.atoms(state)} == walker.state
            options = [step for step, _ in grounded.successors(state)]
            assert len(options) == len({step.action for step in options})
            assert {step.action for step in options} == set(walker.applicable())
            if not options:
                break
            step = rng.choice(options)
            walker.step(*step.action)
            state = state & ~step.deletes | step.adds


@pytest.mark.parametrize("domain", ["ferry", "sokoban", "transport"])
def test_reduction_keeps_the_goal_and_search_finds_nothing_shorter(domain: str) -> None:
    [task] = some_tasks(domain, 1, seed=4)
    grounded, rng = Grounded(task), Random(0)
    path, state = [], grounded.init
    for _ in range(12):
        step = rng.choice([step for step, _ in grounded.successors(state)])
        path.append(step)
        state = state & ~step.deletes | step.adds
    goal = state & ~grounded.init
    short = reduced(path, grounded.init, goal)
    run = Replay(task)
    assert all(run.step(*step.action) is None for step in short)
    assert set(grounded.atoms(goal)) <= run.state
    best = grounded.shortest(grounded.init, goal, len(short) + 1, 100_000)
    assert best is not None
    assert len(best) <= len(short)
    assert grounded.shortest(grounded.init, goal, len(best), 100_000) is None


def test_written_tasks_are_the_same_bytes_and_never_half_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tasks(tmp_path / name, "ferry", (2, 3), (2, 6), 5, seed=7)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["domain.pddl", "p01.pddl", "p02.pddl", "p03.pddl", "p04.pddl", "p05.pddl"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(InvalidInput, match="not empty"):
        write_tasks(tmp_path / "a", "ferry", (2, 3), (2, 6), 5, seed=7)
    with pytest.raises(InvalidInput, match="no new ferry task"):
        write_tasks(tmp_path / "c", "ferry", (1, 1), (9, 9), 5, seed=7)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("domain", DOMAINS)
def test_written_plans_are_valid_for_their_tasks(domain: str, tmp_path: Path) -> None:
    write_tasks(tmp_path / "t", domain, SIZES[domain], HORIZONS, 4, seed=3, plans=True)
    lines = (tmp_path / "t" / TRACES).read_text().splitlines()
    problems = sorted(path.read_text() for path in (tmp_path / "t").glob("p*.pddl"))
    assert len(lines) == len(problems) == 4
    for line in map(json.loads, lines):
        assert any(line["problem"] in problem for problem in problems)
        checker = Checker(read_task(DOMAINS[line["domain"]].text, line["problem"]))
        plan = extract(line["completion"]).plan
        assert plan is not None
        assert checker.check(plan).valid
