"""PDDL: reading, printing and grounding it, and conversion to and from unified-planning."""

from planners.pddl.reader import (
    ActionSchema,
    Domain,
    Task,
    read_domain,
    read_task,
    require_same_domain,
    task_key,
)
from planners.pddl.renaming import canonical

__all__ = [
    "ActionSchema",
    "Domain",
    "Task",
    "canonical",
    "read_domain",
    "read_task",
    "require_same_domain",
    "task_key",
]
