"""The verdict on a trace: extraction, then the checker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from flows.experiments.reading import recorded_settings
from flows.generations.identity import INGESTED_FORMAT
from planners.checking.checker import CHECKER, CHECKER_VERSION, PLAN_SECONDS, Checker, checker_for
from planners.checking.reference import redundant_actions
from planners.errors import InvalidInput, NotJudged
from planners.policies.validating import out_of_time, shortened, validate
from planners.prompts.extraction import EXTRACTION_VERSION
from planners.prompts.formats import PROMPTS, READABLE, PromptFormat
from planners.records import Outcome, Plan, Verdict, turn_texts
from warehouse.records import Answer, Task, Trace
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement, Unjudged

READING = PROMPTS["pddl"]
"""The format that reads plans from ingested completions, in the task's own names."""
VERSION = f"{CHECKER_VERSION}+{EXTRACTION_VERSION}"
"""The version of a verdict: that of the checker, and of the extraction before it."""


CheckerOf = Callable[[str, str], Checker]
"""Makes a task's checker from the texts of its domain and problem."""


def checkers(timeout: float) -> CheckerOf:
    """Makes checkers that give each plan so many seconds."""
    return partial(checker_for, timeout=timeout)


def seconds_for(warehouse: Warehouse, experiment: str) -> float:
    """The time that an experiment, by its id, gives the checker for a plan."""
    stored = warehouse.experiment(experiment)
    settings = recorded_settings(stored.config) if stored else {}
    seconds: float = settings.get("judging", {}).get("timeout", PLAN_SECONDS)
    return seconds


def reading_of(written: str, own: PromptFormat = READING) -> PromptFormat:
    """The format that reads answers to a prompt of the format `written`: that format, or the
    experiment's own where it is a version that is gone.
    """
    return READING if written == INGESTED_FORMAT else READABLE.get(written, own)


def judgement(
    checker: Checker, trace: Answer | Trace, prompt: PromptFormat
) -> Judgement | Unjudged:
    """The record of the verdict on a trace that answers a prompt of this format, or of why the
    checker gives none.
    """
    try:
        plan, verdict = verdict_of(checker, trace.text, trace.finish_reason, prompt)
    except NotJudged as error:
        return Unjudged(trace.id, CHECKER, VERSION, error.reason, trace.experiment)
    return Judgement(
        trace=trace.id,
        checker=CHECKER,
        checker_version=VERSION,
        extraction_version=EXTRACTION_VERSION,
        outcome=verdict.outcome.value,
        step=verdict.step,
        detail=verdict.detail,
        plan_length=None if plan is None else len(plan),
        cost=verdict.cost,
        redundant=redundant_actions(checker, plan) if plan is not None and verdict.valid else None,
        plan=None if plan is None else str(plan),
        experiment=trace.experiment,
        generation=trace.generation,
        purpose=trace.purpose,
        task=trace.task,
    )


def verdict_of(
    checker: Checker, text: str, finish_reason: str, prompt: PromptFormat
) -> tuple[Plan | None, Verdict]:
    """The plan in a completion, if any, and the verdict; a truncated completion has no plan."""
    found = prompt.read(checker.task, text)
    if finish_reason == "length":
        return None, _without_plan(Outcome.TRUNCATED, "cut at max_new_tokens")
    if found.plan is None:
        return None, _without_plan(Outcome.NO_PLAN, found.reason)
    return found.plan, checker.check(found.plan)


def _without_plan(outcome: Outcome, detail: str) -> Verdict:
    return Verdict(outcome, None, detail, None, CHECKER, CHECKER_VERSION)


def told_truly(task: Task, trace: Trace, prompt: PromptFormat) -> bool:
    """Whether each turn of the tool in a trace is the checker's answer to the turn before it, or
    that it had no time to judge, for which the time that it has now is no proof.
    """
    checker = checker_for(task.domain_pddl, task.pddl)
    late = out_of_time(checker, prompt)
    turns = turn_texts(trace.text, trace.turn_characters or ())
    for said, told in zip(turns[::2], turns[1::2], strict=False):
        answer = validate(checker, prompt, said)
        if answer is None or told not in (answer, shortened(answer), late, shortened(late)):
            return False
    return "".join(turns) == trace.text


class Again:
    """Judges traces, which come task by task: of equal texts only the first. `prompt` reads those
    whose own format is gone.
    """

    def __init__(self, tasks: dict[str, Task], prompt: PromptFormat, checker_of: CheckerOf) -> None:
        self.tasks, self.prompt, self.task = tasks, prompt, ""
        self.checker_of = checker_of
        self.known: dict[tuple[str, str, str], Judgement | Unjudged] = {}

    def __call__(self, trace: Answer) -> Judgement | Unjudged:
        if trace.task != self.task:
            self.task, self.known = trace.task, {}
        text = trace.text, trace.finish_reason, trace.prompt_format
        if text not in self.known:
            task = self.tasks[trace.task]
            reading = reading_of(trace.prompt_format, self.prompt)
            try:
                checker = self.checker_of(task.domain_pddl, task.pddl)
                self.known[text] = judgement(checker, trace, reading)
            except InvalidInput as error:  # the stored text is no task any more
                self.known[text] = Unjudged(
                    trace.id, CHECKER, VERSION, str(error), trace.experiment
                )
        found = self.known[text]
        if isinstance(found, Unjudged):
            return replace(found, trace=trace.id)
        return replace(found, trace=trace.id, generation=trace.generation, purpose=trace.purpose)
