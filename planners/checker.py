"""The plan checker: exact PDDL semantics over a task read once, with a memo from ground action to
effect.

States are sets of small integers (one an atom). The first time a ground action is seen it is
checked (name, arity, objects, types) and compiled to four sets, and to closures for whatever is not
a plain literal; every later use costs four set operations. Deletes come before adds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from planners.conditions import Binding, Conflict, World, changes, holds, substitute, value_of
from planners.pddl import ActionSchema, Domain, Task, read_task
from planners.records import Action, Atom, Formula, Outcome, Plan, Verdict
from planners.sexpr import show

CHECKER = "posterity"
CHECKER_VERSION = "1"

Ids = frozenset[int]


@dataclass(frozen=True, slots=True)
class Step:
    """A compiled ground action: what must be in the state, must not be, leaves, and comes.

    `schema` is set where conditions or effects go beyond plain literals; they are then evaluated.
    """

    needs: Ids
    forbids: Ids
    deletes: Ids
    adds: Ids
    schema: ActionSchema | None
    binding: Binding


@dataclass(frozen=True, slots=True)
class Fault:
    """A ground action that cannot be one of this task."""

    outcome: Outcome
    detail: str


class Checker:
    """Judges plans of one task. Reading is done once; `check` may be called any number of times."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._ids: dict[Atom, int] = {}
        self._atoms: list[Atom] = []
        self._memo: dict[Action, Step | Fault] = {}
        self._kinds = {name: task.domain.ancestors(kind) for name, kind in task.problem.objects}
        self._objects = tuple(task.problem.objects)
        self._init = self._numbers(task.problem.init)
        self._goal_needs, self._goal_forbids, self._goal_rest = self._split(task.problem.goal, {})

    def check(self, plan: Plan) -> Verdict:
        """The verdict on a plan: VALID, or the first thing that is wrong with it."""
        state = set(self._init)
        values = dict(self.task.values)
        memo = self._memo
        for index, action in enumerate(plan.actions):
            step = memo.get(action)
            if step is None:
                step = memo[action] = self._compile(action)
            if isinstance(step, Fault):
                return self._verdict(step.outcome, index, step.detail)
            if not (step.needs <= state and step.forbids.isdisjoint(state)):
                return self._verdict(Outcome.PRECONDITION_FAILED, index, self._unmet(step, state))
            if step.schema is None:
                state -= step.deletes
                state |= step.adds
                continue
            failure = self._apply(step.schema, step.binding, state, values)
            if failure is not None:
                return self._verdict(Outcome.PRECONDITION_FAILED, index, failure)
        return self._judge_goal(plan, state, values)

    def check_many(self, plans: Iterable[Plan]) -> list[Verdict]:
        """The verdict on each plan, in order."""
        return [self.check(plan) for plan in plans]

    # ------------------------------------------------------------ compiling

    def _number(self, atom: Atom) -> int:
        found = self._ids.get(atom)
        if found is None:
            found = self._ids[atom] = len(self._atoms)
            self._atoms.append(atom)
        return found

    def _numbers(self, atoms: Iterable[Atom]) -> Ids:
        return frozenset(map(self._number, atoms))

    def _ground(self, atoms: Iterable[Atom], binding: Binding) -> Ids:
        return self._numbers(substitute(atom, binding) for atom in atoms)

    def _compile(self, action: Action) -> Step | Fault:
        """Check a ground action against its schema and compile it."""
        schema = self.task.domain.actions.get(action[0])
        if schema is None:
            detail = (
                f"{action[0]!r} is no action of {self.task.domain.name}{_look_alike(action[0])}"
            )
            return Fault(Outcome.UNKNOWN_ACTION, detail)
        arguments = action[1:]
        if len(arguments) != len(schema.parameters):
            return Fault(
                Outcome.WRONG_ARITY,
                f"{schema.name} takes {len(schema.parameters)} arguments, found {len(arguments)}",
            )
        for argument in arguments:
            if argument not in self._kinds:
                detail = f"{argument!r} is no object of this task{_look_alike(argument)}"
                return Fault(Outcome.UNKNOWN_OBJECT, detail)
        for (name, kinds), argument in zip(schema.parameters, arguments, strict=True):
            if self._kinds[argument].isdisjoint(kinds):
                return Fault(
                    Outcome.WRONG_TYPE, f"{argument} is not of type {' or '.join(kinds)} ({name})"
                )
        binding = {name: a for (name, _), a in zip(schema.parameters, arguments, strict=True)}
        needs, forbids, adds, deletes, simple = _plain(self.task.domain, schema.name)
        return Step(
            needs=self._ground(needs, binding),
            forbids=self._ground(forbids, binding),
            deletes=self._ground(deletes, binding),
            adds=self._ground(adds, binding),
            schema=None if simple else schema,
            binding=binding,
        )

    def _split(self, formula: Formula, binding: Binding) -> tuple[Ids, Ids, list[Formula]]:
        """A condition as atoms needed, atoms forbidden, and everything else."""
        needs, forbids, rest = literals(formula)
        return self._ground(needs, binding), self._ground(forbids, binding), rest

    # ------------------------------------------------------------ beyond plain literals

    def _world(self, state: set[int], values: dict[Atom, float]) -> World:
        return World(
            lambda atom: self._ids.get(atom, -1) in state, values, self._kinds, self._objects
        )

    def _apply(
        self, schema: ActionSchema, binding: Binding, state: set[int], values: dict[Atom, float]
    ) -> str | None:
        """Apply a general action in place; the unmet condition where it does not apply."""
        world = self._world(state, values)
        for part in _plain_rest(self.task.domain, schema.name):
            if not holds(part, binding, world):
                return show(substitute(part, binding))
        try:
            adds, deletes, assigned = changes(schema.effect, binding, world)
        except Conflict as conflict:
            return str(conflict)
        state.difference_update(map(self._number, deletes))
        state.update(map(self._number, adds))
        values.update(assigned)
        return None

    # ------------------------------------------------------------ verdicts

    def _judge_goal(self, plan: Plan, state: set[int], values: dict[Atom, float]) -> Verdict:
        missing = [show(self._atoms[i]) for i in sorted(self._goal_needs - state)]
        missing += [f"(not {show(self._atoms[i])})" for i in sorted(self._goal_forbids & state)]
        if self._goal_rest:
            world = self._world(state, values)
            missing += [show(part) for part in self._goal_rest if not holds(part, {}, world)]
        if missing:
            return self._verdict(Outcome.GOAL_NOT_REACHED, None, " ".join(missing))
        cost: float | None = float(len(plan))
        if self.task.metric is not None:
            cost = value_of(self.task.metric, {}, self._world(state, values))
        return Verdict(Outcome.VALID, None, "", cost, CHECKER, CHECKER_VERSION)

    def _unmet(self, step: Step, state: set[int]) -> str:
        missing = [show(self._atoms[i]) for i in sorted(step.needs - state)]
        missing += [f"(not {show(self._atoms[i])})" for i in sorted(step.forbids & state)]
        return " ".join(missing)

    def _verdict(self, outcome: Outcome, step: int | None, detail: str) -> Verdict:
        return Verdict(outcome, step, detail, None, CHECKER, CHECKER_VERSION)


