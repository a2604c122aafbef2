"""A second checker, unified-planning's SequentialPlanValidator, for tasks that ours cannot judge.

It judges only tasks that raise NotJudged, and its verdicts carry its own name. Its own checks stay
on, so that it refuses features that it would otherwise ignore. Today it adds `:constraints` of the
form `always`, and tasks that list a requirement beyond ours which they do not use.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from planners.checking.referees import Unified
from planners.errors import NotJudged
from planners.pddl.sexpr import parse
from planners.records import Action, Outcome, Plan, Verdict

FALLBACK = "unified-planning"


class Fallback:
    """Judges plans of one task that our checker refused with the error `why`.

    Raises NotJudged at once if unified-planning does not support the task either.

    The caller must check that the problem is for this domain: unified-planning does not. A plan
    gets at most `timeout` seconds; None is no limit.
    """

    def __init__(
        self, domain: str, problem: str, why: NotJudged, timeout: float | None = None
    ) -> None:
        self.why, self.timeout = why, timeout
        try:
            self.version, self.judge = version(FALLBACK), Unified(domain, problem)
        except ModuleNotFoundError:  # the checker may be installed alone
            self._require("is not installed")
        self._require(self.judge.refusal)  # before any plan is read: no plan of it has a verdict
        sections = parse(domain)[2:]
        self.schemas = frozenset(one[1] for one in sections if one[0] == ":action")

    def _require(self, refusal: str) -> None:
        if refusal:
            raise NotJudged(f"{self.why.reason}; unified-planning {refusal}")

    def check(self, plan: Plan) -> Verdict:
        """unified-planning's verdict. Raises NotJudged if it has none either.

        It cannot be asked about actions that are none of the task's: these are ours to find, and it
        judges what comes before the first.
        """
        faults = ((step, self._fault(action)) for step, action in enumerate(plan.actions))
        step, fault = next(((step, fault) for step, fault in faults if fault), (len(plan), None))
        result = self.judge.result(Plan(plan.actions[:step]), self.timeout)
        if isinstance(result, str):
            self._require(result)
        if fault is None or result.inapplicable_action is not None:
            return self._verdict(result, plan)
        detail = " ".join(plan.actions[step])
        return Verdict(fault, step, f"({detail})", None, FALLBACK, self.version)

    def _fault(self, action: Action) -> Outcome | None:
        """The fault that makes an action none of the task's, None if it is one."""
        task, (name, *given) = self.judge.task, action
        if name not in self.schemas:
            return Outcome.UNKNOWN_ACTION
        parameters = task.action(name).parameters
        if len(given) != len(parameters):
            return Outcome.WRONG_ARITY
        if not all(map(task.has_object, given)):
            return Outcome.UNKNOWN_OBJECT
        for one, wanted in zip(given, parameters, strict=True):
            if not wanted.type.is_compatible(task.object(one).type):
                return Outcome.WRONG_TYPE
        return None

    def _verdict(self, result: Any, plan: Plan) -> Verdict:
        if result:
            costs = [*(result.metric_evaluations or {}).values(), len(plan)]
            return Verdict(Outcome.VALID, None, "", float(costs[0]), FALLBACK, self.version)
        bad = result.inapplicable_action
        outcome = Outcome.GOAL_NOT_REACHED if bad is None else Outcome.PRECONDITION_FAILED
        # It tells the states up to the action that is not applicable.
        step = None if bad is None or result.trace is None else len(result.trace) - 1
        why = "; ".join(one.message for one in result.log_messages or ())
        detail = f"{result.reason.name.lower()}{'' if bad is None else f' {bad}'}"
        detail += f": {why}" if why else ""
        return Verdict(outcome, step, detail, None, FALLBACK, self.version)
