"""The tree of generations, as SVG whose nodes are links."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from markupsafe import Markup

from flows.pages.links import link
from warehouse.records import Generation, Promotion

STEP, LANE = 92, 58
"""Pixels from a generation to the next, and between branches."""


def family_tree(
    made: Sequence[Generation], decisions: Sequence[Promotion], tainted: Collection[int]
) -> Markup:
    """Generations from left to right, each joined to its parent; a branch has a lane of its own."""
    lanes, children = dict[int, int](), dict[int | None, int]()
    for one in made:
        first = not children.get(one.parent)
        children[one.parent] = children.get(one.parent, 0) + 1
        below = max(lanes.values(), default=-1) + 1
        known = lanes.get(one.parent, 0) if one.parent is not None else 0
        lanes[one.index] = known if first else below
    at = {
        one.index: (40 + place * STEP, 34 + lanes[one.index] * LANE)
        for place, one in enumerate(made)
    }
    state = {one.generation: "promoted" if one.promoted else "refused" for one in decisions}
    promoted = [one.generation for one in decisions if one.promoted]
    if promoted:
        state[promoted[-1]] = "deployed"
    drawn = Markup("")
    for one in made:
        if one.parent in at and one.parent is not None:
            (x1, y1), (x2, y2) = at[one.parent], at[one.index]
            drawn += Markup(
                '<path class="descent {}" d="M{} {} C{} {} {} {} {} {}"><title>{}</title></path>'
            ).format(
                one.start, x1 + 19, y1, x1 + 55, y1, x2 - 55, y2, x2 - 19, y2,
                f"generation {one.index} was made from {one.parent}; training began with the "
                f"weights of the {one.start}",
            )  # fmt: skip
    for one in made:
        x, y = at[one.index]
        status = state.get(one.index, "undecided")
        marked = " tainted" if one.index in tainted else ""
        words = f"generation {one.index}: {status}{marked}"
        drawn += Markup(
            '<a href="{}" aria-label="{}"><circle class="generation {}{}" cx="{}" cy="{}" r="18"/>'
            '<text x="{}" y="{}">{}</text></a>'
        ).format(
            link("experiments", one.experiment, "generations", one.index), words, status, marked,
            x, y, x, y + 5, one.index,
        )  # fmt: skip
    width, height = 80 + STEP * (len(made) - 1), 68 + LANE * max(lanes.values())
    return Markup(
        '<svg class="tree" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="group" '
        'aria-label="Generations and their parents">{2}</svg>'
    ).format(width, height, drawn)
