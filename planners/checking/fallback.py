"""A second checker, unified-planning's SequentialPlanValidator, for tasks that ours cannot judge.

It judges only tasks that raise NotJudged, and its verdicts carry its own name. Its own checks stay
on, so that it refuses features that it would otherwise ignore. Today it adds `:constraints` of the
form `always`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from planners.checking.referees import Unified
from planners.errors import NotJudged
from planners.pddl.sexpr import parse
from planners.records import Outcome, Plan, Verdict

FALLBACK = "unified-planning"


class Fallback:
    """Judges plans of one task that our checker refused with the error `why`.

    Raises NotJudged at once if unified-planning does not support the task either.

    The caller must check that the problem is for this domain: unified-planning does not.
    """

    def __init__(self, domain: str, problem: str, why: NotJudged) -> None:
        self.version = version(FALLBACK)
        self.why = why
        self.judge = Unified(domain, problem)
        self._require(self.judge.refusal)  # before any plan is read: no plan of it has a verdict
        sections = parse(domain)[2:]
        self.schemas = frozenset(one[1] for one in sections if one[0] == ":action")

    def _require(self, refusal: str) -> None:
        if refusal:
            raise NotJudged(f"{self.why.reason}; unified-planning {refusal}")

    def check(self, plan: Plan) -> Verdict:
        """unified-planning's verdict. Raises NotJudged if it has none either."""
        result = self.judge.result(plan)
        if isinstance(result, str):
            self._require(result)
        return self._verdict(result, plan)

    def _verdict(self, result: Any, plan: Plan) -> Verdict:
        if result:
            costs = [*(result.metric_evaluations or {}).values(), len(plan)]
            return Verdict(Outcome.VALID, None, "", float(costs[0]), FALLBACK, self.version)
        bad = result.inapplicable_action
        outcome = Outcome.GOAL_NOT_REACHED if bad is None else Outcome.PRECONDITION_FAILED
        detail = f"{result.reason.name.lower()}{'' if bad is None else f' {bad}'}"
        return Verdict(outcome, None, detail, None, FALLBACK, self.version)
