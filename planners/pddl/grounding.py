"""A task's ground actions as bit masks: to walk and search through many states fast.

Only for domains whose conditions and effects are plain literals, as in all ten of the registry. A
state is an integer with a bit for each atom that some action changes; what never changes is looked
at once, while grounding.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import chain
from operator import itemgetter, or_
from typing import NamedTuple

from planners.errors import NotJudged
from planners.pddl.conditions import changing
from planners.pddl.literals import literals
from planners.pddl.reader import ActionSchema, Domain, Task
from planners.records import Action, Atom

Env = dict[str, str]
Atoms = tuple[Atom, ...]
Objects = tuple[tuple[str, str], ...]
KEPT = 64
"""Kinds of rooms of which what they share is kept, and as many sets of static facts of each."""


class GroundAction(NamedTuple):
    """A ground action: bits that must be set, must not be, are cleared (first), and are set."""

    action: Action
    needs: int
    forbids: int
    deletes: int
    adds: int


Successors = list[tuple[GroundAction, int]]


class Grounded:
    """The ground actions of a task and its initial state. Raises NotJudged beyond literals.

    `bits` are the atoms that actions change, those of the initial state first. Tasks of the same
    objects share their numbers, and what else does not differ: most of a room is like the last.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        kind = _kind(task.domain, task.problem.objects)
        self.static = [atom for atom in task.problem.init if atom[0] not in kind.changed]
        init = [atom for atom in task.problem.init if atom[0] in kind.changed]
        frequency = Counter(atom[0] for atom in task.problem.init)
        groups = kind.groups(self.static, frequency)
        said = dict.fromkeys(chain(init, *[group.atoms for group in groups]))
        self.bits = {atom: kind.number(atom) for atom in said}
        self.init = self.mask(init)
        self._buckets: dict[int, list[GroundAction]] = defaultdict(list)
        for group in groups:
            for pivot, steps in group.buckets.items():
                self._buckets[pivot].extend(steps)
        self._successors: dict[int, Successors] = {}

    def mask(self, atoms: Iterable[Atom]) -> int:
        """The bits of some of its atoms."""
        return _union(1 << self.bits[atom] for atom in atoms)

    def mask_where(self, wanted: Callable[[Atom], bool]) -> int:
        """The bits of every changing atom that is wanted."""
        return sum(1 << bit for atom, bit in self.bits.items() if wanted(atom))

    def atoms(self, state: int) -> list[Atom]:
        """The atoms of a state that actions change, in their order."""
        return [atom for atom, bit in self.bits.items() if state >> bit & 1]

    def applicable(self, state: int) -> list[GroundAction]:
        """Every ground action that can be done, in a fixed order."""
        return [step for step, _ in self.successors(state)]

    def successors(self, state: int) -> Successors:
        """Every ground action that can be done, with the state after it; kept for each state."""
        found = self._successors.get(state)
        if found is None:
            found = self._successors[state] = [
                (step, state & ~step.deletes | step.adds)
                for pivot, steps in self._buckets.items()
                if state & pivot == pivot
                for step in steps
                if state & step.needs == step.needs and not state & step.forbids
            ]
        return found

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


@dataclass(frozen=True, eq=False)
class Group:
    """The ground actions of one schema under some static facts: what they say, in order, and by a
    bit that each of them needs.
    """

    atoms: Atoms
    buckets: dict[int, list[GroundAction]]


class Schema(NamedTuple):
    """An action schema's literals by whether actions change them; `fixed` and `never` are static
    conditions, `said` the predicates of those.
    """

    schema: ActionSchema
    needs: list[Atom]
    forbids: list[Atom]
    deletes: list[Atom]
    adds: list[Atom]
    fixed: list[Atom]
    never: list[Atom]
    said: frozenset[str]

    def literals(self) -> Iterable[Atom]:
        """All of them."""
        return chain(self.needs, self.forbids, self.deletes, self.adds, self.fixed, self.never)


