"""Advice on a plan that is not valid, as VAL gives it: the unmet literals, since when, what helps.

It replays the plan naively, so that it explains verdicts of the fast checker without its code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from time import monotonic

from planners.checking.checker import PLAN_SECONDS
from planners.checking.replay import Replay, ground
from planners.clock import Clock
from planners.errors import NotJudged
from planners.pddl import ActionSchema, Task
from planners.pddl.conditions import Conflict, World, solutions
from planners.pddl.conditions import changes as changes_of
from planners.pddl.formulas import FLUENT, number_text
from planners.pddl.literals import conjuncts, literals
from planners.pddl.printing import formula_text
from planners.pddl.sexpr import show
from planners.prompts.extraction import extract_lines
from planners.records import Action, Atom, Formula, Outcome, Plan

LISTED = 20
"""Known names listed where none looks like the unknown one."""
HELPERS = 3
"""Actions named that would make a literal true."""
Changes = dict[Atom, tuple[int, Action]]
"""The last step that changed an atom, and its action."""


def explain(task: Task, plan: Plan | str, timeout: float = PLAN_SECONDS) -> list[str]:
    """Lines of advice on a plan, or on a text that is one: what is unmet where it fails; empty if
    it is valid.

    For an inapplicable action or a goal that is not reached, each unmet literal comes with the step
    that made it so, and with applicable actions that would change that. The search for these takes
    at most `timeout` seconds for each literal. A plan that takes too long to follow has no advice
    but that.
    """
    if isinstance(plan, str):
        found = extract_lines(plan)
        if found.plan is None:
            return [found.reason]
        plan = found.plan
    try:
        return _explained(task, plan, timeout)
    except NotJudged as error:
        return [error.reason]
    except RecursionError:
        return ["a condition of this task nests too deeply for advice"]


def _explained(task: Task, plan: Plan, timeout: float) -> list[str]:
    run, changes = Replay(task, monotonic() + PLAN_SECONDS), Changes()
    for index, action in enumerate(plan.actions):
        before = set(run.state)
        bad = run.step(*action)
        if bad is not None:
            here = f"step {index}: ({' '.join(action)})"
            return [f"{here} {line}" for line in _bad_step(run, bad, action)] + (
                _unmet(run, *_precondition(task, action), changes, timeout)
                or ["  two of its effects conflict, or a number that they need is undefined"]
                if bad is Outcome.PRECONDITION_FAILED
                else []
            )
        changes |= dict.fromkeys(before ^ run.state, (index, action))
    if run.true(task.problem.goal, {}):
        return []
    open_goals = _unmet(run, task.problem.goal, {}, changes, timeout)
    return [f"after {len(plan)} {'step' if len(plan) == 1 else 'steps'}, of the goal:", *open_goals]


def _precondition(task: Task, action: Action) -> tuple[Formula, dict[str, str]]:
    schema = task.domain.actions[action[0]]
    names = [name for name, _ in schema.parameters]
    return schema.precondition, dict(zip(names, action[1:], strict=True))


def _bad_step(run: Replay, bad: Outcome, action: Action) -> list[str]:
    """The fault of an action, by the kind of its fault."""
    schemas, kinds = run.task.domain.actions, run.kinds
    schema = schemas.get(action[0])
    if schema is None:
        return [f"is no action of the domain{_perhaps(action[0], schemas)}"]
    usage = " ".join([schema.name, *(_typed(name, kinds) for name, kinds in schema.parameters)])
    if bad is Outcome.UNKNOWN_OBJECT:
        unknown = next(name for name in action[1:] if name not in kinds)
        return [f"names {unknown!r}, which is no object of the task{_perhaps(unknown, kinds)}"]
    if bad is Outcome.PRECONDITION_FAILED:
        return ["is not applicable"]
    return [f"has the wrong {'types' if bad is Outcome.WRONG_TYPE else 'arguments'}: ({usage})"]


def _perhaps(word: str, known: Collection[str]) -> str:
    """The known names that look most like a word."""
    near = get_close_matches(word, known, HELPERS)
    if near:
        return f"; perhaps {' or '.join(near)}"
    return f"; there are {', '.join(sorted(known)[:LISTED])}"


def _typed(name: str, kinds: tuple[str, ...]) -> str:
    return name if kinds == ("object",) else f"{name} - {'|'.join(kinds)}"


def _unmet(
    run: Replay, formula: Formula, env: dict[str, str], changes: Changes, timeout: float
) -> list[str]:
    """A line for each part of a conjunction that does not hold."""
    needs, forbids, rest = literals(formula)
    lines = []
    for atoms, wanted in ((needs, True), (forbids, False)):
        for atom in sorted(ground(atom, env) for atom in atoms):
            if run.true(atom, {}) != wanted:
                lines.append(f"  {_history(run, atom, wanted, changes)}; "
                             f"{_help(run, atom, wanted, timeout)}")  # fmt: skip
    for part in rest:
        if not run.true(part, env):
            values = {of: run.numbers.get(of) for of in _fluents(part, env)}
            known = [
                f"{show(of)} is {'undefined' if value is None else number_text(value)}"
                for of, value in values.items()
            ]
            lines.append("; ".join([f"  {formula_text(part, env)} does not hold", *known]))
    return lines


def _history(run: Replay, atom: Atom, wanted: bool, changes: Changes) -> str:
    """That an atom is false, or true where it must not be, and since which step."""
    text = f"{show(atom)} is {'false' if wanted else 'true and must not be'}"
    if atom[0] in run.task.domain.derived:
        return f"{text}: rules derive it from other facts"
    if atom in changes:
        index, action = changes[atom]
        did = "deleted" if wanted else "added"
        return f"{text} since step {index} ({' '.join(action)}) {did} it"
    return f"{text}, as in the initial state"


def _help(run: Replay, atom: Atom, wanted: bool, timeout: float) -> str:
    """Applicable actions that would make an atom true, or false if it is not `wanted`."""
    world = World(
        lambda one: one in run.state or one in run.derived,
        run.numbers,
        run.kinds,
        run.task.problem.objects,
        Clock(monotonic() + timeout),
    )
    verb = "adds" if wanted else "deletes"
    if atom[0] in run.task.domain.derived:
        return "no action changes it by itself"
    try:
        found = list(dict.fromkeys(_helpers(run.task, atom, wanted, world)))
    except NotJudged:
        return f"no time to look for an action that {verb} it"
    if not found:
        hidden = any(_names(rest, atom[0]) for rest in _conditional(run.task))
        which = " without a condition" if hidden else ""
        return f"no action that is applicable here {verb} it{which}"
    named = ", ".join(f"({' '.join(action)})" for action in sorted(found)[:HELPERS])
    more = f" or {len(found) - HELPERS} more" if len(found) > HELPERS else ""
    return f"applicable here and {verb} it: {named}{more}"


def _helpers(task: Task, atom: Atom, wanted: bool, world: World) -> Iterator[Action]:
    """Ground actions that are applicable in a world and whose plain effects change an atom."""
    for schema in task.domain.actions.values():
        adds, deletes, _ = literals(schema.effect)
        # An atom that is both deleted and added stays.
        effects = adds if wanted else [one for one in deletes if one not in adds]
        for effect in effects:
            binding = _matching(effect, atom, schema, world)
            if binding is None:
                continue
            free = tuple(pair for pair in schema.parameters if pair[0] not in binding)
            for found in solutions(free, schema.precondition, binding, world):
                try:
                    added, _, _ = changes_of(schema.effect, found, world)
                except Conflict:  # its precondition holds, and it cannot be applied
                    continue
                if (atom in added) == wanted:
                    yield (schema.name, *(found[name] for name, _ in schema.parameters))


def _conditional(task: Task) -> Iterator[Formula]:
    """The effects of actions that are no plain ones."""
    for schema in task.domain.actions.values():
        yield from (part for part in conjuncts(schema.effect) if part[0] in ("when", "forall"))


def _names(part: object, predicate: str) -> bool:
    """Whether an atom of a predicate is in a formula."""
    return isinstance(part, tuple) and (
        part[:1] == (predicate,) or any(_names(inner, predicate) for inner in part)
    )


def _matching(
    effect: Formula, atom: Atom, schema: ActionSchema, world: World
) -> dict[str, str] | None:
    """The parameters under which an effect is the atom; None if there are none."""
    if len(effect) != len(atom) or effect[0] != atom[0]:
        return None
    kinds, binding = dict(schema.parameters), dict[str, str]()
    for word, name in zip(effect[1:], atom[1:], strict=True):
        if word not in kinds:
            if word != name:
                return None
        elif binding.setdefault(word, name) != name or name not in world.of_types(kinds[word]):
            return None
    return binding


def _fluents(part: object, env: dict[str, str]) -> Iterator[Atom]:
    """The numeric fluents of a condition that name no quantified variable."""
    if isinstance(part, tuple) and part[:1] == (FLUENT,):
        fluent = ground(part[1:], env)
        if not any(word.startswith("?") for word in fluent):
            yield fluent
    elif isinstance(part, tuple):
        for inner in part:
            yield from _fluents(inner, env)
