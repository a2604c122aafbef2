"""The slow, obvious plan checker: sets of tuples, no memo, no compilation. The fast one must
agree.
"""

from itertools import product
from typing import Any

from planners.pddl import Task
from planners.records import Outcome, Plan


def replay(task: Task, plan: Plan) -> tuple[Outcome, int | None]:
    """Outcome and index of the first bad step, by replaying the plan on a set of atoms."""
    state, numbers = set(task.problem.init), dict(task.values)
    kinds = {name: task.domain.ancestors(kind) for name, kind in task.problem.objects}
    for index, (name, *arguments) in enumerate(plan.actions):
        schema = task.domain.actions.get(name)
        if schema is None:
            return Outcome.UNKNOWN_ACTION, index
        if len(arguments) != len(schema.parameters):
            return Outcome.WRONG_ARITY, index
        if any(a not in kinds for a in arguments):
            return Outcome.UNKNOWN_OBJECT, index
        if any(
            not kinds[a] & set(t) for a, (_, t) in zip(arguments, schema.parameters, strict=True)
        ):
            return Outcome.WRONG_TYPE, index
        env = {v: a for (v, _), a in zip(schema.parameters, arguments, strict=True)}
        if not true(schema.precondition, env, state, numbers, kinds):
            return Outcome.PRECONDITION_FAILED, index
        plus: set[Any] = set()
        minus: set[Any] = set()
        news: dict[Any, float] = {}
        try:
            apply(schema.effect, env, state, numbers, kinds, plus, minus, news)
        except (KeyError, ZeroDivisionError):
            return Outcome.PRECONDITION_FAILED, index
        state = (state - minus) | plus
        numbers.update(news)
    good = true(task.problem.goal, {}, state, numbers, kinds)
    return (Outcome.VALID, None) if good else (Outcome.GOAL_NOT_REACHED, None)


def ground(atom: Any, env: dict[str, str]) -> tuple[str, ...]:
    return tuple(env.get(word, word) for word in atom)


def spread(
    parameters: Any, env: dict[str, str], kinds: dict[str, set[str]]
) -> list[dict[str, str]]:
    ranges = [[o for o in kinds if kinds[o] & set(t)] for _, t in parameters]
    return [
        {**env, **dict(zip([v for v, _ in parameters], c, strict=True))} for c in product(*ranges)
    ]


def true(
    f: Any, env: dict[str, str], state: set[Any], numbers: dict[Any, float], kinds: Any
) -> bool:
    match f[0]:
        case "and":
            return all([true(p, env, state, numbers, kinds) for p in f[1:]])
        case "or":
            return any([true(p, env, state, numbers, kinds) for p in f[1:]])
        case "not":
            return not true(f[1], env, state, numbers, kinds)
        case "imply":
            return (
                true(f[2], env, state, numbers, kinds)
                if true(f[1], env, state, numbers, kinds)
                else True
            )
        case "forall":
            return all([true(f[2], e, state, numbers, kinds) for e in spread(f[1], env, kinds)])
        case "exists":
            return any([true(f[2], e, state, numbers, kinds) for e in spread(f[1], env, kinds)])
        case "=":
            return ground(f[1:], env)[0] == ground(f[1:], env)[1]
        case "compare":
            try:
                a, b = number(f[2], env, numbers), number(f[3], env, numbers)
            except (KeyError, ZeroDivisionError):
                return False
            return {"=": a == b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[f[1]]
    return ground(f, env) in state


def number(e: Any, env: dict[str, str], numbers: dict[Any, float]) -> float:
    if isinstance(e, float):
        return e
    if e[0] == "fluent":
        return numbers[ground(e[1:], env)]
    a, b = number(e[1], env, numbers), number(e[2], env, numbers)
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[e[0]]()


def apply(
    f: Any, env: Any, state: Any, numbers: Any, kinds: Any, plus: Any, minus: Any, news: Any
) -> None:
    match f[0]:
        case "and":
            for part in f[1:]:
                apply(part, env, state, numbers, kinds, plus, minus, news)
        case "not":
            minus.add(ground(f[1], env))
        case "forall":
            for e in spread(f[1], env, kinds):
                apply(f[2], e, state, numbers, kinds, plus, minus, news)
        case "when":
            if true(f[1], env, state, numbers, kinds):
                apply(f[2], env, state, numbers, kinds, plus, minus, news)
        case "assign":
            news[ground(f[1], env)] = number(f[2], env, numbers)
        case "increase" | "decrease" | "scale-up" | "scale-down":
            key = ground(f[1], env)
            old, by = (
                news.get(key, numbers[key]) if key in news else numbers[key],
                number(f[2], env, numbers),
            )
            news[key] = {
                "increase": lambda: old + by,
                "decrease": lambda: old - by,
                "scale-up": lambda: old * by,
                "scale-down": lambda: old / by,
            }[f[0]]()
        case _:
            plus.add(ground(f, env))
