"""Quality of valid plans: their redundant actions, and a reference planner's plan to compare.

The reference planner is Fast Downward through unified-planning. Planner and engine are GPL, so
they are an optional extra and run in a process of their own (`python -m
planners.checking.reference`), which also isolates their crashes and time limits.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from planners.checking.checker import Checker, Ids
from planners.checking.fallback import Fallback
from planners.errors import InvalidInput
from planners.pddl.grounding import GroundAction, reduced
from planners.prompts.extraction import extract_lines
from planners.records import Plan

ELIMINATED = 1000
"""Longest plan, in actions, that is searched for redundant ones."""
START_UP = 30.0
"""Seconds beyond its time limit after which the reference planner's process is stopped."""


def redundant_actions(checker: Checker | Fallback, plan: Plan) -> int | None:
    """The number of actions of a valid plan that greedy action elimination removes.

    It is a lower bound on the redundant ones. None if plan or goal have more than plain literals,
    or the plan is longer than ELIMINATED, as the time grows with the square of the length.
    """
    if isinstance(checker, Fallback) or len(plan) > ELIMINATED:
        return None
    if (found := checker.literal(plan)) is None:
        return None
    path = [
        GroundAction(action, *map(_mask, step[:4]))
        for action, step in zip(plan.actions, found[0], strict=True)
    ]
    return len(path) - len(reduced(path, _mask(checker.init), _mask(found[1])))


def _mask(numbers: Ids) -> int:
    return sum(1 << number for number in numbers)


def require_reference() -> None:
    """Raise InvalidInput if Fast Downward is not installed."""
    if importlib.util.find_spec("up_fast_downward") is None:
        raise InvalidInput(
            "reference plans need Fast Downward; install it with "
            "`pip install 'posterity[reference]'` (GPL, run as a process of its own)"
        )


def reference_plan(domain: str, problem: str, seconds: float = 10.0) -> Plan | None:
    """A plan by Fast Downward (LAMA's first plan), or None if it found none in `seconds`.

    Raises InvalidInput if the extra is not installed.
    """
    require_reference()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "domain.pddl").write_text(domain, "utf-8")
        (folder / "problem.pddl").write_text(problem, "utf-8")
        files = [str(folder / "domain.pddl"), str(folder / "problem.pddl")]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "planners.checking.reference", *files, str(seconds)],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=seconds + START_UP,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
    return extract_lines(done.stdout).plan if done.returncode == 0 else None


def main(domain: str, problem: str, seconds: float) -> int:
    """Print a plan of a task: the entry point of the planner's process. Returns its exit status."""
    from unified_planning.environment import get_environment
    from unified_planning.io import PDDLReader

    warnings.simplefilter("ignore")
    environment = get_environment()
    environment.credits_stream = None
    task = PDDLReader().parse_problem(domain, problem)
    with environment.factory.OneshotPlanner(name="fast-downward") as planner:
        planner.skip_checks = True
        plan = planner.solve(task, timeout=seconds).plan
    if plan is None:
        return 1
    for action in plan.actions:
        print(f"({' '.join([action.action.name, *map(str, action.actual_parameters)])})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
