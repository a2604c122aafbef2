"""Prompts for language models: the whole task in PDDL, in English, or under made-up names.

They ask for the same form of answer, so that one extraction reads every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from random import Random
from typing import Any

from planners.pddl import ActionSchema, Task, read_task
from planners.pddl.declarations import RESERVED, Rule
from planners.pddl.formulas import CONNECTIVES, NUMBER, OBJECT, Parameters
from planners.pddl.literals import literals
from planners.pddl.printing import (
    formula_text,
    metric_text,
    print_task,
    value_text,
    without_constants,
)
from planners.pddl.sexpr import parse, show
from planners.records import Atom, Formula

REQUEST = """\
Find a plan: a sequence of actions that leads from the initial state to the goal. Shorter is better.

Answer with one ground action in parentheses on each line, in order, between <plan> and </plan>.
Such an answer looks like this (of another domain, where a robot opens a door and carries a ball):
<plan>
(open door1)
(pick-up ball1 room1)
(walk room1 room2)
</plan>
"""


def whole_pddl(task: Task) -> str:
    """Domain and problem as PDDL, then the request."""
    # The canonical domain text is one line.
    domain = task.domain.text.replace(" (:", "\n  (:")
    problem = print_task(task)
    return f"A planning domain:\n\n{domain}\n\nA problem in it:\n\n{problem}\n{REQUEST}"


TOOL = """\

Before you answer, you may have a plan checked: end your message with it between <validate> and
</validate> instead. You are then told whether it is valid, or what is wrong with it, and go on.
"""


def with_tool(task: Task, version: int = 4) -> str:
    """The task in plain words, then the request, and how to call the tool `validate`."""
    return plain_words(task, version) + TOOL


BETWEEN = "\n; the problem\n"
"""The text between domain and problem in a bare task, at which a planner policy splits it."""


def bare_task(task: Task) -> str:
    """Domain and problem as PDDL and nothing else, for planners."""
    return task.domain.text + BETWEEN + print_task(task)


# ---------------------------------------------------------------- plain words


def plain_words(task: Task, version: int = 4) -> str:
    """Actions, objects, facts and goals in English sentences, then the request. Only since version
    3 does it say which types are kinds of others, and since 4 it negates more than a fact in PDDL.
    """
    say = partial(_say, version=version)
    actions = "\n".join(_action(schema, say) for schema in task.domain.actions.values())
    rules = [rule for stratum in task.domain.rules for rule in stratum]
    if rules:
        told = "\n".join(_rule(rule, say) for rule in rules)
        actions += f"\n\nWhat follows from other facts:\n{told}"
    objects = ", ".join(
        name + ("" if kind == "object" else f" ({_words(kind)})")
        for name, kind in task.problem.objects
    )
    both = " and a " if version >= 4 else " or "
    kinds = "; ".join(
        f"every {_words(kind)} is a {both.join(map(_words, parents))}"
        for kind, parents in sorted(task.domain.types.items())
        if version >= 3 and parents != (OBJECT,)
    )
    kinds = f"\n{kinds[0].upper()}{kinds[1:]}." if kinds else ""
    goal = task.problem.goal
    facts = [*map(say, task.problem.init), *(value_text(*value) for value in task.values)]
    wanted = "" if task.metric is None else f" Of such plans, {metric_text(task)}."
    return (
        f"You can do these actions:\n{actions}\n\nThere are: {objects}.{kinds}\n\n"
        f"Now {_list(facts)}. Nothing else is true.\n\n"
        f"The goal: {say(goal)}.{wanted}\n\n{REQUEST}"
    )


def _action(schema: ActionSchema, say: Say) -> str:
    needs, forbids, rest = literals(schema.precondition)
    conditions = [*map(say, needs), *(say(("not", atom)) for atom in forbids), *map(say, rest)]
    adds, deletes, other = literals(schema.effect)
    effects = [*map(say, adds), *(say(("not", atom)) for atom in deletes), *map(say, other)]
    parameters = " ".join(variable for variable, _ in schema.parameters)
    return (
        f"- ({schema.name}{' ' if parameters else ''}{parameters}): possible if "
        f"{_list([*_typed(schema.parameters), *conditions])}. Then {_list(effects)}."
    )


def _rule(rule: Rule, say: Say) -> str:
    head = _fact((rule.predicate, *(name for name, _ in rule.parameters)))
    return f"- {head} if {_list([*_typed(rule.parameters), say(rule.condition)])}."


def _typed(parameters: Parameters) -> list[str]:
    return [
        f"{variable} is a {' or '.join(map(_words, kinds))}"
        for variable, kinds in parameters
        if kinds != (OBJECT,)
    ]


Say = Callable[[Formula], str]


def _say(formula: Formula, version: int) -> str:
    """A condition or effect in English, or in PDDL if it has more than literals."""
    head, *rest = formula
    if head == "and":
        return _list(_say(part, version) for part in rest)
    if head == "not" and (version < 4 or rest[0][0] not in CONNECTIVES):
        return f"not: {_say(rest[0], version)}"
    if head in CONNECTIVES or not all(isinstance(part, str) for part in rest):
        return formula_text(formula)
    return _fact(formula)


def _fact(atom: Atom) -> str:
    """An atom in words: "a on b" for `(on a b)`, "a is clear", "arm empty"."""
    words, objects = _words(atom[0]), atom[1:]
    if not objects:
        return words
    if len(objects) == 1:
        return f"{objects[0]} is {words}"
    return f"{objects[0]} {words} {', '.join(objects[1:])}"


def _words(name: str) -> str:
    return name.replace("-", " ").replace("_", " ")


def _list(parts: Iterable[str]) -> str:
    found = list(parts)
    return "; ".join(found) if found else "nothing"


# ---------------------------------------------------------------- made-up names

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo")
KEPT = RESERVED | {
    "object", "either", "number", "define", "domain", "problem", "minimize", "maximize",
    "total-time",
}  # fmt: skip
"""Words that keep their names, and numbers do: PDDL itself may say them in the same files."""


@lru_cache(maxsize=1024)
def made_up_names(task: Task) -> dict[str, str]:
    """A made-up word for each name of the task; the domain's are the same in all its problems."""
    domain = task.domain
    names = [domain.name, *domain.types, *domain.predicates, *domain.functions, *domain.actions]
    names += [name for name, _ in domain.constants]
    rng, given = Random(domain.text), dict[str, str]()
    for name in names:
        if not _kept(name):
            given.setdefault(name, _fresh(rng, given))
    for number, (name, _) in enumerate(without_constants(task).problem.objects, 1):
        if not _kept(name):
            given.setdefault(name, f"x{number}")
    return given


def _kept(name: str) -> bool:
    return name in KEPT or NUMBER.fullmatch(name) is not None


def _fresh(rng: Random, given: dict[str, str]) -> str:
    while True:
        word = "".join(rng.choices(SYLLABLES, k=3 + len(given) // 1000))
        if word not in given.values():
            return word


def obfuscated(task: Task, version: int = 3) -> str:
    """Domain and problem as PDDL under made-up names, as in PlanBench's Mystery domains. The
    problem's own name, which version 2 showed, may give the domain away.
    """
    names = made_up_names(task)
    domain = show(_renamed(parse(task.domain.text), names))
    problem = _renamed(parse(print_task(task)), names)
    if version > 2:
        problem[1][1] = "p"
    return whole_pddl(read_task(domain, show(problem)))


def _renamed(tree: Any, names: dict[str, str]) -> Any:
    if isinstance(tree, list):
        return [_renamed(part, names) for part in tree]
    return names.get(tree, tree)
