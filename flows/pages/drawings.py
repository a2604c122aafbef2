"""A plan as a moving picture: towers of blocks, grids, and elsewhere a graph of facts.

A picture is one SVG whose pieces have places, and a frame for each state: where every piece is, and
which are seen. A script on the page moves them; without it the first frame stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from planners.pddl import Task
from planners.pddl.literals import goal_atoms
from planners.pddl.pictures import Cell, is_blocks, layout, stacks
from planners.records import Atom

State = Collection[Atom]
Spot = tuple[float, float] | None
"""Where a piece is; None where it is not seen."""
UNIT = 40
"""Width of a block and of a cell."""
MOST_OBJECTS = 40
"""Objects beyond which a graph of facts cannot be read."""
MOST_FRAMES = 400
"""States that are drawn at most."""
COLOURS = 6


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG, and its frames as JSON: for each state the place of each piece."""

    svg: Markup
    frames: str


def picture(task: Task, states: Sequence[State]) -> Picture | None:
    """The states of a plan as a picture; None where there is nothing that can be drawn."""
    states = states[:MOST_FRAMES]
    if is_blocks(task):
        return _blocks(task, states)
    cells = layout(states[0])
    return _grid(task, cells, states) if cells else _graph(task, states)


def _blocks(task: Task, states: Sequence[State]) -> Picture:
    """Each tower stands at the place of its lowest block; a held block hangs above its own."""
    blocks = [name for name, _ in task.problem.objects]
    home = {block: number for number, block in enumerate(blocks)}
    top = max((len(tower) for state in states for tower in stacks(state)), default=1) + 1.5
    frames = []
    for state in states:
        at: dict[str, Spot] = {}
        for tower in stacks(state):
            for level, block in enumerate(tower, 1):
                at[block] = (home.get(tower[0], 0) * (UNIT + 6), (top - level) * UNIT)
        held = [rest[0] for name, *rest in state if name == "holding" and rest]
        at |= {block: (home.get(block, 0) * (UNIT + 6), 0.0) for block in held}
        frames.append([at.get(block) for block in blocks])
    pieces = [_box(block, number) for number, block in enumerate(blocks)]
    width = max(1, len(blocks)) * (UNIT + 6)
    ground = Markup('<line class="ground" x1="0" y1="{0}" x2="{1}" y2="{0}"/>').format(
        top * UNIT, width
    )
    return _assembled(width, top * UNIT + 4, [ground], pieces, frames)


def _grid(task: Task, cells: dict[str, Cell], states: Sequence[State]) -> Picture:
    """Places as squares; robots, boxes and paint as pieces on them."""
    left, high = (min(cell[i] for cell in cells.values()) for i in (0, 1))
    at = {name: ((x - left) * UNIT, (y - high) * UNIT) for name, (x, y) in cells.items()}
    wanted = {rest[-1] for _, *rest in goal_atoms(task.problem.goal) if rest and rest[-1] in at}
    ground = [
        Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
        .format("cell goal" if name in wanted else "cell", x, y, UNIT, UNIT, name)
        for name, (x, y) in at.items()
    ]  # fmt: skip
    placed: dict[Atom, Spot] = {}
    seen: list[dict[Atom, Spot]] = []
    for state in states:
        now: dict[Atom, Spot] = {}
        for name, *rest in sorted(state):
            place = next((word for word in reversed(rest) if word in at), None)
            if place is None or name in STATIC or name == "clear":
                continue
            who = next((word for word in rest if word not in at), name)
            # What is painted stays where it is; what moves is one piece wherever it is.
            piece = (who,) if rest[-1] == place else (who, place)
            now[piece] = at[place]
        placed |= now
        seen.append(now)
    pieces = [_disc(piece[0], number) for number, piece in enumerate(placed)]
    frames = [[now.get(piece) for piece in placed] for now in seen]
    width = max(x for x, _ in at.values()) + UNIT
    height = max(y for _, y in at.values()) + UNIT
    return _assembled(width, height, ground, pieces, frames)


STATIC = frozenset(("up", "down", "left", "right", "adjacent"))
"""Predicates that say how places lie to each other."""


