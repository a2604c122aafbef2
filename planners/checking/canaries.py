"""Canaries: plans broken on purpose, one kind of damage each, that no checker may accept.

The checker is the reward of the loop, so a checker that has begun to accept what is wrong would be
trained on. Before anything is curated, plans derived from valid ones are judged beside the real
traces, through the same extraction and checker; one accepted canary stops the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from planners.checking.replay import replay
from planners.pddl import Task
from planners.prompts.extraction import extract
from planners.records import Action, Outcome, Plan

GARBAGE = "I would first (think about it) and then reach the goal."
NOBODY = "no-such-object"


@dataclass(frozen=True, slots=True)
class Canary:
    """A completion that is wrong in one way, and which."""

    kind: str
    text: str


def longer(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """One argument more."""
    i = rng.randrange(len(actions))
    return _put(actions, i, (*actions[i], rng.choice(task.problem.objects)[0]))


def shorter(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """One argument fewer."""
    i = rng.choice([i for i, action in enumerate(actions) if len(action) > 1])
    return _put(actions, i, actions[i][:-1])


def swapped(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Two actions in the wrong order."""
    i = rng.randrange(len(actions) - 1)
    return _put(_put(actions, i, actions[i + 1]), i + 1, actions[i])


def unknown_object(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """An object that the task does not have."""
    i = rng.choice([i for i, action in enumerate(actions) if len(action) > 1])
    return _put(actions, i, (*actions[i][:-1], NOBODY))


def unknown_action(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """An action that the domain does not have."""
    i = rng.randrange(len(actions))
    return _put(actions, i, ("no-such-action", *actions[i][1:]))


def wrong_type(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """An object of a type that the action does not take; where all is one type, another object."""
    i = rng.choice([i for i, action in enumerate(actions) if len(action) > 1])
    kinds = task.domain.actions[actions[i][0]].parameters[-1][1]
    others = [n for n, k in task.problem.objects if not task.domain.ancestors(k) & set(kinds)]
    names = others or [name for name, _ in task.problem.objects if name != actions[i][-1]]
    return _put(actions, i, (*actions[i][:-1], rng.choice(names)))


def truncated(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """Cut short."""
    return actions[: rng.randrange(len(actions))]


def goal_undone(actions: list[Action], task: Task, rng: Random) -> list[Action]:
    """The last action once more: most goals are undone by it, or it cannot be done again."""
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
    """One canary of each kind that the plan gives, each wrong by the naive replay.

    Damage can leave a plan valid (two actions that commute): such a plan is no canary.
    """
    for kind, text in TEXTS.items():
        yield Canary(kind, text)
    for kind, damage in DAMAGES.items():
        try:
            broken = Plan(tuple(damage(list(plan.actions), task, rng)))
        except (IndexError, ValueError):  # too short a plan for this damage
            continue
        if (
            replay(task, broken)[0] is not Outcome.VALID
            and extract(str(broken) or ";").plan == broken
        ):
            yield Canary(kind, str(broken) or ";")
