"""The examples that bases are pretrained on: short tasks with plans, and aimless walks.

A base should know how the world moves, at every size, and plan a few actions ahead, nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from planners.domains import DOMAINS, blocksworld, walking
from planners.domains.worlds import WORLDS
from planners.errors import InvalidInput
from planners.models.hardware import Dtype
from planners.pddl import Task, canonical, read_domain
from planners.pddl.renaming import rename, shuffle
from planners.prompts.formats import OBJECT_NAMES
from planners.records import Plan, Problem

Example = tuple[Problem, Plan]
LAYERS, WIDTH = 4, 128
"""Of a new base, unless another size is asked for."""
PER_ROOM = 8
"""Examples drawn from one random world, since grounding it costs more than walking in it."""
TRIES = 20
"""Start states to walk from for a task of one horizon, before another horizon is drawn."""
SIZES = {
    "blocksworld": (3, 12),
    "childsnack": (1, 4),
    "ferry": (1, 6),
    "floortile": (2, 4),
    "miconic": (1, 6),
    "rovers": (2, 6),
    "satellite": (1, 6),
    "sokoban": (4, 5),
    "spanner": (1, 5),
    "transport": (1, 4),
}
"""Smallest and largest size that a base sees in each domain."""


LOST_SHARE = 0.2
"""Share of the training steps, at the end, that include tasks out of reach."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of examples in a phase of pretraining; the rest are short tasks with plans.

    `walks`: aimless walks in tasks without goals. `lost`: equally aimless walks in tasks with a
    distant goal, `begun`: plans of such tasks that break off, `far`: their horizons. `longest`, if
    given, limits plans and walks in tasks with goals, in moves (Blocksworld) or actions.
    """

    walks: float
    lost: float = 0.0
    begun: float = 0.0
    far: tuple[int, int] = (5, 12)
    longest: int | None = None

    def draw(self, rng: Random) -> str:
        """Draw the kind of the next example: walk, lost, begun or short."""
        drawn = rng.random()
        for kind, share in (("walk", self.walks), ("lost", self.lost), ("begun", self.begun)):
            if drawn < share:
                return kind
            drawn -= share
        return "short"


ALONE = Mixture(walks=0.35)
"""The first phase: short tasks, and walks without goals, teach a base how the world moves."""
LOST = Mixture(walks=0.15, lost=0.15, begun=0.25, longest=4)
"""The second phase: legal moves where a base cannot plan let it find plans it was not taught."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """The settings that determine a base.

    `tail`: probability of each further move (in Blocksworld) or action. `longest_walk`: their
    maximum in aimless walks, `longest_begun`: in plans that break off. `names`: number of object
    names. `half`: weights are stored in half precision, which halves the file, but trained, and run
    on a CPU, in single precision. `start`: folder of a base to train further, whose words and names
    stay; None starts from scratch. `in_order`: domains where objects are named by their place in
    sorted order, not at random, so that a cell's name says where it is. `layers`, `width`: of the
    model, if it is new. `workers`: processes that make examples, 0 for this one; each makes its own
    share, so that their number decides which examples there are. `dtype`: the type of numbers that
    it is calculated with. `size`: smallest and largest size of tasks, None for those of `SIZES`.
    """

    domains: tuple[str, ...] = ("blocksworld",)
    seed: int = 0
    steps: int = 6250
    batch: int = 64
    learning_rate: float = 2e-3
    tail: float = 0.25
    longest_begun: int = 3
    longest_walk: int = 14
    names: int = 24
    half: bool = False
    start: str | None = None
    in_order: tuple[str, ...] = ()
    layers: int = LAYERS
    width: int = WIDTH
    workers: int = 0
    dtype: Dtype = "auto"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.width % 64:
            raise InvalidInput(f"--width is a multiple of 64, the width of two heads: {self.width}")
        for name in self.domains if self.size else ():
            smallest, largest = self.sizes[name]
            if not DOMAINS[name].smallest <= smallest <= largest:
                raise InvalidInput(
                    f"--size {smallest}-{largest}: tasks of {name} have sizes from "
                    f"{DOMAINS[name].smallest}, the smaller one first"
                )
        for name in self.in_order:
            if name not in self.domains:
                raise InvalidInput(
                    f"{name} is to be taught in order (--in-order) and is not among the domains "
                    f"that are taught: {', '.join(self.domains)}"
                )

    @property
    def object_names(self) -> tuple[str, ...]:
        return OBJECT_NAMES[: self.names]

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Smallest and largest size of tasks in each domain."""
        return {name: self.size or SIZES[name] for name in self.domains}

    @property
    def phases(self) -> tuple[tuple[Mixture, int, float], ...]:
        """The mixture, number of steps and learning rate of each phase."""
        lost = round(self.steps * LOST_SHARE)
        return (ALONE, self.steps - lost, self.learning_rate), (LOST, lost, self.learning_rate / 2)


