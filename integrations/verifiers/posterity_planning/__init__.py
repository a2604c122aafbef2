"""Planning as an environment of `verifiers`: rewards are the plan checker's verdicts."""

from posterity_planning.taskset import PlanningTaskset

__all__ = ["PlanningTaskset"]
