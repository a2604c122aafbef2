"""Which ground actions can be done in a state: the conditions of each schema joined with its facts.

Used to walk at random through a task's states. Literal conditions are matched against an index of
the state by predicate, so the work grows with what is true, not with all bindings; what is no plain
literal is left to the naive replay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from random import Random

from planners.checking.replay import Env, Replay, ground
from planners.pddl import ActionSchema, Task
from planners.pddl.literals import literals
from planners.records import Action, Atom, Plan

Index = dict[str, list[Atom]]


class Walker(Replay):
    """A task's state that can be walked through at random."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.conditions = {
            schema.name: literals(schema.precondition) for schema in task.domain.actions.values()
        }

    def applicable(self) -> list[Action]:
        """Every ground action that can be done now, in a fixed order."""
        index: Index = defaultdict(list)
        for atom in sorted(self.state):
            index[atom[0]].append(atom)
        return [
            (schema.name, *(env[variable] for variable, _ in schema.parameters))
            for schema in self.task.domain.actions.values()
            for env in self._bindings(schema, index)
        ]

    def _bindings(self, schema: ActionSchema, index: Index) -> Iterator[Env]:
        """Bindings of a schema whose whole precondition holds."""
        needs, forbids, rest = self.conditions[schema.name]
        types = dict(schema.parameters)
        seen: set[tuple[str, ...]] = set()
        for env in self._join(needs, {}, index):
            free = [(v, kinds) for v, kinds in schema.parameters if v not in env]
            for full in self.spread(free, env):
                key = tuple(full[variable] for variable, _ in schema.parameters)
                typed = all(self.kinds[full[v]] & set(kinds) for v, kinds in types.items())
                if key in seen or not typed or any(ground(a, full) in self.state for a in forbids):
                    continue
                seen.add(key)
                if all(self.true(part, full) for part in rest):
                    yield full

    def _join(self, needs: list[Atom], env: Env, index: Index) -> Iterator[Env]:
        """Bindings under which all atoms are facts; the atom with most bound arguments goes
        first.
        """
        if not needs:
            yield env
            return
        first = max(needs, key=lambda a: sum(t in env or not t.startswith("?") for t in a[1:]))
        others = [atom for atom in needs if atom is not first]
        for fact in index.get(first[0], ()):
            bound = _match(first, fact, env)
            if bound is not None:
                yield from self._join(others, bound, index)


def _match(atom: Atom, fact: Atom, env: Env) -> Env | None:
    """The binding extended so that the atom is the fact, or None."""
    bound = dict(env)
    for term, value in zip(atom[1:], fact[1:], strict=True):
        if bound.get(term, value if term.startswith("?") else term) != value:
            return None
        if term.startswith("?"):
            bound[term] = value
    return bound


def random_walk(task: Task, length: int, rng: Random) -> tuple[Plan, set[Atom]]:
    """A random walk of at most `length` actions from the initial state, and the state it ends
    in.
    """
    walker = Walker(task)
    actions: list[Action] = []
    for _ in range(length):
        options = walker.applicable()
        if not options:
            break
        actions.append(rng.choice(options))
        walker.step(*actions[-1])
    return Plan(tuple(actions)), walker.state