def examples(settings: Pretraining, mixture: Mixture, rng: Random) -> Iterator[tuple[Task, Plan]]:
    """Tasks with plans, without end, from each domain in turn; names and order are random."""
    streams = [
        _blocks(settings, mixture, rng)
        if name == "blocksworld"
        else _rooms(name, settings, mixture, rng)
        for name in settings.domains
    ]
    while True:
        for name, stream in zip(settings.domains, streams, strict=True):
            yield _mixed(name, *next(stream), settings, rng)


def _mixed(
    domain_name: str, problem: Problem, plan: Plan, settings: Pretraining, rng: Random
) -> tuple[Task, Plan]:
    domain, in_order = read_domain(DOMAINS[domain_name].text), domain_name in settings.in_order
    if in_order:
        problem = canonical(problem)
    # Constants keep their names, because they are words of the domain.
    own = [name for name, _ in problem.objects if name not in dict(domain.constants)]
    names = settings.object_names
    if len(own) > len(names):
        raise InvalidInput(
            f"{domain_name} has tasks of {len(own)} objects, and only {len(names)} names are "
            f"taught; give --names {len(own)} or more"
        )
    given = names[: len(own)] if in_order else rng.sample(names, len(own))
    table = dict(zip(own, given, strict=True))
    problem = rename(problem, table)
    if not in_order:
        problem = shuffle(problem, rng)
    actions = tuple((schema, *(table.get(o, o) for o in rest)) for schema, *rest in plan.actions)
    return walking.task_of(domain, problem), Plan(actions)


def _blocks(settings: Pretraining, mixture: Mixture, rng: Random) -> Iterator[Example]:
    low, high = settings.sizes["blocksworld"]
    while True:
        size, kind = rng.choice(range(low, high + 1)), mixture.draw(rng)
        if kind == "walk":
            yield _aimless_blocks(size, settings.longest_walk, rng)
        elif kind == "short":
            yield _short_blocks(size, settings.tail, mixture, rng)
        else:
            found = blocksworld.solved_example(size, rng.randint(*mixture.far), rng, attempts=5)
            if found is not None and kind == "lost":
                yield _lost_blocks(found[0], mixture.longest or settings.longest_walk, rng)
            elif found is not None:
                # Each move is two actions: one lifts a block, one puts it down.
                yield _begun(found, 2 * rng.randint(1, settings.longest_begun))


def _begun(example: Example, actions: int) -> Example:
    """The same task, with only the first `actions` actions of its plan."""
    problem, plan = example
    return problem, Plan(plan.actions[:actions])


def _short_blocks(size: int, tail: float, mixture: Mixture, rng: Random) -> Example:
    """A task with an optimal plan of one move, one more with probability `tail`, and so on."""
    while True:
        horizon = min(_horizon(tail, mixture, rng), size)
        found = blocksworld.solved_example(size, horizon, rng, attempts=20)
        if found is not None:
            return found


def _aimless_blocks(size: int, longest: int, rng: Random) -> Example:
    """A task without goals, and a random walk from its initial state."""
    init = blocksworld.random_state([f"b{i + 1}" for i in range(size)], rng)
    _, path = blocksworld.walk(init, rng.randint(1, longest), rng)
    return blocksworld.problem_of(init, None, rng), blocksworld.plan_of(init, path)


def _lost_blocks(problem: Problem, longest: int, rng: Random) -> Example:
    """The same task, and a random walk from its initial state that ignores its goals."""
    init = blocksworld.state_of(problem)
    _, path = blocksworld.walk(init, rng.randint(1, longest), rng)
    return problem, blocksworld.plan_of(init, path)


def _rooms(name: str, settings: Pretraining, mixture: Mixture, rng: Random) -> Iterator[Example]:
    """Examples of a domain whose tasks come from walks over ground actions."""
    world, domain = WORLDS[name], read_domain(DOMAINS[name].text)
    while True:
        room = walking.Room(world, domain, rng.randint(*settings.sizes[name]), rng)
        for _ in range(PER_ROOM):
            kind = mixture.draw(rng)
            if kind == "walk":
                yield room.aimless(room.start(rng), rng.randint(1, settings.longest_walk), rng)
                continue
            horizon = (
                _horizon(settings.tail, mixture, rng)
                if kind == "short"
                else rng.randint(*mixture.far)
            )
            for start in (room.start(rng) for _ in range(TRIES)):
                found = room.solved(start, horizon, rng)
                if found is None:
                    continue
                if kind == "lost":
                    length = rng.randint(1, mixture.longest or settings.longest_walk)
                    found = found[0], room.aimless(start, length, rng)[1]
                elif kind == "begun":
                    found = _begun(found, rng.randint(1, settings.longest_begun))
                yield found
                break


def _horizon(tail: float, mixture: Mixture, rng: Random) -> int:
    horizon = 1
    while horizon != mixture.longest and rng.random() < tail:
        horizon += 1
    return horizon
