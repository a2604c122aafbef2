"""Blocksworld with one arm: predicates and actions of the IPC 2023 learning track.

A state maps each block to the block it stands on, or to None, the table. A move takes a clear
block to another clear block or to the table, in two actions. Tasks are graded by *size* (blocks)
and *horizon* (moves of an optimal plan, proved by `is_optimal`).
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
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
    """Blocks with no block on them, in the order of the state."""
    covered = set(state.values())
    return [block for block in state if block not in covered]


def walk(state: State, length: int, rng: Random) -> tuple[State, list[Move]]:
    """A random walk of `length` moves that never moves the same block twice in a row.

    Returns the last state and the moves, fewer than `length` if none is possible. For speed, blocks
    are numbers and sets of blocks bit masks: a generator walks hundreds of times for one task.
    """
    names = list(state)
    numbers = {name: number for number, name in enumerate(names)}
    support = [-1 if under is None else numbers[under] for under in state.values()]
    clear = sum(1 << number for number in range(len(names)) if number not in support)
    table = sum(1 << number for number, under in enumerate(support) if under < 0)
    path: list[Move] = []
    others = clear
    for _ in range(length):
        # 1. Count the moves: each of `others` onto any other clear block, or from a block to the
        #    table. Draw one by its position: by block in the state's order, the table first.
        onto = clear.bit_count() - 1
        count = others.bit_count() * (onto + 1) - (others & table).bit_count()
        if not count:
            break
        choice = rng.randrange(count)
        # 2. Find the block and the target of the move at that position.
        for block in _members(others):
            down = support[block] >= 0
            if choice < onto + down:
                break
            choice -= onto + down
        bit, under = 1 << block, support[block]
        target = -1 if down and not choice else _members(clear & ~bit)[choice - down]
        # 3. Apply it: the block's support becomes clear, its target does not stay clear.
        if down:
            clear |= 1 << under
        else:
            table &= ~bit
        if target < 0:
            table |= bit
        else:
            clear &= ~(1 << target)
        support[block], others = target, clear & ~bit
        path.append((names[block], None if target < 0 else names[target]))
    after = {name: None if u < 0 else names[u] for name, u in zip(names, support, strict=True)}
    return after, path


@lru_cache(1 << 14)
def _members(bits: int) -> tuple[int, ...]:
    """The numbers of the bits that are set."""
    return tuple(number for number in range(bits.bit_length()) if bits >> number & 1)


def below(state: State, block: str) -> list[str]:
    """The blocks under a block, from the top down."""
    chain: list[str] = []
    support = state[block]
    while support is not None:
        chain.append(support)
        support = state[support]
    return chain


def is_optimal(init: State, goal: State, path: list[Move]) -> bool:
    """Whether a path between two states is proved to have as few moves as possible.

    The proof is a lower bound. Every plan moves each block that is out of place: the blocks under
    it differ from the goal's. It moves a block twice that in both states stands above the same
    block that must move, since it leaves before that one and returns after. So a path is optimal
    if it moves no block three times, and each block that it moves twice is out of place and above
    a moved block in both states. Blocks moved once are out of place, as a move changes the support.
    """
    times = Counter(block for block, _ in path)
    for block, moves in times.items():
        if moves == 1:
            continue
        first, last = below(init, block), below(goal, block)
        if moves > 2 or first == last or times.keys().isdisjoint(set(first).intersection(last)):
            return False
    return True


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
    """The initial state of a problem."""
    state: State = {atom[1]: None for atom in problem.init if atom[0] == "on-table"}
    return state | {atom[1]: atom[2] for atom in problem.init if atom[0] == "on"}


def problem_of(init: State, goal: State | None, rng: Random) -> Problem:
    """The problem of two states, facts in random order; without a goal state its goal is empty."""
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
    """A random problem with `size` blocks and an optimal plan of exactly `horizon` moves.

    None if `attempts` tries found none, as with a horizon out of reach for the size. The plan is
    the walk that made the goal, used only if it is known to be optimal.
    """
    blocks = [f"b{i + 1}" for i in range(size)]
    for _ in range(attempts):
        init = random_state(blocks, rng)
        goal, path = walk(init, horizon, rng)
        if len(path) == horizon and is_optimal(init, goal, path):
            return problem_of(init, goal, rng), plan_of(init, path)
    return None
