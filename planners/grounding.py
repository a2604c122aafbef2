"""A task's ground actions as bit masks: to walk and search through many states fast.

Only for domains whose conditions and effects are plain literals, as in all ten of the registry. A
state is an integer with a bit for each atom that some action changes; what never changes is looked
at once, while grounding.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from planners.checker import literals
from planners.conditions import changing
from planners.errors import NotJudged
from planners.pddl import ActionSchema, Task
from planners.records import Action, Atom

Env = dict[str, str]


class GroundAction(NamedTuple):
    """A ground action: bits that must be set, must not be, are cleared (first), and are set."""

    action: Action
    needs: int
    forbids: int
    deletes: int
    adds: int


class Grounded:
    """The ground actions of a task and its initial state. Raises NotJudged beyond literals."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.bits: dict[Atom, int] = {}
        schemas = {name: _literals_of(s) for name, s in task.domain.actions.items()}
        self.changing = changing(task.domain)
        facts = Facts(task.problem.init)
        self.static = [atom for atom in task.problem.init if atom[0] not in self.changing]
        self.init = self.mask(a for a in task.problem.init if a[0] in self.changing)
        kinds = {name: task.domain.ancestors(kind) for name, kind in task.problem.objects}
        self._buckets: dict[int, list[GroundAction]] = defaultdict(list)
        for schema in task.domain.actions.values():
            self._ground(schema, schemas[schema.name], facts, kinds)

    def mask(self, atoms: Iterable[Atom]) -> int:
        """The bits of some atoms; a new atom gets the next bit."""
        found = 0
        for atom in atoms:
            found |= 1 << self.bits.setdefault(atom, len(self.bits))
        return found

    def mask_where(self, wanted: Callable[[Atom], bool]) -> int:
        """The bits of every changing atom that is wanted."""
        return sum(1 << bit for atom, bit in self.bits.items() if wanted(atom))

    def atoms(self, state: int) -> list[Atom]:
        """The atoms of a state that actions change, in order of their bits."""
        return [atom for atom, bit in self.bits.items() if state >> bit & 1]

    def applicable(self, state: int) -> list[GroundAction]:
        """Every ground action that can be done, in a fixed order."""
        return [
            step
            for pivot, steps in self._buckets.items()
            if state & pivot == pivot
            for step in steps
            if state & step.needs == step.needs and not state & step.forbids
        ]

    def shortest(self, start: int, goal: int, below: int, states: int) -> list[Action] | None:
        """A shortest plan of fewer than `below` actions, by breadth-first search.

        None where there is none, or where `states` states were seen before one was found.
        """
        seen, queue = {start}, deque[tuple[int, list[Action]]]([(start, [])])
        while queue:
            state, path = queue.popleft()
            if state & goal == goal:
                return path
            if len(path) + 1 >= below:
                continue
            for step in self.applicable(state):
                after = state & ~step.deletes | step.adds
                if after not in seen:
                    if len(seen) >= states:
                        return None
                    seen.add(after)
                    queue.append((after, [*path, step.action]))
        return None

    def _ground(
        self,
        schema: ActionSchema,
        parts: tuple[list[Atom], list[Atom], list[Atom], list[Atom]],
        facts: Facts,
        kinds: dict[str, set[str]],
    ) -> None:
        """Ground one schema: bind what its unchanging conditions bind, then the rest by type."""
        needs, forbids, adds, deletes = parts
        fixed = [atom for atom in needs if atom[0] not in self.changing]
        needs = [atom for atom in needs if atom[0] in self.changing]
        # the rarest kind of fact makes the smallest buckets (where the robot is, not what is clear)
        needs.sort(key=lambda atom: len(facts.of(atom[0])))
        never = [atom for atom in forbids if atom[0] not in self.changing]
        forbids = [atom for atom in forbids if atom[0] in self.changing]
        true = {atom for kind in never for atom in facts.of(kind[0])}
        for env in _bindings(schema, fixed, facts, kinds):
            if any(_bound(atom, env) in true for atom in never):
                continue
            wanted = [1 << self.bits.setdefault(_bound(a, env), len(self.bits)) for a in needs]
            self._buckets[wanted[0] if wanted else 0].append(
                GroundAction(
                    (schema.name, *(env[variable] for variable, _ in schema.parameters)),
                    sum(set(wanted)),
                    self.mask([_bound(atom, env) for atom in forbids]),
                    self.mask([_bound(atom, env) for atom in deletes]),
                    self.mask([_bound(atom, env) for atom in adds]),
                )
            )