class Kind:
    """What tasks of the same domain and objects share."""

    def __init__(self, domain: Domain, objects: Objects) -> None:
        self.changed = changing(domain)
        self._kinds = {name: domain.ancestors(kind) for name, kind in objects}
        self._schemas = [_schema(schema, self.changed) for schema in domain.actions.values()]
        self._bits: dict[Atom, int] = {}
        self._group = lru_cache(KEPT)(self._ground)

    def number(self, atom: Atom) -> int:
        """The bit of an atom; a new one gets the next."""
        return self._bits.setdefault(atom, len(self._bits))

    def groups(self, static: list[Atom], frequency: Counter[str]) -> tuple[Group, ...]:
        """The ground actions of each schema, where these facts hold and never change.

        The rarest kind of fact makes the smallest buckets (where the robot is, not what is clear).
        """
        return tuple(
            self._group(
                index,
                tuple(sorted(schema.needs, key=lambda atom: frequency[atom[0]])),
                tuple([atom for atom in static if atom[0] in schema.said]),
            )
            for index, schema in enumerate(self._schemas)
        )

    def _ground(self, index: int, needs: Atoms, static: Atoms) -> Group:
        """Bind what a schema's static conditions bind, then the rest by type; number its atoms."""
        schema, atoms = self._schemas[index], dict[Atom, int]()
        parts = (needs, schema.forbids, schema.deletes, schema.adds)
        filled = [[_filled(atom) for atom in part] for part in parts]
        variables = [variable for variable, _ in schema.schema.parameters]
        buckets: dict[int, list[GroundAction]] = defaultdict(list)
        for env in self._bindings(schema, static):
            bits = [[self._bit(fill(env), atoms) for fill in part] for part in filled]
            action = (schema.schema.name, *[env[variable] for variable in variables])
            step = GroundAction(action, *map(_union, bits))
            buckets[bits[0][0] if needs else 0].append(step)
        return Group(tuple(atoms), buckets)

    def _bit(self, atom: Atom, said: dict[Atom, int]) -> int:
        """The mask of an atom, which is said from now on."""
        if atom not in said:
            said[atom] = 1 << self.number(atom)
        return said[atom]

    def _bindings(self, schema: Schema, static: Atoms) -> list[Env]:
        """Every binding under which a schema's static conditions hold."""
        words = {word for atom in schema.literals() for word in atom}
        themselves = {word: word for word in words.difference(dict(schema.schema.parameters))}
        found = _bindings(schema.schema, schema.fixed, Facts(static), self._kinds, themselves)
        if not schema.never:
            return found
        true, never = set(static), [_filled(atom) for atom in schema.never]
        return [env for env in found if not any(fill(env) in true for fill in never)]


_kind = lru_cache(KEPT)(Kind)


def _schema(schema: ActionSchema, changed: frozenset[str]) -> Schema:
    needs, forbids, rest = literals(schema.precondition)
    adds, deletes, other = literals(schema.effect)
    words = [*needs, *forbids, *adds, *deletes]
    if rest or other or any(not isinstance(word, str) for atom in words for word in atom):
        raise NotJudged(f"action {schema.name!r} has more than literals, so it is not grounded")
    fixed = [atom for atom in needs if atom[0] not in changed]
    never = [atom for atom in forbids if atom[0] not in changed]
    return Schema(
        schema,
        [atom for atom in needs if atom[0] in changed],
        [atom for atom in forbids if atom[0] in changed],
        deletes,
        adds,
        fixed,
        never,
        frozenset(atom[0] for atom in (*fixed, *never)),
    )


def _union(masks: Iterable[int]) -> int:
    return reduce(or_, masks, 0)


def _filled(atom: Atom) -> Callable[[Env], Atom]:
    """An atom with what a binding has in the place of its words."""
    return itemgetter(*atom) if len(atom) > 1 else lambda env: atom


def reduced(path: list[GroundAction], start: int, goal: int) -> list[GroundAction]:
    """The path without what the goal can do without: greedy action elimination.

    Each action in turn is left out together with every later one that then cannot be done; where
    the goal is still reached, they stay out (Nakhost and Mueller, ICAPS 2010).
    """
    index, state = 0, start
    while index < len(path):
        after, later = _run(path[index + 1 :], state)
        if after & goal == goal:
            path = path[:index] + later
        else:
            step = path[index]
            state = state & ~step.deletes | step.adds
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