def _look_alike(name: str) -> str:
    """A hint where a name has letters that only look like those of PDDL."""
    return "" if name.isascii() else " (it has characters outside ASCII, which are not folded)"


def literals(formula: Formula) -> tuple[list[Atom], list[Atom], list[Formula]]:
    """Split a conjunction into atoms, negated atoms, and the parts that are neither."""
    needs: list[Atom] = []
    forbids: list[Atom] = []
    rest: list[Formula] = []
    stack = [formula]
    while stack:
        part = stack.pop()
        if part[0] == "and":
            stack.extend(reversed(part[1:]))
        elif is_atom(part):
            needs.append(part)
        elif part[0] == "not" and is_atom(part[1]):
            forbids.append(part[1])
        else:
            rest.append(part)
    return needs, forbids, rest


def is_atom(formula: Formula) -> bool:
    """Whether a checked formula is a plain atom."""
    return formula[0] not in ("and", "or", "not", "imply", "forall", "exists", "=", "compare")


@lru_cache(maxsize=4096)
def _plain(
    domain: Domain, name: str
) -> tuple[list[Atom], list[Atom], list[Atom], list[Atom], bool]:
    """A schema's literal conditions and effects, and whether that is all there is to it.

    Add and delete lists are empty where the schema is not plain: its effects are then evaluated.
    """
    schema = domain.actions[name]
    needs, forbids, rest = literals(schema.precondition)
    adds, deletes, other = literals(schema.effect)
    plain_effect = all(
        part[0] not in ("forall", "when") and not _numeric(part) for part in other + adds
    )
    if rest or other or not plain_effect:
        return needs, forbids, [], [], False
    # An atom both deleted and added by the same ground action stays: deletes come first.
    return needs, forbids, adds, deletes, True


@lru_cache(maxsize=4096)
def _plain_rest(domain: Domain, name: str) -> list[Formula]:
    """The conditions of a schema that are not literals."""
    return literals(domain.actions[name].precondition)[2]


def _numeric(part: Formula) -> bool:
    return part[0] in ("assign", "increase", "decrease", "scale-up", "scale-down")


@lru_cache(maxsize=1024)
def checker_for(domain_text: str, problem_text: str) -> Checker:
    """The checker of a task given as text; kept, since reading costs more than a check."""
    return Checker(read_task(domain_text, problem_text))
