"""Planning tasks as other libraries ask for them: a prompt, and the verdict on an answer to it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random

from planners.checking.check import judge_text
from planners.checking.checker import checker_for
from planners.domains import domain_named
from planners.domains.task_sets import fresh_tasks
from planners.errors import InvalidInput
from planners.pddl.printing import print_problem
from planners.prompts.formats import PROMPTS
from planners.records import Verdict, derive_seed


@dataclass(frozen=True, slots=True)
class Posed:
    """A task as text: domain and problem in PDDL, the prompt that asks for a plan, its grade, and a
    plan that solves it, one action per line.
    """

    domain: str
    problem: str
    prompt: str
    size: int
    horizon: int
    solution: str


def pose(
    domain: str = "blocksworld", count: int = 100, sizes: tuple[int, int] = (3, 6),
    horizons: tuple[int, int] = (2, 8), seed: int = 0,
) -> list[Posed]:  # fmt: skip
    """`count` new tasks of a registered domain, no two alike up to their objects' names; the same
    seed gives the same tasks. `DOMAINS` says what sizes and horizons count, both inclusive.

    Raises InvalidInput if `count` is below 0, or for what `fresh_tasks` does: no such domain, not
    that many tasks.
    """
    if count < 0:
        raise InvalidInput(f"pose: count is {count}; ask for 0 tasks or more")
    text, rng = domain_named(domain).text, Random(derive_seed(seed, "posed", domain))
    found = []
    for one in islice(fresh_tasks(domain, sizes, horizons, rng), count):
        problem = print_problem(one.problem)
        prompt = PROMPTS["pddl"].write(checker_for(text, problem).task)
        found.append(Posed(text, problem, prompt, one.size, one.horizon, str(one.plan)))
    return found


def judge(domain: str, problem: str, answer: str) -> Verdict:
    """The verdict on a model's answer to a task in PDDL. A plan is looked for in it: reasoning up
    to `</think>` and text around the actions do not count.

    Raises InvalidInput if domain or problem cannot be read, and NotJudged if the checker does not
    support the task or takes longer than its limit.
    """
    return judge_text(checker_for(domain, problem), answer, find=True)[1]
