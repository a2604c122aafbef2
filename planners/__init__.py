"""Planning tasks, the plan checker, and the models that plan."""

from typing import TYPE_CHECKING

from planners.fronts import exporting

if TYPE_CHECKING:  # at run time, `exporting` imports each name on first use
    from planners.checking.check import check
    from planners.checking.checker import Checker
    from planners.checking.explain import explain
    from planners.domains import DOMAINS
    from planners.domains.posed import Posed, judge, pose
    from planners.domains.task_sets import generate
    from planners.errors import InvalidInput, NotJudged, PosterityError
    from planners.pddl.reader import Domain, Task, read_domain, read_task
    from planners.pddl.unified import from_unified, to_unified
    from planners.policies.baselines import PlannerPolicy, ScriptedPolicy
    from planners.policies.local import LocalPolicy
    from planners.policies.served import ServedPolicy
    from planners.prompts.extraction import extract
    from planners.prompts.formats import PROMPTS
    from planners.records import Completion, Outcome, Plan, Policy, Sampling, Verdict
    from planners.training.fine_tuning import fine_tune
    from planners.training.lessons import Lesson
    from planners.training.settings import Adapter, Training

__all__ = [
    "DOMAINS",
    "PROMPTS",
    "Adapter",
    "Checker",
    "Completion",
    "Domain",
    "InvalidInput",
    "Lesson",
    "LocalPolicy",
    "NotJudged",
    "Outcome",
    "Plan",
    "PlannerPolicy",
    "Policy",
    "Posed",
    "PosterityError",
    "Sampling",
    "ScriptedPolicy",
    "ServedPolicy",
    "Task",
    "Training",
    "Verdict",
    "check",
    "explain",
    "extract",
    "fine_tune",
    "from_unified",
    "generate",
    "judge",
    "pose",
    "read_domain",
    "read_task",
    "to_unified",
]

__getattr__, __dir__ = exporting(
    __name__,
    {
        "planners.checking.check": "check",
        "planners.checking.checker": "Checker",
        "planners.checking.explain": "explain",
        "planners.domains": "DOMAINS",
        "planners.domains.posed": "Posed judge pose",
        "planners.domains.task_sets": "generate",
        "planners.errors": "InvalidInput NotJudged PosterityError",
        "planners.pddl.reader": "Domain Task read_domain read_task",
        "planners.pddl.unified": "from_unified to_unified",
        "planners.policies.baselines": "PlannerPolicy ScriptedPolicy",
        "planners.policies.local": "LocalPolicy",
        "planners.policies.served": "ServedPolicy",
        "planners.prompts.extraction": "extract",
        "planners.prompts.formats": "PROMPTS",
        "planners.records": "Completion Outcome Plan Policy Sampling Verdict",
        "planners.training.fine_tuning": "fine_tune",
        "planners.training.lessons": "Lesson",
        "planners.training.settings": "Adapter Training",
    },
)
