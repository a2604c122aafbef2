"""States drawn with characters: towers of blocks, and grids that robots move on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import zip_longest

from planners.errors import InvalidInput
from planners.pddl.literals import goal_atoms
from planners.pddl.reader import Task
from planners.records import Atom

STEPS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
Cell = tuple[int, int]
"""Column and row; row numbers grow downwards."""


def draw(task: Task, state: Collection[Atom]) -> str:
    """A picture of a state, or "" for a domain that cannot be drawn."""
    if is_blocks(task):
        return towers(state)
    cells = layout(state)
    return grid(cells, marks_on(task, state)) if cells else ""


def is_blocks(task: Task) -> bool:
    """Whether it is a world of blocks: by predicates and arities, since its domain may have any
    name.
    """
    predicates = task.domain.predicates
    return (len(predicates.get("on", ())), len(predicates.get("on-table", ()))) == (2, 1)


def marks_on(task: Task, state: Collection[Atom]) -> dict[str, str]:
    """Marks of a grid's places: one character for whatever is there."""
    predicates = task.domain.predicates
    pushed = len(predicates.get("at", ())) == 2 and len(predicates.get("at-robot", ())) == 1
    return sokoban(task, state) if pushed else floortile(state)


def towers(state: Collection[Atom]) -> str:
    """Towers of blocks side by side, with the block that the arm holds above them."""
    columns = stacks(state)
    width = max((len(block) for tower in columns for block in tower), default=1)
    rows = list(zip_longest(*columns, fillvalue=""))[::-1]
    lines = [" ".join(block.center(width) for block in row).rstrip() for row in rows]
    held = [f"held: {rest[0]}" for name, *rest in state if name == "holding" and rest]
    ground = "-" * (len(columns) * (width + 1) - 1)
    return "\n".join([*held, *lines, ground])


def stacks(state: Collection[Atom]) -> list[list[str]]:
    """Towers of blocks from the bottom up, sorted by their lowest."""
    above = {rest[1]: rest[0] for name, *rest in state if name == "on"}
    found = []
    for bottom in sorted(rest[0] for name, *rest in state if name == "on-table"):
        tower = [bottom]
        while tower[-1] in above:
            tower.append(above.pop(tower[-1]))  # pop: a block on top of itself must not loop
        found.append(tower)
    return found


def layout(state: Collection[Atom]) -> dict[str, Cell]:
    """Cells of a grid's places, from the facts that say which place is up, down, left, right."""
    beside: dict[str, list[tuple[str, Cell]]] = {}
    for name, *rest in state:
        if name == "adjacent" and len(rest) == 3 and rest[2] in STEPS:
            beside.setdefault(rest[0], []).append((rest[1], STEPS[rest[2]]))
        elif name in STEPS and len(rest) == 2:
            beside.setdefault(rest[1], []).append((rest[0], STEPS[name]))
    found: dict[str, Cell] = {}
    for start in sorted(beside):
        if start in found:
            continue
        # A part that is not connected to the others is drawn to the right of them.
        right = max((x for x, _ in found.values()), default=-2) + 2
        found[start] = (right, 0)
        waiting = [start]
        while waiting:
            place = waiting.pop()
            x, y = found[place]
            for other, (dx, dy) in beside.get(place, []):
                if other not in found:
                    found[other] = (x + dx, y + dy)
                    waiting.append(other)
    return found


def sokoban(task: Task, state: Collection[Atom]) -> dict[str, str]:
    """Marks of Sokoban: robot `@`, box `$`, goal `.`, box on a goal `*`, robot on a goal `+`."""
    wanted = set[str]()
    with suppress(InvalidInput):  # a goal of more than atoms has no marks
        wanted = {rest[1] for name, *rest in goal_atoms(task.problem.goal) if name == "at"}
    boxes = {rest[1] for name, *rest in state if name == "at"}
    marks = dict.fromkeys(wanted, ".") | {box: "*" if box in wanted else "$" for box in boxes}
    robots = {rest[0] for name, *rest in state if name == "at-robot"}
    return marks | {robot: "+" if robot in wanted else "@" for robot in robots}


def floortile(state: Collection[Atom]) -> dict[str, str]:
    """Marks of Floortile: robots `@`, painted tiles the first letter of their colour."""
    two = [(name, rest) for name, *rest in state if len(rest) == 2]
    marks = {rest[0]: rest[1][0] for name, rest in two if name == "painted"}
    return marks | {rest[1]: "@" for name, rest in two if name == "robot-at"}


def grid(cells: Mapping[str, Cell], marks: Mapping[str, str]) -> str:
    """A grid with its marks: `·` for a place without a mark, `#` where there is no place."""
    at = {cell: marks.get(place, "·") for place, cell in cells.items()}
    columns, rows = ([cell[i] for cell in at] for i in (0, 1))
    return "\n".join(
        "".join(at.get((x, y), "#") for x in range(min(columns), max(columns) + 1))
        for y in range(min(rows), max(rows) + 1)
    )