def _graph(task: Task, states: Sequence[State]) -> Picture | None:
    """Objects on a circle, facts about two of them as lines, facts about one as words below it."""
    objects = [name for name, _ in task.problem.objects]
    facts = list(dict.fromkeys(atom for state in states for atom in sorted(state)))
    pairs = [atom for atom in facts if len(atom) >= 3 and set(atom[1:3]) <= set(objects)]
    single = [atom for atom in facts if len(atom) == 2 and atom[1] in objects]
    if not objects or len(objects) > MOST_OBJECTS or not pairs:
        return None
    radius = max(130, len(objects) * 17)
    turn = 2 * math.pi / len(objects)
    at = {
        name: (radius * (1 + math.sin(i * turn)) + 80, radius * (1 - math.cos(i * turn)) + 30)
        for i, name in enumerate(objects)
    }
    always = set(states[0]).intersection(*map(set, states))
    lines = [_line(atom, at, atom in always) for atom in pairs]
    words = [
        Markup('<text class="fact" x="{:.0f}" y="{:.0f}">{}</text>').format(
            at[atom[1]][0], at[atom[1]][1] + 20 + 11 * _row(atom, single), atom[0]
        )
        for atom in single
    ]
    nodes = [
        Markup('<text class="node" x="{:.0f}" y="{:.0f}">{}</text>').format(x, y + 4, name)
        for name, (x, y) in at.items()
    ]
    shown = [*pairs, *single]
    frames = [[(0.0, 0.0) if atom in set(state) else None for atom in shown] for state in states]
    side = 2 * radius + 60
    return _assembled(side + 100, side + 30, nodes, [*lines, *words], frames)


def _row(atom: Atom, single: Sequence[Atom]) -> int:
    return [one for one in single if one[1] == atom[1]].index(atom)


def _line(atom: Atom, at: dict[str, tuple[float, float]], always: bool) -> Markup:
    (x1, y1), (x2, y2) = at[atom[1]], at[atom[2]]
    label = " ".join(atom)
    return Markup(
        '<g class="{}"><line x1="{:.0f}" y1="{:.0f}" x2="{:.0f}" y2="{:.0f}"/>'
        '<text x="{:.0f}" y="{:.0f}">{}</text><title>{}</title></g>'
    ).format("edge always" if always else "edge", x1, y1, x2, y2,
             (x1 + x2) / 2, (y1 + y2) / 2, "" if always else atom[0], label)  # fmt: skip


def _box(name: str, number: int) -> Markup:
    return Markup(
        '<rect class="c{}" width="{}" height="{}" rx="4"/><text x="{}" y="{}" '
        'textLength="{}" lengthAdjust="spacingAndGlyphs">{}</text>'
    ).format(number % COLOURS, UNIT, UNIT - 2, UNIT / 2, UNIT / 2 + 5,
             min(UNIT - 6, 9 * len(name)), name)  # fmt: skip


def _disc(name: str, number: int) -> Markup:
    return Markup(
        '<circle class="c{}" cx="{}" cy="{}" r="{}"/><text x="{}" y="{}" '
        'textLength="{}" lengthAdjust="spacingAndGlyphs">{}</text>'
    ).format(number % COLOURS, UNIT / 2, UNIT / 2, UNIT / 2 - 4, UNIT / 2, UNIT / 2 + 5,
             min(UNIT - 14, 9 * len(name)), name)  # fmt: skip


def _assembled(
    width: float, height: float, ground: Iterable[Markup], pieces: Iterable[Markup],
    frames: Sequence[Sequence[Spot]],
) -> Picture:  # fmt: skip
    drawn = Markup("").join(ground)
    for spot, piece in zip(frames[0], pieces, strict=True):
        x, y = spot or (0, 0)
        hidden = Markup("") if spot else Markup(' visibility="hidden"')
        drawn += Markup('<g class="piece" transform="translate({:g} {:g})"{}>{}</g>').format(
            x, y, hidden, piece
        )
    svg = Markup(
        '<svg class="picture" viewBox="-4 -4 {:g} {:g}" width="{:g}" role="img" '
        'aria-label="The state of the task">{}</svg>'
    ).format(width + 8, height + 8, min(width + 8, 700), drawn)
    told = [[None if spot is None else [round(v, 1) for v in spot] for spot in f] for f in frames]
    return Picture(svg, json.dumps(told, separators=(",", ":")))
