"""Detection of tasks that are equal up to the names of their objects.

Colour refinement (Weisfeiler and Leman, 1968) gives objects that play the same part in all facts
one colour. A task's *shape* is the hash of its facts with colours for objects. Tasks that are
equal under renaming always have the same shape, so splits without a common shape do not leak. The
converse is a heuristic: very regular tasks (two rings of three roads, one ring of six) may share a
shape and differ. One of them is then left out needlessly, which does no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from planners.errors import InvalidInput
from planners.pddl.reader import Task
from planners.records import Formula, content_hash

Mention = tuple[int, tuple[str, ...]]
"""A fact or goal: a number for everything but its objects, and its objects in order."""


def shape(task: Task) -> str:
    """Hash of a task that does not depend on its objects' names; constants keep their names."""
    constants = {name for name, _ in task.domain.constants}
    mentions = _mentions(task)
    names = sorted({what for what, _ in mentions}, key=repr)
    said = {what: number for number, what in enumerate(names)}
    numbered = [(said[what], objects) for what, objects in mentions]
    first = {name: (kind, name if name in constants else "") for name, kind in task.problem.objects}
    colours = _refine(_ranks(first), numbered)
    return content_hash(
        task.domain.text,
        repr(names),
        repr(sorted(first.values())),
        repr(sorted(colours.values())),
        repr(sorted((what, *(colours[o] for o in objects)) for what, objects in numbered)),
    )


def _mentions(task: Task) -> list[tuple[Any, tuple[str, ...]]]:
    """Every fact, numeric value and goal, split into the rest of it and its objects in order."""
    goal = task.problem.goal
    parts = goal[1:] if goal and goal[0] == "and" else (goal,)
    known = {name for name, _ in task.problem.objects}
    return [
        *((("init", atom[0]), tuple(atom[1:])) for atom in task.problem.init),
        *((("value", fluent[0], value), tuple(fluent[1:])) for fluent, value in task.values),
        *((("goal", _hollow(part, known)), tuple(_objects(part, known))) for part in parts),
    ]


def _hollow(formula: Formula | str, known: set[str]) -> Any:
    """A formula with each object replaced by an empty string."""
    if isinstance(formula, tuple):
        return tuple(_hollow(part, known) if i else part for i, part in enumerate(formula))
    return "" if formula in known else formula


def _objects(formula: Formula | str, known: set[str]) -> Iterable[str]:
    """The objects of a formula, in order."""
    if isinstance(formula, tuple):
        for part in formula[1:]:
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
