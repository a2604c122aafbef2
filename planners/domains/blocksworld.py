"""Blocksworld: towers of cubes, one arm (the predicates and actions of the IPC 2023 learning
track).

A state maps each block to what it stands on; `None` is the table. A move takes a clear block to
another clear block or to the table and is two actions long. Tasks are graded by *size* (blocks)
and *horizon* (moves of an optimal plan, proved by `lower_bound`).
"""

from __future__ import annotations

from random import Random

from planners.records import Action, Atom, Plan, Problem

State = dict[str, str | None]
Move = tuple[str, str | None]


def random_state(blocks: list[str], rng: Random) -> State:
    """Stack the blocks in random order, each on the table or on a random clear block."""
    state: State = {}
    clear: list[str] = []
    for block in rng.sample(blocks, len(blocks)):
        spot = rng.randrange(len(clear) + 1)
        state[block] = None if spot == len(clear) else clear.pop(spot)
        clear.append(block)
    return state


def clear_blocks(state: State) -> list[str]:
    """Blocks with nothing on them, in the order of the state."""
    covered = set(state.values())
    return [block for block in state if block not in covered]


def moves(state: State) -> list[Move]:
    """Every move that changes the state."""
    clear = clear_blocks(state)
    found: list[Move] = []
    for block in clear:
        if state[block] is not None:
            found.append((block, None))
        found.extend((block, target) for target in clear if target != block)
    return found


def below(state: State, block: str) -> list[str]:
    """What is under a block, from the top down."""
    chain: list[str] = []
    support = state[block]
    while support is not None:
        chain.append(support)
        support = state[support]
    return chain


def lower_bound(state: State, goal: State) -> int:
    """Moves that any plan needs: one for each block out of place, two where it is in its own way.

    A block is in place when everything from it down to the table is as in the goal. A block out of
    place that stands, now and in the goal, above a block that must itself move has to leave before
    that one moves and return after it: two moves.
    """
    chains = {block: below(state, block) for block in state}
    wanted = {block: below(goal, block) for block in state}
    misplaced = {block for block in state if chains[block] != wanted[block]}
    twice = sum(
        1
        for block in misplaced
        if misplaced.intersection(chains[block]).intersection(wanted[block])
    )
    return len(misplaced) + twice


def walk(state: State, length: int, rng: Random) -> tuple[State, list[Move]]:
    """A random walk of `length` moves that never touches the block it has just moved."""
    state, path, last = dict(state), [], None
    for _ in range(length):
        options = [move for move in moves(state) if move[0] != last]
        if not options:
            break
        block, target = rng.choice(options)
        state[block], last = target, block
        path.append((block, target))
    return state, path


def plan_of(state: State, path: list[Move]) -> Plan:
    """The ground actions of a path of moves."""
    state, actions = dict(state), list[Action]()
    for block, target in path:
        support = state[block]
        actions.append(("pickup", block) if support is None else ("unstack", block, support))
        actions.append(("putdown", block) if target is None else ("stack", block, target))
        state[block] = target
    return Plan(tuple(actions))


def facts(state: State) -> list[Atom]:
    """The atoms of a state, without `arm-empty`."""
    atoms: list[Atom] = [("clear", block) for block in clear_blocks(state)]
    for block, support in state.items():
        atoms.append(("on-table", block) if support is None else ("on", block, support))
    return atoms


def state_of(problem: Problem) -> State:
    """Where each block of a problem stands at first; None is the table."""
    state: State = {atom[1]: None for atom in problem.init if atom[0] == "on-table"}
    return state | {atom[1]: atom[2] for atom in problem.init if atom[0] == "on"}


def problem_of(init: State, goal: State | None, rng: Random) -> Problem:
    """The problem record; the facts of both states in random order. Without goal nothing is
    wanted.
    """
    first, last = facts(init), facts(goal) if goal else []
    rng.shuffle(first)
    rng.shuffle(last)
    return Problem(
        domain="blocksworld",
        name=f"blocksworld-{len(init)}",
        objects=tuple((block, "object") for block in sorted(init, key=lambda b: (len(b), b))),
        init=(("arm-empty",), *first),
        goal=("and", *last),
    )


def solved_example(
    size: int, horizon: int, rng: Random, attempts: int = 500
) -> tuple[Problem, Plan] | None:
    """A random problem with `size` blocks whose optimal plan has exactly `horizon` moves, and one.

    None where none was found in `attempts` tries (a horizon out of reach for the size). The plan is
    the walk that made the goal, kept only where the lower bound equals its length: it is optimal.
    """
    blocks = [f"b{i + 1}" for i in range(size)]
    for _ in range(attempts):
        init = random_state(blocks, rng)
        goal, path = walk(init, horizon, rng)
        if len(path) == horizon and lower_bound(init, goal) == horizon:
            return problem_of(init, goal, rng), plan_of(init, path)
    return None
