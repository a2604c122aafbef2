"""The plan checker: exact PDDL semantics, with a memo of compiled ground actions.

States are sets of small integers, one per atom. A ground action is checked (name, arity, objects,
types) and compiled to four sets when it is first seen. Every later use costs four set operations,
unless it has more than plain literals, which is evaluated. Deletes come before adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from threading import TIMEOUT_MAX, Lock
from time import monotonic
from typing import NamedTuple

from planners.clock import OUT_OF_TIME, Clock
from planners.errors import NotJudged
from planners.pddl import ActionSchema, Domain, Task, read_task
from planners.pddl.conditions import Conflict, World, changes, derive, holds, value_of
from planners.pddl.formulas import ASSIGNMENTS, Number
from planners.pddl.literals import literals
from planners.pddl.printing import formula_text
from planners.records import Action, Atom, Formula, Outcome, Plan, Verdict

CHECKER = "posterity"
CHECKER_VERSION = "5"
PLAN_SECONDS = 10.0
"""Time limit for judging one plan, where none is given."""
Ids = frozenset[int]
Words = tuple[str, ...]
Pick = Callable[[Words], Atom]
"""From an action's arguments, followed by the schema's own words, to one ground atom."""


class Numbers(dict[Atom, int]):
    """A number for every atom, in order of first use; `atoms` maps numbers back to atoms."""

    def __init__(self) -> None:
        self.atoms: list[Atom] = []

    def __missing__(self, atom: Atom) -> int:
        self[atom] = number = len(self.atoms)
        self.atoms.append(atom)
        return number

    def of(self, atoms: Iterable[Atom]) -> Ids:
        """The numbers of several atoms."""
        return frozenset(map(self.__getitem__, atoms))

    def show(self, numbers: Iterable[int]) -> list[str]:
        """Atoms as PDDL, sorted by text, since numbers depend on the plans judged before."""
        return sorted(f"({' '.join(self.atoms[number])})" for number in numbers)


class Fault(NamedTuple):
    """Why a ground action does not exist in this task, whatever the state."""

    outcome: Outcome
    detail: str


class Step(NamedTuple):
    """A compiled ground action: atoms that must hold, must not hold, are deleted, are added.

    `schema` is set if conditions or effects go beyond plain literals; they are then evaluated.
    A step with a `fault` needs NEVER, so the fault is looked for only after a failed condition.
    """

    needs: Ids
    forbids: Ids
    deletes: Ids
    adds: Ids
    schema: ActionSchema | None
    arguments: Words
    fault: Fault | None


NONE: Ids = frozenset()
NEVER: Ids = frozenset((-1,))
"""A condition that no state meets: atoms are numbered from 0."""


class Checker:
    """Judges plans of one task, one at a time, whichever thread asks; compiled actions are kept
    from one `check` to the next.

    A plan gets at most `timeout` seconds; None is no limit.
    """

    def __init__(self, task: Task, timeout: float | None = PLAN_SECONDS) -> None:
        self.task, self.timeout = task, timeout
        self._clock, self._lock, self._numbers = Clock(), Lock(), Numbers()
        self._memo: dict[Action, Step] = {}
        above = {kind: task.domain.ancestors(kind) for _, kind in task.problem.objects}
        self._kinds = {name: above[kind] for name, kind in task.problem.objects}
        self.init = self._numbers.of(task.problem.init)
        needs, forbids, self._goal_rest = _stated(task.domain, task.problem.goal)
        self._goal_needs, self._goal_forbids = map(self._numbers.of, (needs, forbids))

    @property
    def schemas(self) -> Mapping[str, ActionSchema]:
        """The domain's actions by name, by which a plan is found in an answer."""
        return self.task.domain.actions

    def check(self, plan: Plan) -> Verdict:
        """The verdict on a plan: VALID, or the first fault found in it.

        Raises NotJudged if it takes longer than the timeout, or its numbers grow beyond all bounds.
        """
        seconds = TIMEOUT_MAX if self.timeout is None else min(self.timeout, TIMEOUT_MAX)
        if not self._lock.acquire(timeout=seconds):  # another thread's plan has it
            raise NotJudged(OUT_OF_TIME)
        try:
            self._clock = Clock(monotonic() + seconds)
            return self._judged(plan)
        except RecursionError:
            raise NotJudged("a condition or number of this task nests too deeply") from None
        finally:
            self._lock.release()

    def _judged(self, plan: Plan) -> Verdict:
        state, values, memo = set(self.init), dict(self.task.values), self._memo
        for index, action in enumerate(plan.actions):
            if not index & 255:
                self._clock.look()
            # 1. The first time a ground action is seen, it is checked and compiled.
            step = memo.get(action)
            if step is None:
                self._clock.tick()
                step = memo[action] = self._compile(action)
            needs, forbids, deletes, adds, schema, arguments, fault = step
            # 2. Its literal conditions are two set operations. A fault needs what no state has.
            if not (needs <= state and forbids.isdisjoint(state)):
                if fault is not None:
                    return self._verdict(fault.outcome, index, fault.detail)
                unmet = " ".join(self._unmet(needs, forbids, state))
                return self._verdict(Outcome.PRECONDITION_FAILED, index, unmet)
            # 3. Effects that are plain literals are two more: deletes before adds.
            if schema is None:
                state -= deletes
                state |= adds
                continue
            # 4. Quantifiers, conditional effects and numbers are evaluated in this state.
            self._clock.look()
            failure = self._apply(schema, arguments, state, values)
            if failure is not None:
                return self._verdict(Outcome.PRECONDITION_FAILED, index, failure)
        return self._judge_goal(plan, state, values)

    def literal(self, plan: Plan) -> tuple[list[Step], Ids] | None:
        """A plan's steps and the goal's atoms, numbered as in `init`.

        None if a step has a fault or more than plain literals, or the goal more than atoms.
        """
        steps = [self._compile(action) for action in plan.actions]
        if self._goal_rest or self._goal_forbids:
            return None
        if any(step.schema is not None or step.fault is not None for step in steps):
            return None
        return steps, self._goal_needs

    # ------------------------------------------------------------ compiling

    def _compile(self, action: Action) -> Step:
        """Check a ground action against its schema and compile it."""
        schema, arguments = self.task.domain.actions.get(action[0]), action[1:]
        fault = self._fault(schema, action)
        if schema is None or fault is not None:
            return Step(NEVER, NONE, NONE, NONE, None, arguments, fault)
        plain, of = _plain(self.task.domain, schema.name), self._numbers.of
        words = arguments + plain.words
        return Step(
            of([pick(words) for pick in plain.needs]),
            of([pick(words) for pick in plain.forbids]) if plain.forbids else NONE,
            of([pick(words) for pick in plain.deletes]),
            of([pick(words) for pick in plain.adds]),
            schema if plain.partly else None,
            arguments,
            None,
        )

    def _fault(self, schema: ActionSchema | None, action: Action) -> Fault | None:
        """The fault that makes a ground action wrong in every state, or None."""
        if schema is None:
            detail = (
                f"{action[0]!r} is not an action of {self.task.domain.name}{_look_alike(action[0])}"
            )
            return Fault(Outcome.UNKNOWN_ACTION, detail)
        arguments, kinds_of = action[1:], self._kinds
        if len(arguments) != len(schema.parameters):
            return Fault(
                Outcome.WRONG_ARITY,
                f"{schema.name} takes {len(schema.parameters)} arguments, found {len(arguments)}",
            )
        for argument in arguments:
            if argument not in kinds_of:
                detail = f"{argument!r} is not an object of this task{_look_alike(argument)}"
                return Fault(Outcome.UNKNOWN_OBJECT, detail)
        for (name, kinds), argument in zip(schema.parameters, arguments, strict=True):
            if kinds_of[argument].isdisjoint(kinds):
                detail = f"{argument} is not of type {' or '.join(kinds)} ({name})"
                return Fault(Outcome.WRONG_TYPE, detail)
        return None

    # ------------------------------------------------------------ beyond plain literals

    def _world(self, state: set[int], values: dict[Atom, Number]) -> World:
        """A state as conditions see it, with the atoms that the domain's rules derive in it."""
        plain = World(
            lambda atom: self._numbers.get(atom, -1) in state,
            values,
            self._kinds,
            self.task.problem.objects,
            self._clock,
        )
        if not self.task.domain.rules:
            return plain
        derived = derive(self.task.domain, plain)
        return replace(plain, has=lambda atom: atom in derived or plain.has(atom))

    def _apply(
        self, schema: ActionSchema, arguments: Words, state: set[int], values: dict[Atom, Number]
    ) -> str | None:
        """Apply an action with more than literals in place, or return its unmet condition."""
        binding = {name: a for (name, _), a in zip(schema.parameters, arguments, strict=True)}
        world = self._world(state, values)
        # `check` has tested the literal conditions; only the rest is left.
        for part in _plain(self.task.domain, schema.name).rest:
            if not holds(part, binding, world):
                return formula_text(part, binding)
        try:
            adds, deletes, assigned = changes(schema.effect, binding, world)
        except Conflict as conflict:
            return str(conflict)
        state -= self._numbers.of(deletes)
        state |= self._numbers.of(adds)
        values.update(assigned)
        return None

    # ------------------------------------------------------------ verdicts

    def _judge_goal(self, plan: Plan, state: set[int], values: dict[Atom, Number]) -> Verdict:
        missing = self._unmet(self._goal_needs, self._goal_forbids, state)
        if self._goal_rest:
            world = self._world(state, values)
            # In one order, as a task is the same whatever the order of its goals.
            rest = (part for part in self._goal_rest if not holds(part, {}, world))
            missing += sorted(map(formula_text, rest))
        if missing:
            return self._verdict(Outcome.GOAL_NOT_REACHED, None, " ".join(missing))
        cost: float | None = float(len(plan))
        if self.task.metric is not None:
            exact = value_of(self.task.metric, {}, self._world(state, values))
            cost = None if exact is None else _as_cost(exact)
        return self._verdict(Outcome.VALID, None, "", cost)

    def _unmet(self, needs: Ids, forbids: Ids, state: set[int]) -> list[str]:
        """The literals that do not hold, in PDDL."""
        wrong = self._numbers.show(forbids & state)
        return self._numbers.show(needs - state) + [f"(not {atom})" for atom in wrong]

    def _verdict(
        self, outcome: Outcome, step: int | None, detail: str, cost: float | None = None
    ) -> Verdict:
        """A verdict whose detail is followed by what the reader let pass."""
        told = filter(None, (detail, *(f"note: {note}" for note in self.task.notes)))
        return Verdict(outcome, step, "; ".join(told), cost, CHECKER, CHECKER_VERSION)


