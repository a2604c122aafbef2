"""Canaries: plans broken on purpose, each by one kind of damage, that no checker may accept.

The checker's verdicts are the loop's only reward, so the model would learn whatever a faulty
checker accepts. Before anything is curated, damaged copies of valid plans are judged beside the
real traces, by the same extraction and checker. One accepted canary stops the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from planners.checking.referees import REPLAY_SECONDS
from planners.checking.replay import replay
from planners.errors import NotJudged
from planners.pddl import Task
from planners.prompts.extraction import extract
from planners.records import Action, Outcome, Plan

GARBAGE = "I would first (think about it) and then reach the goal."
NOBODY = "no-such-object"


@dataclass(frozen=True, slots=True)
class Canary:
    """A completion that is wrong on purpose, and the kind of its damage."""

    kind: str
    text: str


def longer(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Give one action an extra argument."""
    i = rng.randrange(len(actions))
    return _put(actions, i, (*actions[i], rng.choice(task.problem.objects)[0]))


def shorter(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Drop the last argument of one action."""
    i = rng.choice([i for i, action in enumerate(actions) if len(action) > 1])
    return _put(actions, i, actions[i][:-1])


def swapped(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Swap two neighbouring actions."""
    i = rng.randrange(len(actions) - 1)
    return _put(_put(actions, i, actions[i + 1]), i + 1, actions[i])


def unknown_object(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Use an object that the task does not have."""
    i = rng.choice([i for i, action in enumerate(actions) if len(action) > 1])
    return _put(actions, i, (*actions[i][:-1], NOBODY))


def unknown_action(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Use an action that the domain does not have."""
    i = rng.randrange(len(actions))
    return _put(actions, i, ("no-such-action", *actions[i][1:]))


def wrong_type(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Use an object of a wrong type, or any other object if every type would do."""
    i = rng.choice([i for i, action in enumerate(actions) if len(action) > 1])
    kinds = task.domain.actions[actions[i][0]].parameters[-1][1]
    others = [n for n, k in task.problem.objects if not task.domain.ancestors(k) & set(kinds)]
    names = others or [name for name, _ in task.problem.objects if name != actions[i][-1]]
    return _put(actions, i, (*actions[i][:-1], rng.choice(names)))


def truncated(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Cut the plan short."""
    return actions[: rng.randrange(len(actions))]


def goal_undone(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Repeat the last action, which mostly undoes the goal or is not applicable again."""
    return [*actions, actions[-1]]


def _put(actions: list[Action], i: int, action: Action) -> list[Action]:
    return [*actions[:i], action, *actions[i + 1 :]]


DAMAGES: dict[str, Callable[[list[Action], Task, Random], list[Action]]] = {
    "argument more": longer,
    "argument fewer": shorter,
    "swapped": swapped,
    "unknown object": unknown_object,
    "unknown action": unknown_action,
    "wrong type": wrong_type,
    "truncated": truncated,
    "goal undone": goal_undone,
}
TEXTS = {"garbage": GARBAGE, "empty": ""}
"""Canaries that need no plan."""


def canaries(task: Task, plan: Plan, rng: Random) -> Iterator[Canary]:
    """One canary of each kind that can be made of a plan, each invalid by the naive replay.

    Damage can leave a plan valid, as when two actions commute; such a plan is not used.
    """
    for kind, text in TEXTS.items():
        yield Canary(kind, text)
    for kind, damage in DAMAGES.items():
        try:
            broken = Plan(tuple(damage(list(plan.actions), task, rng)))
        except (IndexError, ValueError):  # too short a plan for this damage
            continue
        try:
            valid = replay(task, broken, REPLAY_SECONDS)[0] is Outcome.VALID
        except NotJudged:  # it would take too long, or its numbers grow beyond all bounds
            continue
        if not valid and extract(str(broken) or ";").plan == broken:
            yield Canary(kind, str(broken) or ";")
