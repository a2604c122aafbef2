"""Tasks that are equal up to the names of their objects, and the symmetries of a task's map.

Colour refinement (Weisfeiler and Leman, 1968) gives objects that play the same part in all facts
one colour. A task's *shape* is the hash of its facts with colours for objects. Tasks that are
equal under renaming always have the same shape, so splits without a common shape do not leak. The
converse is a heuristic: very regular tasks (two rings of three roads, one ring of six) may share a
shape and differ. One of them is then left out needlessly, which does no harm.

A constant that no action or rule names is an object like any other. If Sokoban's `left` and `right`
change places and every cell its name with the one opposite, the mirror image is the same task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from planners.errors import InvalidInput
from planners.pddl.formulas import FLUENT
from planners.pddl.reader import Domain, Task, changing
from planners.pddl.sexpr import parse, words_of
from planners.records import Formula, content_hash

SYMMETRIES = 64
"""At most so many symmetries of a task are searched for."""
LARGEST = 450
"""Names in static facts up to which they are searched for: each is a call within the last."""
DUAL = {"and": "or", "or": "and", "forall": "exists", "exists": "forall"}
Bound = Mapping[str, str]
"""New names of the variables in scope."""
Mention = tuple[int, tuple[str, ...]]
"""A fact or goal: a number for everything but its objects, and its objects in order."""


def shape(task: Task) -> str:
    """Hash of a task that does not depend on its objects' names; `fixed` constants keep theirs."""
    kept = fixed(task.domain)
    mentions = _mentions(task)
    names = sorted({what for what, _ in mentions}, key=repr)
    said = {what: number for number, what in enumerate(names)}
    numbered = [(said[what], objects) for what, objects in mentions]
    first = {name: (kind, name if name in kept else "") for name, kind in task.problem.objects}
    colours = _refine(_ranks(first), numbered)
    return content_hash(
        task.domain.text,
        repr(names),
        repr(sorted(first.values())),
        repr(sorted(colours.values())),
        repr(sorted((what, *(colours[o] for o in objects)) for what, objects in numbered)),
    )


@lru_cache(maxsize=256)
def fixed(domain: Domain) -> frozenset[str]:
    """The constants that a domain's actions or rules name: no other can stand for one of them."""
    named = set(words_of([part for part in parse(domain.text)[1:] if part[:1] != [":constants"]]))
    return frozenset(name for name, _ in domain.constants if name in named)


def symmetries(task: Task) -> tuple[dict[str, str], ...]:
    """Ways to rename a task's objects after which its static facts are the same as before.

    On a map of 4 by 4 cells these are its eight turns and mirror images. Each maps every name of
    the static facts to one of them; the first changes none. At most SYMMETRIES are returned. A
    domain with numbers has only the first.
    """
    changed = changing(task.domain)
    static = frozenset(atom for atom in task.problem.init if atom[0] not in changed)
    if task.values or not static:
        return ({},)
    return _symmetries(static, task.problem.objects, fixed(task.domain))


@lru_cache(maxsize=1024)
def _symmetries(
    static: frozenset[Formula], objects: tuple[tuple[str, str], ...], kept: frozenset[str]
) -> tuple[dict[str, str], ...]:
    mentions = [(atom[0], atom[1:]) for atom in sorted(static)]
    named = {name for _, arguments in mentions for name in arguments}
    first = {n: (kind, n if n in kept else "") for n, kind in objects if n in named}
    predicates = {what: number for number, what in enumerate(sorted({w for w, _ in mentions}))}
    colours = _refine(_ranks(first), [(predicates[what], rest) for what, rest in mentions])
    # Names that share a fact follow each other, so that a wrong image is soon seen to be wrong.
    order = _connected([rest for _, rest in mentions])
    if len(order) > LARGEST:
        return ({},)
    due: dict[str, list[Formula]] = {name: [] for name in order}
    for atom in static:
        if atom[1:]:
            due[max(atom[1:], key=order.index)].append(atom)
    found: list[dict[str, str]] = []
    image: dict[str, str] = {}

    def extend(position: int) -> None:
        if position == len(order):
            found.append(dict(image))
            return
        name = order[position]
        taken = set(image.values())
        # The name itself first, so that the first symmetry found is the one that changes nothing.
        for other in sorted(order, key=lambda other: (other != name, other)):
            if len(found) == SYMMETRIES:
                return
            if colours[other] == colours[name] and other not in taken:
                image[name] = other
                if all((a[0], *(image[n] for n in a[1:])) in static for a in due[name]):
                    extend(position + 1)
                del image[name]

    extend(0)
    return tuple(found)


def _connected(arguments: Sequence[tuple[str, ...]]) -> list[str]:
    """Every name in these facts, each as soon as it shares a fact with one before it."""
    order: dict[str, None] = {}
    left = [rest for rest in arguments if rest]
    while left:
        near = [rest for rest in left if not order.keys().isdisjoint(rest)] or left[:1]
        order.update(dict.fromkeys(name for rest in near for name in rest))
        left = [rest for rest in left if not order.keys() >= set(rest)]
    return list(order)


