"""The verdict on a trace: extraction, then the checker."""

from __future__ import annotations

from planners.checking.checker import CHECKER, CHECKER_VERSION, Checker
from planners.checking.reference import redundant_actions
from planners.prompts.extraction import EXTRACTION_VERSION
from planners.prompts.formats import PROMPTS, PromptFormat
from planners.records import Outcome
from warehouse.store import Row

READING = PROMPTS["pddl"]
"""How a plan is found in an ingested completion: in the task's own names."""
VERSION = f"{CHECKER_VERSION}+{EXTRACTION_VERSION}"
"""What judged: the checker, and the extraction before it."""


OWNER = ("trace", "experiment", "generation", "purpose", "task")
"""What a judgement says of the trace that it is on."""


def judgement(checker: Checker, trace: Row, prompt: PromptFormat) -> Row:
    """The row of a verdict on a trace."""
    verdict = verdict_of(checker, trace["text"], trace["finish_reason"], prompt)
    return {**verdict, **{name: trace[name] for name in OWNER}}


def verdict_of(checker: Checker, text: str, finish_reason: str, prompt: PromptFormat) -> Row:
    """What there is to say of a completion, whoever wrote it."""
    found = prompt.read(checker.task, text)
    row: Row = {
        "checker": CHECKER,
        "checker_version": VERSION,
        "extraction_version": EXTRACTION_VERSION,
        "step": None,
        "plan_length": None,
        "cost": None,
        "redundant": None,
        "superseded": False,
    }
    if finish_reason == "length":
        return {**row, "outcome": Outcome.TRUNCATED.value, "detail": "cut at max_new_tokens"}
    if found.plan is None:
        return {**row, "outcome": Outcome.NO_PLAN.value, "detail": found.reason}
    verdict = checker.check(found.plan)
    return {
        **row,
        "outcome": verdict.outcome.value,
        "step": verdict.step,
        "detail": verdict.detail,
        "plan_length": len(found.plan),
        "cost": verdict.cost,
        "redundant": redundant_actions(checker, found.plan) if verdict.valid else None,
    }
