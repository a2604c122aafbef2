"""Canaries by search: plans that only a checker with a certain hole accepts.

For every part of a domain that a checker might overlook (a precondition, a deleted fact, a
parameter's type) and every goal of a task, the part is left out, and a breadth-first search looks
for a shortest plan that is valid without it and not with it. Damage at random finds few of these:
a plan that uses a hole must reach its goal through it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from planners.checking.replay import replay
from planners.errors import InvalidInput, NotJudged
from planners.pddl import ActionSchema, Domain, Task
from planners.pddl.formulas import OBJECT
from planners.pddl.grounding import Grounded
from planners.pddl.literals import goal_atoms, literals
from planners.pddl.sexpr import show
from planners.records import Action, Atom, Formula, Outcome, Plan

STATES = 5000
"""States that a search looks at before it gives up."""
TASKS = 12
"""Tasks that are searched for each hole, at most."""


@dataclass(frozen=True, slots=True)
class Exploit:
    """A plan that is valid for a checker that overlooks `hole`, and for no other."""

    hole: str
    task: Task
    plan: Plan


def exploits(tasks: Sequence[Task], states: int = STATES) -> Iterator[Exploit]:
    """An exploit for every hole of the tasks' common domain for which the search finds one.

    Tasks should be small, the smallest first; TASKS of them are searched. Yields nothing for a
    domain or goals that have more than literals.
    """
    try:
        some = [_Seeing(task) for task in tasks[:TASKS]]
        for task in tasks[:TASKS]:
            Grounded(task)
    except InvalidInput:  # NotJudged too: conditions beyond literals are not searched
        return
    for hole, domain in _without(tasks[0].domain) if some else ():
        for seeing in some:
            if (plan := _search(seeing, replace(seeing.task, domain=domain), states)) is not None:
                yield Exploit(hole, seeing.task, plan)
                break
    for seeing in some[:1]:
        task = seeing.task
        goals = goal_atoms(task.problem.goal)
        for goal in goals:
            left = ("and", *(other for other in goals if other != goal))
            blind = replace(task, problem=replace(task.problem, goal=left))
            if (plan := _search(seeing, blind, states)) is not None:
                yield Exploit(f"the goal {show(goal)}", task, plan)


def _without(domain: Domain) -> Iterator[tuple[str, Domain]]:
    """The domain without one of its parts at a time, each with the part's name."""

    def changed(schema: ActionSchema) -> Domain:
        return replace(domain, actions={**domain.actions, schema.name: schema})

    for schema in domain.actions.values():
        needs, forbids, _ = literals(schema.precondition)
        for part in [*needs, *(("not", atom) for atom in forbids)]:
            rest = _and(schema.precondition, part)
            name = f"the precondition {show(part)} of {schema.name}"
            yield name, changed(replace(schema, precondition=rest))
        for atom in literals(schema.effect)[1]:
            rest = _and(schema.effect, ("not", atom))
            name = f"that {schema.name} deletes {show(atom)}"
            yield name, changed(replace(schema, effect=rest))
        for number, (variable, kinds) in enumerate(schema.parameters):
            if kinds != (OBJECT,):
                wide = list(schema.parameters)
                wide[number] = (variable, (OBJECT,))
                name = f"the type of {variable} of {schema.name}"
                yield name, changed(replace(schema, parameters=tuple(wide)))


def _and(formula: Formula, part: Formula) -> Formula:
    """A conjunction of literals without one of them."""
    needs, forbids, _ = literals(formula)
    every = [*needs, *(("not", atom) for atom in forbids)]
    return ("and", *(one for one in every if one != part))


def _search(seeing: _Seeing, blind: Task, states: int) -> Plan | None:
    """A shortest plan that is valid for `blind` and not for the task itself; None if none is found.

    States of both are followed at once: what is false for one may be true for the other.
    """
    try:
        ground = Grounded(blind)
    except NotJudged:  # without a condition there may be far more actions
        return None
    goal = [atom for atom in goal_atoms(blind.problem.goal) if atom in ground.bits]
    if any(a not in ground.bits and a not in ground.static for a in goal_atoms(blind.problem.goal)):
        return None
    wanted, start = ground.mask(goal), (ground.init, seeing.init)
    parents: dict[tuple[int, int], tuple[tuple[int, int], Action] | None] = {start: None}
    queue = deque([start])
    while queue and len(parents) < states:
        node = queue.popleft()
        state, truth = node
        if state & wanted == wanted and not seeing.reached(truth):
            plan = _path(parents, node)
            assert replay(seeing.task, plan)[0] is not Outcome.VALID
            return plan
        for step, after in ground.successors(state):
            found = after, seeing.after(truth, step.action)
            if found not in parents:
                parents[found] = node, step.action
                queue.append(found)
    return None


def _path(
    parents: dict[tuple[int, int], tuple[tuple[int, int], Action] | None], node: tuple[int, int]
) -> Plan:
    actions = []
    while (step := parents[node]) is not None:
        node, action = step
        actions.append(action)
    return Plan(tuple(reversed(actions)))


WRONG = -1
"""The state of a task after an action that is not applicable in it."""


class _Seeing:
    """A task's states as bit masks, followed along actions that may not be applicable."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._bits: dict[Atom, int] = {}
        self._steps: dict[Action, tuple[int, int, int, int] | None] = {}
        self.init = self._mask(task.problem.init)
        self.goal = self._mask(goal_atoms(task.problem.goal))
        self.kinds = {name: task.domain.ancestors(kind) for name, kind in task.problem.objects}

    def reached(self, state: int) -> bool:
        """Whether the goal holds."""
        return state != WRONG and state & self.goal == self.goal

    def after(self, state: int, action: Action) -> int:
        """The state after an action; WRONG where it is not applicable."""
        if state == WRONG:
            return WRONG
        if action not in self._steps:
            self._steps[action] = self._compiled(action)
        step = self._steps[action]
        if step is None:
            return WRONG
        needs, forbids, deletes, adds = step
        if state & needs != needs or state & forbids:
            return WRONG
        return state & ~deletes | adds

    def _compiled(self, action: Action) -> tuple[int, int, int, int] | None:
        schema = self.task.domain.actions[action[0]]
        pairs = list(zip(schema.parameters, action[1:], strict=True))
        if any(self.kinds[name].isdisjoint(kinds) for (_, kinds), name in pairs):
            return None
        names = {variable: name for (variable, _), name in pairs}
        needs, forbids, _ = literals(schema.precondition)
        adds, deletes, _ = literals(schema.effect)
        masks = [
            self._mask(tuple(names.get(word, word) for word in atom) for atom in atoms)
            for atoms in (needs, forbids, deletes, adds)
        ]
        return masks[0], masks[1], masks[2], masks[3]

    def _mask(self, atoms: Iterator[Atom] | Sequence[Atom]) -> int:
        mask = 0
        for atom in atoms:
            mask |= 1 << self._bits.setdefault(atom, len(self._bits))
        return mask
