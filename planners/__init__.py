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
        "Adapter": "planners.training.settings",
        "Checker": "planners.checking.checker",
        "Completion": "planners.records",
        "DOMAINS": "planners.domains",
        "Domain": "planners.pddl.reader",
        "InvalidInput": "planners.errors",
        "Lesson": "planners.training.lessons",
        "LocalPolicy": "planners.policies.local",
        "NotJudged": "planners.errors",
        "Outcome": "planners.records",
        "PROMPTS": "planners.prompts.formats",
        "Plan": "planners.records",
        "PlannerPolicy": "planners.policies.baselines",
        "Policy": "planners.records",
        "Posed": "planners.domains.posed",
        "PosterityError": "planners.errors",
        "Sampling": "planners.records",
        "ScriptedPolicy": "planners.policies.baselines",
        "ServedPolicy": "planners.policies.served",
        "Task": "planners.pddl.reader",
        "Training": "planners.training.settings",
        "Verdict": "planners.records",
        "check": "planners.checking.check",
        "explain": "planners.checking.explain",
        "extract": "planners.prompts.extraction",
        "fine_tune": "planners.training.fine_tuning",
        "from_unified": "planners.pddl.unified",
        "generate": "planners.domains.task_sets",
        "judge": "planners.domains.posed",
        "pose": "planners.domains.posed",
        "read_domain": "planners.pddl.reader",
        "read_task": "planners.pddl.reader",
        "to_unified": "planners.pddl.unified",
    },
)
