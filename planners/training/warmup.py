"""Lessons to warm up a pretrained language model with: short tasks, each with an optimal plan.

A model that has never seen a plan samples no valid one, and then no curation can select any. What
it must learn first is what a plan looks like, and the shortest ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from random import Random

from planners.checking.canaries import goal_undone, swapped, truncated, wrong_type
from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.pddl import Task, canonical, read_task
from planners.pddl.isomorphism import shape
from planners.pddl.printing import print_problem
from planners.policies.validating import validate
from planners.prompts.extraction import CALL_END, CALL_START
from planners.prompts.formats import PROMPTS
from planners.records import Plan, Turn
from planners.training.lessons import Lesson

ATTEMPTS = 1000
"""Draws in a row without a usable task after which the settings are refused."""


def warm_up_lessons(
    domains: Sequence[str],
    sizes: tuple[int, int],
    shares: Sequence[float],
    count: int,
    barred: Collection[str],
    prompt: str,
    rng: Random,
    on_lesson: Callable[[int], None] = lambda lessons: None,
    calls: float = 0.0,
) -> list[Lesson]:
    """`count` lessons from the domains in turn, with sizes between these bounds. `shares` are the
    relative frequencies of horizon 1, 2 and so on. Tasks repeat, as there are few short ones. Plans
    have the object names that the prompt gives. A share `calls` of them calls the tool `validate`.

    None has a shape in `barred`: no task that a model is measured or improved on, even with its
    objects renamed. Raises InvalidInput where there are no other tasks.
    """
    lessons: list[Lesson] = []
    misses = 0
    while len(lessons) < count:
        entry = DOMAINS[domains[len(lessons) % len(domains)]]
        [horizon] = rng.choices(range(1, len(shares) + 1), shares)
        found = entry.solved_example(rng.randint(*sizes), horizon, rng)
        misses += 1
        if found is not None:
            task = read_task(entry.text, print_problem(canonical(found[0])))
            if shape(task) not in barred:
                if calls and rng.random() < calls:
                    lessons.append(_calling(task, found[1], prompt, rng))
                else:
                    plan = PROMPTS[prompt].restate(task, str(found[1]), found[1])
                    lessons.append(Lesson(task, plan))
                misses = 0
                on_lesson(1)
        if misses > ATTEMPTS:
            raise InvalidInput(
                f"warmup: no {entry.name} task of sizes {sizes} and of horizons up to "
                f"{len(shares)} that is in no split, in {ATTEMPTS} attempts; widen warmup.sizes or "
                "warmup.shares, or begin the splits at longer horizons"
            )
    return lessons


def _calling(task: Task, plan: Plan, prompt: str, rng: Random) -> Lesson:
    """A lesson that has the plan validated. Half of them show a broken plan before it, and how the
    tool says so; what led to that is not to be learned, and so the turn is silent.
    """
    checker, shown = Checker(task), PROMPTS[prompt]
    damage = rng.choice((swapped, truncated, goal_undone, wrong_type))
    tried = [plan]
    if rng.random() < 0.5:
        with suppress(IndexError, ValueError):  # where the plan is too short for this damage
            tried.insert(0, Plan(tuple(damage(list(plan.actions), task, rng))))
    parts: list[str] = []
    for one in tried:
        call = shown.restate(task, str(one), one) or ";\n"
        turn = f"{CALL_START}\n{call}{CALL_END}"
        parts += [turn, validate(checker, shown, turn) or ""]
    turns = tuple(Turn(len(part), 0) for part in (*parts, ""))
    # Damage can leave a plan valid; then there is nothing to correct.
    broken = len(tried) == 2 and not checker.check(tried[0]).valid
    return Lesson(task, "".join(parts), turns=turns, silent=int(broken))
