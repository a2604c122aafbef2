"""Random initial states of the nine domains besides Blocksworld, by size.

Each function takes a size (`WORLDS` says what it counts) and a random stream, and returns the
objects and initial facts of a problem. Its goal comes from a random walk: see `walking`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from planners.records import Atom, Problem

Objects = list[tuple[str, str]]
CLOSED = 0.25
"""Probability that a road of Transport is closed if there is a way round."""


def named(prefix: str, count: int, kind: str) -> Objects:
    """`count` objects of one type: prefix1, prefix2, ..."""
    return [(f"{prefix}{i + 1}", kind) for i in range(count)]


def names(objects: Objects) -> list[str]:
    return [name for name, _ in objects]


def childsnack(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """`size` children, each waiting for the sandwich it can eat."""
    children, trays = named("child", size, "child"), named("tray", 1 + size // 4, "tray")
    bread, content = (
        named("bread", size, "bread-portion"),
        named("content", size, "content-portion"),
    )
    sandwiches, tables = named("sandw", size, "sandwich"), named("table", 2, "place")
    allergic = set(rng.sample(range(size), rng.randint(0, size // 2)))
    init: list[Atom] = [("at", tray, "kitchen") for tray in names(trays)]
    for i, child in enumerate(names(children)):
        init.append(("allergic_gluten" if i in allergic else "not_allergic_gluten", child))
        init.append(("waiting", child, rng.choice(names(tables))))
        init.append(("at_kitchen_bread", f"bread{i + 1}"))
        init.append(("at_kitchen_content", f"content{i + 1}"))
        init.append(("notexist", f"sandw{i + 1}"))
        if i in allergic:
            init.append(("no_gluten_bread", f"bread{i + 1}"))
            init.append(("no_gluten_content", f"content{i + 1}"))
    return children + trays + bread + content + sandwiches + tables, init


def ferry(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """`size` cars at `size + 1` locations, at most six."""
    cars, locations = named("c", size, "car"), named("l", min(size + 1, 6), "location")
    init: list[Atom] = [("empty-ferry",), ("at-ferry", rng.choice(names(locations)))]
    init += [("at", car, rng.choice(names(locations))) for car in names(cars)]
    return cars + locations, init


def grid(columns: int, rows: int, prefix: str) -> dict[tuple[int, int], str]:
    """Names of grid cells; row 0 is the lowest."""
    return {(x, y): f"{prefix}{x}-{y}" for y in range(rows) for x in range(columns)}


STEPS = {"up": (0, 1), "down": (0, -1), "right": (1, 0), "left": (-1, 0)}


def floortile(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """A grid of `size` columns and three rows with one robot."""
    cells = grid(size, 3, "tile")
    tiles = [(name, "tile") for name in cells.values()]
    start = cells[rng.randrange(size), 0]
    init: list[Atom] = [("robot-at", "robot1", start), ("robot-has", "robot1", "white")]
    init += [("available-color", color) for color in ("white", "black")]
    init += [("clear", name) for name in cells.values() if name != start]
    for (x, y), name in cells.items():
        for direction, (dx, dy) in STEPS.items():
            if (x + dx, y + dy) in cells:
                init.append((direction, cells[x + dx, y + dy], name))
    return [*tiles, ("robot1", "robot"), ("white", "color"), ("black", "color")], init


def miconic(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """`size` passengers in a building of `size + 1` floors, at most eight."""
    passengers, floors = named("p", size, "passenger"), named("f", min(size + 1, 8), "floor")
    init: list[Atom] = [("lift-at", rng.choice(names(floors)))]
    init += [("above", a, b) for i, a in enumerate(names(floors)) for b in names(floors)[i + 1 :]]
    for passenger in names(passengers):
        origin, destination = rng.sample(names(floors), 2)
        init += [("origin", passenger, origin), ("destin", passenger, destination)]
    return passengers + floors, init


def rovers(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """One rover and `size` waypoints on a random tree, with samples and one objective."""
    waypoints = named("waypoint", size, "waypoint")
    rest: Objects = [
        ("rover1", "rover"),
        ("store1", "store"),
        ("camera1", "camera"),
        ("general", "lander"),
        ("colour", "mode"),
        ("objective1", "objective"),
    ]
    places = names(waypoints)
    init: list[Atom] = [
        ("at", "rover1", rng.choice(places)),
        ("at_lander", "general", rng.choice(places)),
    ]
    init += [
        (f"equipped_for_{what}", "rover1") for what in ("soil_analysis", "rock_analysis", "imaging")
    ]
    init += [
        ("store_of", "store1", "rover1"),
        ("empty", "store1"),
        ("on_board", "camera1", "rover1"),
    ]
    init += [("supports", "camera1", "colour"), ("calibration_target", "camera1", "objective1")]
    for i, place in enumerate(places[1:], 1):
        other = places[rng.randrange(i)]
        for a, b in ((place, other), (other, place)):
            init += [("visible", a, b), ("can_traverse", "rover1", a, b)]
    for place in places:
        init += [(f"at_{what}_sample", place) for what in ("soil", "rock") if rng.random() < 0.4]
        init += [("visible_from", "objective1", place)] if rng.random() < 0.5 else []
    return waypoints + rest, init


def satellite(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """Two satellites with an instrument or two each, and `size + 1` directions."""
    satellites, directions = named("sat", 2, "satellite"), named("dir", size + 1, "direction")
    modes = named("mode", 2, "mode")
    instruments: Objects = []
    init: list[Atom] = []
    for craft in names(satellites):
        init += [("power_avail", craft), ("pointing", craft, rng.choice(names(directions)))]
        for _ in range(rng.randint(1, 2)):
            instruments.append((f"ins{len(instruments) + 1}", "instrument"))
            name = instruments[-1][0]
            init += [("on_board", name, craft), ("supports", name, rng.choice(names(modes)))]
            init.append(("calibration_target", name, rng.choice(names(directions))))
    return satellites + instruments + modes + directions, init


def sokoban(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """A room of `size` by `size` cells with one box per three columns, none beside a wall."""
    cells = grid(size, size, "loc")
    boxes = named("box", max(1, size // 3), "box")
    inner = [c for c in cells if 0 < c[0] < size - 1 and 0 < c[1] < size - 1]
    spots = rng.sample(inner, min(len(boxes), len(inner)))
    boxes = boxes[: len(spots)]
    free = [c for c in cells if c not in spots]
    init: list[Atom] = [("at-robot", cells[rng.choice(free)])]
    init += [("clear", cells[c]) for c in free]
    init += [("at", box, cells[spot]) for box, spot in zip(names(boxes), spots, strict=True)]
    for (x, y), name in cells.items():
        for direction, (dx, dy) in STEPS.items():
            if (x + dx, y + dy) in cells:
                init.append(("adjacent", name, cells[x + dx, y + dy], direction))
    return [(name, "location") for name in cells.values()] + boxes, init


def spanner(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """`size` spanners along a one-way path, and up to as many nuts at its end."""
    spanners, nuts = named("spanner", size, "spanner"), named("nut", rng.randint(1, size), "nut")
    path = ["shed", *names(named("location", size, "location")), "gate"]
    init: list[Atom] = [("at", "bob", "shed")]
    init += [("link", a, b) for a, b in pairwise(path)]
    for name in names(spanners):
        init += [("at", name, rng.choice(path[1:-1])), ("usable", name)]
    for name in names(nuts):
        init += [("at", name, "gate"), ("loose", name)]
    return [("bob", "man"), *spanners, *nuts, *((place, "location") for place in path)], init


def transport(size: int, rng: Random) -> tuple[Objects, list[Atom]]:
    """`size` packages, two vehicles of capacity one or two, and places on a ladder of roads, some
    of them closed.
    """
    packages, vehicles = named("p", size, "package"), named("v", 2, "vehicle")
    places = named("l", min(size + 2, 7), "location")
    sizes = [(f"capacity_{i}", "size") for i in range(3)]
    init: list[Atom] = [
        ("capacity-predecessor", f"capacity_{i}", f"capacity_{i + 1}") for i in range(2)
    ]
    for here, there in open_roads(names(places), rng):
        init += [("road", here, there), ("road", there, here)]
    for vehicle in names(vehicles):
        init.append(("at", vehicle, rng.choice(names(places))))
        init.append(("capacity", vehicle, f"capacity_{rng.randint(1, 2)}"))
    init += [("at", package, rng.choice(names(places))) for package in names(packages)]
    return packages + vehicles + places + sizes, init


def open_roads(places: list[str], rng: Random) -> list[tuple[str, str]]:
    """The open roads of a ladder of places; each is closed with probability CLOSED if there is a
    way round. The first two places are the first rung, the next two the second, and so on.
    """
    rungs = list(zip(places[::2], places[1::2], strict=False))
    roads = [*rungs, *zip(places, places[2:], strict=False)]
    for road in rng.sample(roads, len(roads)):
        others = [other for other in roads if other != road]
        if rng.random() < CLOSED and connected(places, others):
            roads = others
    return roads


def connected(places: list[str], roads: list[tuple[str, str]]) -> bool:
    """Whether every place can be reached from the first."""
    reached = {places[0]}
    for _ in places:
        reached |= {place for road in roads if not reached.isdisjoint(road) for place in road}
    return len(reached) == len(places)


@dataclass(frozen=True, slots=True)
class World:
    """The initial states and goals of a domain's tasks.

    `size` says what the size counts. `goals` maps each predicate that goals use to the type of its
    first object. `weights` are the relative probabilities of actions on random walks (default 1),
    chosen so that walks reach goals.
    """

    domain: str
    size: str
    smallest: int
    build: Callable[[int, Random], tuple[Objects, list[Atom]]]
    goals: dict[str, str]
    weights: dict[str, float]

    def problem(self, size: int, rng: Random) -> Problem:
        """A random problem of this size, with an empty goal."""
        objects, init = self.build(size, rng)
        return Problem(self.domain, f"{self.domain}-{size}", tuple(objects), tuple(init), ("and",))


WORLDS = {
    "childsnack": World(
        "childsnack", "children", 1, childsnack, {"served": "child"},
        {"serve_sandwich": 40, "serve_sandwich_no_gluten": 40, "put_on_tray": 6,
         "make_sandwich_no_gluten": 3},
    ),
    "ferry": World("ferry", "cars", 1, ferry, {"at": "car"}, {"board": 8, "debark": 8}),
    "floortile": World("floortile", "columns", 2, floortile, {"painted": "tile"}, {"paint_up": 3}),
    "miconic": World(
        "miconic", "passengers", 1, miconic, {"served": "passenger"}, {"board": 16, "depart": 16}
    ),
    "rovers": World(
        "rover", "waypoints", 2, rovers,
        {"communicated_soil_data": "waypoint", "communicated_rock_data": "waypoint",
         "communicated_image_data": "objective"},
        {"communicate_soil_data": 20, "communicate_rock_data": 20, "communicate_image_data": 20,
         "sample_soil": 4, "sample_rock": 4, "take_image": 8, "calibrate": 3},
    ),
    "satellite": World(
        "satellite", "directions, less one", 1, satellite,
        {"have_image": "direction", "pointing": "satellite"},
        {"take_image": 20, "calibrate": 8, "switch_on": 3, "switch_off": 0.2},
    ),
    "sokoban": World("sokoban", "cells per side", 4, sokoban, {"at": "box"}, {"push": 4}),
    "spanner": World(
        "spanner", "spanners", 1, spanner, {"tightened": "nut"},
        {"pickup_spanner": 6, "tighten_nut": 20},
    ),
    "transport": World(
        "transport", "packages", 1, transport, {"at": "package"}, {"pick-up": 3, "drop": 2}
    ),
}  # fmt: skip
"""The nine domains besides Blocksworld."""
