"""Judging plan files for the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planners.checking.check import judge_text
from planners.checking.checker import CHECKER, Checker
from planners.checking.explain import explain
from planners.checking.fallback import Fallback
from planners.checking.referees import REFEREES, Opinion
from planners.checking.reference import redundant_actions, reference_plan
from planners.errors import InvalidInput, NotJudged, PddlError, require_one_of
from planners.files import naming, read_pddl, read_plan
from planners.pddl import read_domain, read_task, require_same_domain
from planners.records import Plan, Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a plan file, and the opinions of the referees that were asked.

    If it was compared with a reference plan (`compared`): the number of `redundant` actions of a
    valid plan, and the cost of the reference plan, None where unknown. `advice`, if it was asked
    for, are lines on why the plan is not valid.
    """

    file: str
    verdict: Verdict
    opinions: dict[str, Opinion] = field(default_factory=dict)
    compared: bool = False
    redundant: int | None = None
    reference_cost: float | None = None
    advice: Sequence[str] | None = None

    @property
    def judge(self) -> str | None:
        """Name and version of the checker that judged, None where it was ours."""
        by = self.verdict
        return None if by.checker == CHECKER else f"{by.checker} {by.checker_version}"

    def to_json(self) -> dict[str, Any]:
        """The object that `check --json` prints."""
        verdict = self.verdict
        told: dict[str, Any] = {
            "file": self.file,
            "outcome": verdict.outcome.value,
            "step": verdict.step,
            "detail": verdict.detail,
            "cost": verdict.cost,
        }
        if self.judge:
            told["checker"] = self.judge
        if self.compared:
            told |= {"redundant": self.redundant, "reference_cost": self.reference_cost}
        if self.advice is not None:
            told["advice"] = list(self.advice)
        if self.opinions:
            told["referees"] = {
                name: {"valid": said.valid, "note": said.note}
                for name, said in self.opinions.items()
            }
        return told

    def __str__(self) -> str:
        """The line that `check` prints, and one line per referee."""
        verdict = self.verdict
        at = "" if verdict.step is None else f" at step {verdict.step}"
        tail = "" if verdict.cost is None else f" (cost {verdict.cost:.12g})"
        if self.redundant is not None:
            tail += f", redundant {self.redundant:g}"
        if self.reference_cost is not None:
            tail += f", reference cost {self.reference_cost:.12g}"
        tail += f": {verdict.detail}" if verdict.detail or verdict.cost is None else ""
        judge = f" [by {self.judge}]" if self.judge else ""
        said = {None: "no verdict", True: "valid", False: "invalid"}
        opinions = "".join(
            f"\n  {name}: {said[one.valid]}{f' ({one.note})' if one.note else ''}"
            for name, one in self.opinions.items()
        )
        advice = "".join(f"\n  {line}" for line in self.advice or ())
        return f"{self.file}: {verdict.outcome}{at}{tail}{judge}{advice}{opinions}"


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A plan file that could not be read or judged, and the message that says why."""

    file: str
    why: str

    def to_json(self) -> dict[str, Any]:
        """The object that `check --json` prints."""
        return {
            "file": self.file, "outcome": None, "step": None, "detail": self.why, "cost": None
        }  # fmt: skip


def judge_files(
    domain: Path,
    problem: Path,
    plans: Sequence[str],
    referees: Sequence[str] = (),
    reference: float | None = None,
    timeout: float | None = None,
    find: bool = False,
    any_domain: bool = False,
    advise: bool = False,
) -> Iterator[Judged | Unjudged]:
    """Yield one result per plan, in order, with the opinions of the referees named.

    With `reference`, a planner gets that many seconds to find a plan to compare each one with. With
    `find`, a plan is searched for in each text, as in a model's answer; otherwise the text must be
    the plan. With `any_domain`, the problem may name another domain. With `advise`, a plan that is
    not valid comes with advice.

    Raises InvalidInput where the task cannot be read, NotJudged where it is beyond all checkers.
    """
    for name in referees:
        require_one_of("referee", name, REFEREES)
    if plans.count("-") > 1:
        raise InvalidInput("standard input (-) can be read once, and is named more than once")
    domain_text, problem_text = read_pddl(domain), read_pddl(problem)
    checker = _checker(domain, domain_text, problem, problem_text, timeout, any_domain)
    aside = None if reference is None else reference_plan(domain_text, problem_text, reference)
    cost = None if aside is None else _cost(checker, aside)
    for name in plans:
        try:
            text = _plan_text(name)
            with naming(Path(name)):
                plan, verdict = judge_text(checker, text, find)
            if plan is not None and not len(plan) and not verdict.valid:
                verdict = verdict._replace(detail=f"{verdict.detail}; the plan has no action")
        except (InvalidInput, NotJudged) as error:
            yield Unjudged(name, str(error))
            continue
        opinions, redundant = dict[str, Opinion](), None
        if plan is not None:  # an empty one is a plan, too
            opinions = {one: _opinion(one, domain_text, problem_text, plan) for one in referees}
            if reference and verdict.valid:
                redundant = redundant_actions(checker, plan)
        yield Judged(
            name,
            verdict,
            opinions,
            reference is not None,
            redundant,
            cost,
            _advice(checker, plan) if advise else None,
        )


def _cost(checker: Checker | Fallback, plan: Plan) -> float | None:
    """The cost of a planner's plan, None where the checker has no time for it."""
    try:
        return checker.check(plan).cost
    except NotJudged:
        return None


def _opinion(referee: str, domain: str, problem: str, plan: Plan) -> Opinion:
    try:
        return REFEREES[referee](domain, problem, [plan])[0]
    except PddlError as error:  # of another domain's name, say, which it may have by our option
        return Opinion(None, f"cannot read the task: {error}")


def _advice(checker: Checker | Fallback, plan: Plan | None) -> list[str]:
    if plan is None or isinstance(checker, Fallback):
        return []
    return explain(checker.task, plan)


def _checker(
    domain: Path,
    domain_text: str,
    problem: Path,
    text: str,
    timeout: float | None,
    any_domain: bool,
) -> Checker | Fallback:
    """Our checker of the task, or the fallback where the task has a feature beyond ours."""
    try:
        # Read by itself first, so that an error names the file it is in.
        with naming(domain):
            read_domain(domain_text)
        with naming(problem):
            return Checker(read_task(domain_text, text, any_domain), timeout)
    except NotJudged as error:
        with naming(problem):
            if not any_domain:
                require_same_domain(domain_text, text)
        return Fallback(domain_text, text, error, timeout)


def _plan_text(name: str) -> str:
    """A plan file's text, or standard input's for `-`."""
    if name == "-":
        return sys.stdin.buffer.read().decode("utf-8-sig", errors="replace")
    return read_plan(Path(name))