def _mentions(task: Task) -> list[tuple[Any, tuple[str, ...]]]:
    """Every fact, numeric value, goal and metric, split into the rest of it and its objects in
    order.
    """
    # In another order, nested or repeated, the parts of a goal ask for the same.
    parts = dict.fromkeys(_wishes(task.problem.goal))
    known = {name for name, _ in task.problem.objects}
    metric = () if task.metric is None else (task.metric,)
    return [
        *(
            (("metric", task.maximize, _hollow(one, known)), tuple(_objects(one, known)))
            for one in metric
        ),
        *((("init", atom[0]), tuple(atom[1:])) for atom in task.problem.init),
        *((("value", fluent[0], value), tuple(fluent[1:])) for fluent, value in task.values),
        *(
            (("goal", path, _hollow(part, known)), tuple(_objects(part, known)))
            for path, part in parts
        ),
    ]


def _wishes(
    goal: Formula,
    asked: bool = True,
    path: tuple[str, ...] = ("and",),
    bound: Bound = MappingProxyType({}),
) -> Iterator[tuple[tuple[str, ...], Formula]]:
    """The atoms and comparisons of a goal, each with the connectives above it, outermost first.

    Negations are carried down to them. A variable is named after its types and the place of its
    quantifier. Which atoms stand beside each other under an `or` is not told.
    """
    head = goal[0]
    if head == "not":
        yield from _wishes(goal[1], not asked, path, bound)
    elif head == "imply":
        yield from _wishes(("or", ("not", goal[1]), goal[2]), asked, path, bound)
    elif head in DUAL:
        connective = head if asked else DUAL[head]
        quantified = head in ("forall", "exists")
        variables = goal[1] if quantified else ()
        parts = dict.fromkeys(goal[2:] if quantified else goal[1:])
        needless = connective == path[-1] or (len(parts) == 1 and not variables)
        under = path if needless else (*path, connective)
        named = {name: f"?{len(under)} {' '.join(kinds)}" for name, kinds in variables}
        for part in parts:
            yield from _wishes(part, asked, under, {**bound, **named})
    else:
        yield (*path, "" if asked else "not"), _bound(goal, bound)


def _bound(part: Any, names: Bound) -> Any:
    """A formula whose variables have other names."""
    if isinstance(part, tuple):
        return tuple(_bound(one, names) for one in part)
    return names.get(part, part) if isinstance(part, str) else part


def _hollow(formula: Formula | str, known: set[str]) -> Any:
    """A formula with each object replaced by an empty string."""
    if isinstance(formula, tuple):
        own = int(formula[0] == FLUENT)  # a function's name is no object's
        return tuple(_hollow(part, known) if i > own else part for i, part in enumerate(formula))
    return "" if formula in known else formula


def _objects(formula: Formula | str, known: set[str]) -> Iterable[str]:
    """The objects of a formula, in order."""
    if isinstance(formula, tuple):
        for part in formula[2 if formula[0] == FLUENT else 1 :]:
            yield from _objects(part, known)
    elif formula in known:
        yield formula


def _refine(colours: dict[str, int], mentions: Sequence[Mention]) -> dict[str, int]:
    """Split colours by the facts of their objects, until none splits any more."""
    count = len(set(colours.values()))
    while True:
        seen: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for what, objects in mentions:
            around = tuple([colours[o] for o in objects])
            for place, name in enumerate(objects):
                seen[name].append((what, place, *around))
        finer = _ranks({name: (colours[name], sorted(seen[name])) for name in colours})
        finer_count = len(set(finer.values()))
        if finer_count == count:
            return colours
        colours, count = finer, finer_count


def _ranks(signatures: dict[str, Any]) -> dict[str, int]:
    """Each name's position in the order of signatures; equal signatures share the first one's."""
    # Numbers, not signatures, so that colours stay small however often they are refined.
    order: dict[str, int] = {}
    ranked = sorted(signatures.items(), key=lambda item: item[1])
    for position, (name, signature) in enumerate(ranked):
        same = position and signature == ranked[position - 1][1]
        order[name] = order[ranked[position - 1][0]] if same else position
    return {name: order[name] for name in signatures}


def require_no_leak(splits: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Raise InvalidInput if tasks of two splits are equal up to the names of their objects.

    `splits` gives the (task name, shape) pairs of each split, in order.
    """
    seen: dict[str, tuple[str, str]] = {}
    for split, tasks in splits.items():
        for name, key in tasks:
            other = seen.setdefault(key, (split, name))
            if other[0] != split:
                raise InvalidInput(
                    f"the splits leak: {split} task {name} is {other[0]} task {other[1]} under "
                    "other object names; take one of them out"
                )