def reduced(path: list[GroundAction], start: int, goal: int) -> list[GroundAction]:
    """The path without what the goal can do without: greedy action elimination.

    Each action in turn is left out together with every later one that then cannot be done; where
    the goal is still reached, they stay out (Nakhost and Mueller, ICAPS 2010).
    """
    index = 0
    while index < len(path):
        state, kept = _run(path[:index], start)
        state, later = _run(path[index + 1 :], state)
        if state & goal == goal:
            path = kept + later
        else:
            index += 1
    return path


def _run(path: list[GroundAction], state: int) -> tuple[int, list[GroundAction]]:
    """The state after a path, and the actions of it that could be done."""
    done = []
    for step in path:
        if state & step.needs == step.needs and not state & step.forbids:
            state = state & ~step.deletes | step.adds
            done.append(step)
    return state, done


def _literals_of(
    schema: ActionSchema,
) -> tuple[list[Atom], list[Atom], list[Atom], list[Atom]]:
    needs, forbids, rest = literals(schema.precondition)
    adds, deletes, other = literals(schema.effect)
    words = [*needs, *forbids, *adds, *deletes]
    if rest or other or any(not isinstance(word, str) for atom in words for word in atom):
        raise NotJudged(f"action {schema.name!r} has more than literals, so it is not grounded")
    return needs, forbids, adds, deletes


def _bindings(
    schema: ActionSchema, fixed: list[Atom], facts: Facts, kinds: dict[str, set[str]]
) -> list[Env]:
    """Every binding of a schema's parameters under which its unchanging conditions hold."""
    ranges = {
        variable: {name for name, known in kinds.items() if not known.isdisjoint(wanted)}
        for variable, wanted in schema.parameters
    }
    envs: list[Env] = [{}]
    bound: set[str] = set()
    waiting = list(fixed)
    while waiting and envs:  # an atom that shares a variable with the last ones goes first
        atom = max(waiting, key=lambda a: (len(bound.intersection(a[1:])), -len(facts.of(a[0]))))
        waiting.remove(atom)
        known = [(i, term) for i, term in enumerate(atom) if i and term in bound]
        envs = [
            extended
            for env in envs
            for fact in facts.with_word(atom[0], *_first(known, env))
            if (extended := _match(atom, fact, env, ranges)) is not None
        ]
        bound.update(term for term in atom[1:] if term in ranges)
    for variable, names in ranges.items():
        if variable not in bound:
            ordered = [name for name in kinds if name in names]
            envs = [{**env, variable: name} for env in envs for name in ordered]
    return envs


def _first(known: list[tuple[int, str]], env: Env) -> tuple[int, str] | tuple[()]:
    """A place of an atom whose object is known already, with the object."""
    return (known[0][0], env[known[0][1]]) if known else ()


class Facts:
    """Facts by predicate, and by predicate and the object at one place."""

    def __init__(self, atoms: Iterable[Atom]) -> None:
        self._by_predicate: dict[str, list[Atom]] = defaultdict(list)
        self._by_word: dict[tuple[str, int, str], list[Atom]] = defaultdict(list)
        for atom in atoms:
            self._by_predicate[atom[0]].append(atom)
            for place, word in enumerate(atom[1:], 1):
                self._by_word[atom[0], place, word].append(atom)

    def of(self, predicate: str) -> list[Atom]:
        """The facts of a predicate."""
        return self._by_predicate.get(predicate, [])

    def with_word(self, predicate: str, place: int = 0, word: str = "") -> list[Atom]:
        """The facts of a predicate that have an object at a place; all where place is 0."""
        return self._by_word.get((predicate, place, word), []) if place else self.of(predicate)


def _match(atom: Atom, fact: Atom, env: Env, ranges: dict[str, set[str]]) -> Env | None:
    """The binding extended so that the atom is the fact, or None."""
    extended = dict(env)
    for term, value in zip(atom[1:], fact[1:], strict=True):
        if term in ranges:
            if extended.setdefault(term, value) != value or value not in ranges[term]:
                return None
        elif term != value:
            return None
    return extended


def _bound(atom: Atom, env: Env) -> Atom:
    return (atom[0], *[env.get(term, term) for term in atom[1:]])
