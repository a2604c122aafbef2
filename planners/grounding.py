"""A task's ground actions as bit masks: to walk and search through many states fast.

Only for domains whose conditions and effects are plain literals, as in all ten of the registry. A
state is an integer with a bit for each atom that some action changes; what never changes is looked
at once, while grounding.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from planners.checker import literals
from planners.conditions import changing
from planners.errors import NotJudged
from planners.pddl import ActionSchema, Domain, Task
from planners.records import Action, Atom

Env = dict[str, str]
Atoms = tuple[Atom, ...]
Objects = tuple[tuple[str, str], ...]
KEPT = 64
"""Schemas whose bindings are kept: rooms of one size differ in little but where things are."""


class GroundAction(NamedTuple):
    """A ground action: bits that must be set, must not be, are cleared (first), and are set."""

    action: Action
    needs: int
    forbids: int
    deletes: int
    adds: int


class Bound(NamedTuple):
    """A ground action: what changes and must hold, must not, is cleared (first), and is set."""

    action: Action
    needs: Atoms
    forbids: Atoms
    deletes: Atoms
    adds: Atoms


class Grounded:
    """The ground actions of a task and its initial state. Raises NotJudged beyond literals."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.bits: dict[Atom, int] = {}
        changed = changing(task.domain)
        self.static = [atom for atom in task.problem.init if atom[0] not in changed]
        self.init = self.mask(a for a in task.problem.init if a[0] in changed)
        frequency = Counter(atom[0] for atom in task.problem.init)
        self._buckets: dict[int, list[GroundAction]] = defaultdict(list)
        self._successors: dict[int, list[tuple[GroundAction, int]]] = {}
        for schema in task.domain.actions.values():
            needs = [atom for atom in _literals_of(schema)[0] if atom[0] in changed]
            # the rarest kind of fact makes the smallest buckets (where the robot is, not what is
            # clear)
            needs.sort(key=lambda atom: frequency[atom[0]])
            self._ground(
                bind(task.domain, schema, tuple(needs), task.problem.objects, tuple(self.static))
            )

    def mask(self, atoms: Iterable[Atom]) -> int:
        """The bits of some atoms; a new atom gets the next bit."""
        found, bits = 0, self.bits
        for atom in atoms:
            found |= 1 << bits.setdefault(atom, len(bits))
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

    def successors(self, state: int) -> list[tuple[GroundAction, int]]:
        """Every ground action that can be done, with the state after it; kept for each state."""
        if state not in self._successors:
            self._successors[state] = [
                (step, state & ~step.deletes | step.adds) for step in self.applicable(state)
            ]
        return self._successors[state]

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
            for step, after in self.successors(state):
                if after not in seen:
                    if len(seen) >= states:
                        return None
                    seen.add(after)
                    queue.append((after, [*path, step.action]))
        return None

    def _ground(self, found: Iterable[Bound]) -> None:
        """Number the atoms of bound actions."""
        mask, bits = self.mask, self.bits
        for action, needs, forbids, deletes, adds in found:
            step = GroundAction(action, mask(needs), mask(forbids), mask(deletes), mask(adds))
            self._buckets[1 << bits[needs[0]] if needs else 0].append(step)


@lru_cache(KEPT)
def bind(
    domain: Domain, schema: ActionSchema, needs: Atoms, objects: Objects, static: Atoms
) -> list[Bound]:
    """The ground actions of a schema: bind what its unchanging conditions bind, then the rest by
    type. `needs`: its changing conditions in the order that is wanted; `static`: what holds and
    never changes.
    """
    conditions, forbids, adds, deletes = _literals_of(schema)
    changed, facts = changing(domain), Facts(static)
    fixed = [atom for atom in conditions if atom[0] not in changed]
    never = [_filled(atom) for atom in forbids if atom[0] not in changed]
    true = set(static)
    forbids = [atom for atom in forbids if atom[0] in changed]
    parts = [[_filled(atom) for atom in part] for part in (needs, forbids, deletes, adds)]
    parameters = [variable for variable, _ in schema.parameters]
    words = {word for atom in (*conditions, *forbids, *deletes, *adds) for word in atom}
    themselves = {word: word for word in words.difference(parameters)}
    kinds = {name: domain.ancestors(kind) for name, kind in objects}
    return [
        Bound(
            (schema.name, *[env[variable] for variable in parameters]),
            *[tuple([fill(env) for fill in part]) for part in parts],
        )
        for env in _bindings(schema, fixed, facts, kinds, themselves)
        if not any(fill(env) in true for fill in never)
    ]


def _filled(atom: Atom) -> Callable[[Env], Atom]:
    """An atom with what a binding has in the place of its words."""
    return itemgetter(*atom) if len(atom) > 1 else lambda env: atom


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
    schema: ActionSchema, fixed: list[Atom], facts: Facts, kinds: dict[str, set[str]], start: Env
) -> list[Env]:
    """Every binding of a schema's parameters, beside those of `start`, under which its unchanging
    conditions hold.
    """
    ranges = {
        variable: {name for name, known in kinds.items() if not known.isdisjoint(wanted)}
        for variable, wanted in schema.parameters
    }
    envs = [start]
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
