"""Judging plan files for the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from planners.checking.checker import CHECKER, CHECKER_VERSION, Checker
from planners.checking.fallback import Fallback
from planners.checking.referees import REFEREES
from planners.checking.reference import redundant_actions, reference_plan
from planners.errors import InvalidInput, NotJudged
from planners.files import naming, read_pddl
from planners.pddl import read_domain, read_task, require_same_domain
from planners.prompts.extraction import extract_lines
from planners.records import Outcome, Plan, Verdict


def judge_files(
    domain: Path,
    problem: Path,
    plans: Sequence[str],
    referees: Sequence[str] = (),
    reference: float | None = None,
) -> Iterator[dict[str, Any]]:
    """One result a plan, in order, with the opinions of the referees named.

    With `reference`, the seconds that a reference planner gets for the task, each result also has
    the redundant actions of a valid plan and the cost of the reference plan (None where unknown).

    Raises InvalidInput where a file cannot be read or judged.
    """
    for name in referees:
        if name not in REFEREES:
            raise InvalidInput(f"unknown referee {name!r}; known: {', '.join(REFEREES)}")
    if plans.count("-") > 1:
        raise InvalidInput("standard input (-) can be read once, and is named more than once")
    domain_text, problem_text = read_pddl(domain), read_pddl(problem)
    checker = _checker(domain, domain_text, problem, problem_text)
    texts = [(name, _plan_text(name)) for name in plans]
    aside = None if reference is None else reference_plan(domain_text, problem_text, reference)
    for name, text in texts:
        found = extract_lines(text)
        verdict = (
            Verdict(Outcome.NO_PLAN, None, found.reason, None, CHECKER, CHECKER_VERSION)
            if found.plan is None
            else checker.check(found.plan)
        )
        result: dict[str, Any] = {
            "file": name,
            "outcome": verdict.outcome.value,
            "step": verdict.step,
            "detail": verdict.detail,
            "cost": verdict.cost,
        }
        if verdict.checker != CHECKER:
            result["checker"] = f"{verdict.checker} {verdict.checker_version}"
        if reference is not None:
            valid = found.plan if verdict.outcome is Outcome.VALID else None
            result |= _beside(checker, valid, aside)
        if referees and found.plan is not None:
            result["referees"] = {
                referee: asdict(REFEREES[referee](domain_text, problem_text, [found.plan])[0])
                for referee in referees
            }
        yield result


def _beside(checker: Checker | Fallback, plan: Plan | None, aside: Plan | None) -> dict[str, Any]:
    """A valid plan beside the reference: what it has too much, and what the other one costs."""
    return {
        "redundant": None if plan is None else redundant_actions(checker, plan),
        "reference_cost": None if aside is None else checker.check(aside).cost,
    }


def _checker(domain: Path, domain_text: str, problem: Path, text: str) -> Checker | Fallback:
    """What judges the task: our checker, or where a feature is beyond it, the fallback."""
    try:
        with naming(domain):
            read_domain(domain_text)
        with naming(problem):
            return Checker(read_task(domain_text, text))
    except NotJudged as error:
        with naming(problem):
            require_same_domain(domain_text, text)
        return Fallback(domain_text, text, error)


def _plan_text(name: str) -> str:
    """A plan file's text, or standard input's for `-`. Bytes that are no UTF-8 become U+FFFD, which
    no name holds: they spoil their own plan, not the others'.
    """
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}") from error
    return content.decode("utf-8-sig", errors="replace")
