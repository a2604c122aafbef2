"""The Blocksworld generator: grades that are proved, the same seed the same task."""

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.domains import blocksworld as bw
from planners.pddl import read_task
from planners.pddl.printing import print_problem


def moves(state: bw.State) -> list[bw.Move]:
    """Every move that changes the state, by block, to the table first."""
    clear, found = bw.clear_blocks(state), list[bw.Move]()
    for block in clear:
        found += [(block, None)] if state[block] is not None else []
        found += [(block, target) for target in clear if target != block]
    return found


def lower_bound(state: bw.State, goal: bw.State) -> int:
    """Moves that any plan needs: one for each block out of place, two where it is in its own way.

    A block out of place that stands, now and in the goal, above another one out of place has to
    leave before that one moves and return after it.
    """
    chains = {block: bw.below(state, block) for block in state}
    wanted = {block: bw.below(goal, block) for block in state}
    misplaced = {block for block in state if chains[block] != wanted[block]}
    return len(misplaced) + sum(
        bool(misplaced.intersection(chains[block]).intersection(wanted[block]))
        for block in misplaced
    )


def distance(start: bw.State, goal: bw.State) -> int:
    """Moves of an optimal plan, by breadth-first search."""
    wanted = tuple(sorted(goal.items(), key=str))
    seen = {tuple(sorted(start.items(), key=str))}
    queue = deque([(start, 0)])
    while queue:
        state, steps = queue.popleft()
        if tuple(sorted(state.items(), key=str)) == wanted:
            return steps
        for block, target in moves(state):
            after = {**state, block: target}
            key = tuple(sorted(after.items(), key=str))
            if key not in seen:
                seen.add(key)
                queue.append((after, steps + 1))
    raise AssertionError("every Blocksworld goal can be reached")


@given(st.integers(2, 4), st.integers(0, 10_000))
def test_lower_bound_never_exceeds_the_distance(size: int, seed: int) -> None:
    rng = Random(seed)
    blocks = [f"b{i}" for i in range(size)]
    start, goal = bw.random_state(blocks, rng), bw.random_state(blocks, rng)
    assert lower_bound(start, goal) <= distance(start, goal)


@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 10_000))
def test_a_walk_draws_from_all_moves_and_is_optimal_where_the_bound_says_so(
    size: int, length: int, seed: int
) -> None:
    rng = Random(seed)
    start = bw.random_state([f"b{i}" for i in range(size)], rng)
    own, state, path, last = Random(seed), dict(start), list[bw.Move](), ""
    for _ in range(length):
        if options := [move for move in moves(state) if move[0] != last]:
            last, target = own.choice(options)
            state[last] = target
            path.append((last, target))
    assert bw.walk(start, length, Random(seed)) == (state, path)
    assert bw.is_optimal(start, state, path) == (lower_bound(start, state) == len(path))


@given(st.integers(3, 5), st.integers(1, 4), st.integers(0, 10_000))
def test_the_plan_that_comes_with_a_task_is_valid_and_as_long_as_graded(
    size: int, horizon: int, seed: int
) -> None:
    found = bw.solved_example(size, horizon, Random(seed))
    if found is None:
        return
    problem, plan = found
    checker = Checker(read_task(DOMAINS["blocksworld"].text, print_problem(problem)))
    assert checker.check(plan).valid
    assert len(plan) == 2 * horizon
    assert len(problem.objects) == size


@pytest.mark.parametrize("name", DOMAINS)
def test_same_seed_same_task(name: str) -> None:
    generate = DOMAINS[name].generate
    first, second, other = (generate(5, 2, Random(seed)) for seed in (1, 1, 2))
    assert first == second != other


def test_an_impossible_grade_is_none() -> None:
    assert bw.solved_example(3, 9, Random(0), attempts=50) is None
