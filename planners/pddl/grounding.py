"""Ground actions as bit masks, for fast random walks and search through many states.

Only for domains whose conditions and effects are plain literals, as in all ten of the registry. A
state is an integer with one bit per atom that some action changes. Static atoms, which no action
changes, are evaluated once, while grounding.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import chain, islice
from operator import itemgetter, or_
from typing import NamedTuple

from planners.errors import NotJudged
from planners.pddl.literals import literals
from planners.pddl.reader import ActionSchema, Domain, Task, changing
from planners.records import Action, Atom

Env = dict[str, str]
Atoms = tuple[Atom, ...]
Objects = tuple[tuple[str, str], ...]
MOST = 50_000
"""Ground actions of one schema, at most: they are kept, with about a kilobyte each."""
JOINED = 4 * MOST
"""Ways in which some of a schema's facts fit together, at most."""
KEPT = 64
"""Cache sizes: `Kind`s that are kept, and groups of ground actions that each `Kind` keeps."""


class GroundAction(NamedTuple):
    """A ground action: the bits that must be set, must be clear, are cleared (first), are set."""

    action: Action
    needs: int
    forbids: int
    deletes: int
    adds: int


Successors = list[tuple[GroundAction, int]]


class Grounded:
    """A task's initial state and ground actions. Raises NotJudged if it has more than literals.

    `bits` numbers the atoms that actions change, those of the initial state first. Tasks with the
    same domain and objects share bit numbers and ground actions through their `Kind`, because
    generated tasks differ little.
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
        """The bits of some atoms."""
        return _union(1 << self.bits[atom] for atom in atoms)

    def mask_where(self, wanted: Callable[[Atom], bool]) -> int:
        """The bits of every atom in `bits` for which `wanted` is true."""
        return sum(1 << bit for atom, bit in self.bits.items() if wanted(atom))

    def atoms(self, state: int) -> list[Atom]:
        """The atoms of a state, in the order of `bits`; static atoms are not among them."""
        return [atom for atom, bit in self.bits.items() if state >> bit & 1]

    def successors(self, state: int) -> Successors:
        """Every applicable ground action with the state after it; cached per state."""
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

        None if there is none, or if the search saw `states` states before it found one.
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
    """The ground actions of one schema under some static facts.

    `atoms` are the atoms they mention, in order. `buckets` groups the actions by one bit that each
    of them needs, so that a state without it skips the whole bucket.
    """

    atoms: Atoms
    buckets: dict[int, list[GroundAction]]


class Schema(NamedTuple):
    """An action schema's literals. `fixed` and `never` are its positive and negated static
    conditions, `said` their predicates; the other conditions and all effects can change.
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
        """All its literals, without their signs."""
        return chain(self.needs, self.forbids, self.deletes, self.adds, self.fixed, self.never)


class Kind:
    """Everything that tasks with the same domain and objects share: bit numbers, ground actions."""

    def __init__(self, domain: Domain, objects: Objects) -> None:
        if domain.rules:
            raise NotJudged(f"{domain.name} has derived predicates, so it is not grounded")
        self.changed = changing(domain)
        self._kinds = {name: domain.ancestors(kind) for name, kind in objects}
        self._schemas = [_schema(schema, self.changed) for schema in domain.actions.values()]
        self._bits: dict[Atom, int] = {}
        self._group = lru_cache(KEPT)(self._ground)

    def number(self, atom: Atom) -> int:
        """The bit number of an atom; a new atom gets the next number."""
        return self._bits.setdefault(atom, len(self._bits))

    def groups(self, static: list[Atom], frequency: Counter[str]) -> tuple[Group, ...]:
        """The ground actions of each schema, given the static facts.

        Conditions on rare predicates come first, since the first one chooses the bucket: where the
        robot is makes smaller buckets than which cells are clear.
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
        """Ground one schema: bind its parameters and number the atoms of its ground actions."""
        schema, atoms = self._schemas[index], dict[Atom, int]()
        parts = (needs, schema.forbids, schema.deletes, schema.adds)
        filled = [[_filled(atom) for atom in part] for part in parts]
        variables = [variable for variable, _ in schema.schema.parameters]
        buckets: dict[int, list[GroundAction]] = defaultdict(list)
        for env in self._bindings(schema, static):
            bits = [[self._bit(fill(env), atoms) for fill in part] for part in filled]
            action = (schema.schema.name, *[env[variable] for variable in variables])
            step = GroundAction(action, *map(_union, bits))
            buckets[bits[0][0] if needs else 0].append(step)  # mask 0 is in every state
        return Group(tuple(atoms), buckets)

    def _bit(self, atom: Atom, said: dict[Atom, int]) -> int:
        """The mask of an atom, which is added to `said`."""
        if atom not in said:
            said[atom] = 1 << self.number(atom)
        return said[atom]

    def _bindings(self, schema: Schema, static: Atoms) -> list[Env]:
        """Every binding under which a schema's static conditions hold."""
        # Predicates and constants stand for themselves, so that `_filled` can look up every word.
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
    # `literals` takes (when ...) and assignments for atoms; the nested tuples give them away.
    if rest or other or any(not isinstance(word, str) for atom in words for word in atom):
        raise NotJudged(
            f"action {schema.name!r} has other conditions or effects than literals, and only these "
            "are grounded"
        )
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
    """A function from a binding to the atom with its words replaced."""
    # itemgetter of one word gives a string, not a tuple; a lone predicate has nothing to replace.
    return itemgetter(*atom) if len(atom) > 1 else lambda env: atom


