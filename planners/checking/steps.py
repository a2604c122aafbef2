"""A plan step by step: what each action changes, up to the first that cannot be applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from planners.checking.checker import PLAN_SECONDS
from planners.checking.replay import Replay
from planners.pddl import Task
from planners.pddl.formulas import number_text
from planners.records import Action, Atom, Outcome, Plan


@dataclass(frozen=True, slots=True)
class Step:
    """An action of a plan, and the state after it. `bad` says why it cannot be applied: then the
    state is the one before. Atoms are sorted; `numbers` holds the values that changed.
    """

    action: Action
    bad: Outcome | None
    added: tuple[Atom, ...]
    deleted: tuple[Atom, ...]
    numbers: dict[Atom, Any]
    state: frozenset[Atom]

    @property
    def changes(self) -> list[str]:
        """The atoms that became true, marked with +, those that ceased to be, with -, and the
        numbers that changed.
        """
        return [
            *(f"+({' '.join(atom)})" for atom in self.added),
            *(f"-({' '.join(atom)})" for atom in self.deleted),
            *(f"({' '.join(of)})={number_text(value)}" for of, value in self.numbers.items()),
        ]


def steps(task: Task, plan: Plan, seconds: float = PLAN_SECONDS) -> Iterator[Step]:
    """Yield the steps of a plan; the first bad one is the last. Raises NotJudged if they
    take longer than `seconds`.
    """
    run = Replay(task, monotonic() + seconds)
    for action in plan.actions:
        before, numbers = frozenset(run.state), dict(run.numbers)
        bad = run.step(*action)
        changed = {of: value for of, value in run.numbers.items() if numbers.get(of) != value}
        yield Step(
            action, bad, tuple(sorted(run.state - before)), tuple(sorted(before - run.state)),
            changed, frozenset(run.state),
        )  # fmt: skip
        if bad is not None:
            return