def _as_cost(exact: Number) -> float:
    """A cost as the nearest float, as it is stored. Raises NotJudged if it is beyond all floats."""
    try:
        return float(exact)
    except OverflowError:
        raise NotJudged("the cost of this plan is larger than 1e308") from None


def _look_alike(name: str) -> str:
    """A hint if a name has letters that may only look like ASCII letters, else ""."""
    return (
        ""
        if name.isascii()
        else " (it has characters outside ASCII, which are not converted to lower case)"
    )


@dataclass(frozen=True, slots=True)
class Plain:
    """The plain literals of a schema, ready to be grounded.

    `rest` are its other conditions. `partly` is set if conditions or effects go beyond literals;
    `adds` and `deletes` are then empty, and the whole effect is evaluated.
    """

    words: Words
    needs: list[Pick]
    forbids: list[Pick]
    deletes: list[Pick]
    adds: list[Pick]
    rest: list[Formula]
    partly: bool


@lru_cache(maxsize=4096)
def _plain(domain: Domain, name: str) -> Plain:
    """A schema's literal conditions and effects, cached."""
    schema = domain.actions[name]
    needs, forbids, rest = _stated(domain, schema.precondition)
    adds, deletes, other = literals(schema.effect)
    # `literals` takes (when ...) and assignments for atoms.
    partly = bool(rest or other) or any(
        part[0] in ("forall", "when") or part[0] in ASSIGNMENTS for part in adds
    )
    if partly:
        adds, deletes = [], []
    atoms = (needs, forbids, deletes, adds)
    variables = [variable for variable, _ in schema.parameters]
    known = {word: None for group in atoms for atom in group for word in atom}
    words = tuple(word for word in known if word not in variables)
    place = {word: index for index, word in enumerate((*variables, *words))}
    needed, forbidden, deleted, added = ([_pick(atom, place) for atom in group] for group in atoms)
    return Plain(words, needed, forbidden, deleted, added, rest, partly)


def _stated(domain: Domain, formula: Formula) -> tuple[list[Atom], list[Atom], list[Formula]]:
    """The literals of a condition, except those of derived predicates, which are in the rest."""
    needs, forbids, rest = literals(formula)
    if not (derived := domain.derived):
        return needs, forbids, rest
    rest += [atom for atom in needs if atom[0] in derived]
    rest += [("not", atom) for atom in forbids if atom[0] in derived]
    plain = [[atom for atom in part if atom[0] not in derived] for part in (needs, forbids)]
    return plain[0], plain[1], rest


def _pick(atom: Atom, place: dict[str, int]) -> Pick:
    """A function that makes the atom from words at their places."""
    if len(atom) == 1:
        return lambda words: atom
    return itemgetter(*(place[word] for word in atom))


@lru_cache(maxsize=1024)
def checker_for(
    domain_text: str, problem_text: str, timeout: float | None = PLAN_SECONDS
) -> Checker:
    """The checker of a task given as PDDL texts, cached, since reading costs more than a check."""
    return Checker(read_task(domain_text, problem_text), timeout)