def reduced(path: list[GroundAction], start: int, goal: int) -> list[GroundAction]:
    """The path without actions that its goal does not need, by greedy action elimination.

    Each action in turn is left out, with every later one that then is not applicable. They stay
    out if the goal is still reached (Nakhost and Mueller, ICAPS 2010).
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
    """The state after a path whose inapplicable actions are skipped, and the actions that ran."""
    done = []
    for step in path:
        if state & step.needs == step.needs and not state & step.forbids:
            state = state & ~step.deletes | step.adds
            done.append(step)
    return state, done


def _bindings(
    schema: ActionSchema, fixed: list[Atom], facts: Facts, kinds: dict[str, set[str]], start: Env
) -> list[Env]:
    """Every binding of a schema's parameters, added to `start`, for which the conditions `fixed`
    are among the facts. Raises NotJudged where there are more than MOST.
    """
    ranges = {
        variable: {name for name, known in kinds.items() if not known.isdisjoint(wanted)}
        for variable, wanted in schema.parameters
    }
    envs = [start]
    bound: set[str] = set()
    waiting = list(fixed)
    while waiting and envs:
        # Join order: the most bound variables first, then the fewest facts, to keep `envs` small.
        atom = max(waiting, key=lambda a: (len(bound.intersection(a[1:])), -len(facts.of(a[0]))))
        waiting.remove(atom)
        known = [(i, term) for i, term in enumerate(atom) if i and term in bound]
        joined = (
            extended
            for env in envs
            for fact in facts.with_word(atom[0], *_first(known, env))
            if (extended := _match(atom, fact, env, ranges)) is not None
        )
        envs = list(islice(joined, JOINED + 1))
        if len(envs) > JOINED:
            raise NotJudged(f"facts of action {schema.name!r} join in more than {JOINED:,} ways")
        bound.update(term for term in atom[1:] if term in ranges)
    for variable, names in ranges.items():
        if variable not in bound:
            ordered = [name for name in kinds if name in names]
            if len(envs) * len(ordered) > MOST:
                raise NotJudged(f"action {schema.name!r} has more than {MOST:,} ground actions")
            envs = [{**env, variable: name} for env in envs for name in ordered]
    if len(envs) > MOST:
        raise NotJudged(f"action {schema.name!r} has more than {MOST:,} ground actions")
    return envs


def _first(known: list[tuple[int, str]], env: Env) -> tuple[int, str] | tuple[()]:
    """The first place of an atom whose object is already bound, with the object; or ()."""
    return (known[0][0], env[known[0][1]]) if known else ()


class Facts:
    """An index of facts by predicate, and by predicate and the object at one place."""

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
        """The facts of a predicate with `word` at `place` (from 1); all of them for place 0."""
        return self._by_word.get((predicate, place, word), []) if place else self.of(predicate)


def _match(atom: Atom, fact: Atom, env: Env, ranges: dict[str, set[str]]) -> Env | None:
    """The binding extended so that the atom becomes the fact, or None if they do not match."""
    extended = dict(env)
    for term, value in zip(atom[1:], fact[1:], strict=True):
        if term in ranges:
            if extended.setdefault(term, value) != value or value not in ranges[term]:
                return None
        elif term != value:
            return None
    return extended
