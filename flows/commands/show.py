"""`posterity show`: one trace, its plan step by step, its verdict, and who learned from it."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from flows.generations.judging import reading_of, seconds_for
from flows.pages.trace import one_trace
from planners.checking.steps import steps
from planners.errors import NotJudged
from planners.pddl import Task
from planners.pddl.pictures import draw
from planners.records import Plan
from warehouse.records import Decision, Feedback, Trace
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement, Unjudged

DRAWN = 40
"""Steps up to which every state of a plan is drawn; of a longer one, only the first and last."""


def show(warehouse: Warehouse, trace: str) -> Iterator[str]:
    """Yield lines about a trace, given by its id or the beginning of it.

    Raises InvalidInput where no trace, or more than one, begins like that.
    """
    found = one_trace(warehouse, trace)
    task = warehouse.task(found.task)
    assert task is not None  # every trace's task is in the warehouse
    horizon = "" if task.horizon is None else f", horizon {task.horizon}"
    yield f"trace {found.id}"
    yield (
        f"generation {found.generation} of {found.experiment}, {found.purpose}, "
        f"sample {found.sample}, by {found.policy}"
    )
    yield f"task {task.key}: {task.domain}, size {task.size}{horizon}"
    if not task.pddl:
        yield from ("", "a user wanted this to be forgotten: its task and its text were erased")
        return
    yield from ("", task.pddl.strip(), "", "completion:", found.text.strip(), "")
    plan = reading_of(found.prompt_format).read(task.parsed, found.text).plan
    if plan is not None:
        yield from _steps(task.parsed, plan, seconds_for(warehouse, found.experiment))
    yield from ("", _verdict(warehouse, found))
    yield from _decisions(warehouse, found)


def _steps(task: Task, plan: Plan, seconds: float) -> Iterator[str]:
    """The plan with what each action changes, up to the first that cannot be applied, or as far as
    it can be followed in so many seconds.
    """
    picture = draw(task, task.problem.init)
    if picture:
        yield from (picture, "")
    try:
        yield from _replayed(task, plan, picture, seconds)
    except NotJudged as error:
        yield f"the plan cannot be followed further: {error.reason}"


def _replayed(task: Task, plan: Plan, picture: str, seconds: float) -> Iterator[str]:
    for number, step in enumerate(steps(task, plan, seconds)):
        bad = "" if step.bad is None else f"   {step.bad.value}"
        yield f"{number}: ({' '.join(step.action)}){bad}"
        if step.bad is not None:
            return
        yield f"     {' '.join(step.changes) or 'nothing changes'}"
        if picture and (len(plan) <= DRAWN or number == len(plan) - 1):
            yield from (_indented(draw(task, step.state)), "")


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())


def _verdict(warehouse: Warehouse, trace: Trace) -> str:
    judged = [j for j in warehouse.every(Judgement, trace=trace.id) if not j.superseded]
    if not judged:
        refused = warehouse.every(Unjudged, trace=trace.id)
        return f"not judged: {refused[-1].reason}" if refused else "not judged yet"
    verdict = judged[0]
    at = "" if verdict.step is None else f" at step {verdict.step}"
    detail = f": {verdict.detail}" if verdict.detail else ""
    redundant = f", {verdict.redundant} of its actions redundant" if verdict.redundant else ""
    said = "".join(
        f"; its user {'accepted' if feedback.accepted else 'rejected'} it"
        for feedback in warehouse.every(Feedback, trace=trace.id)
    )
    return f"verdict: {verdict.outcome}{at}{detail}{redundant}{said}"


def _decisions(warehouse: Warehouse, trace: Trace) -> Iterator[str]:
    """Why each generation that could learn from the trace kept or dropped it."""
    found = warehouse.every(Decision, trace=trace.id)
    if not found:
        measured = trace.purpose == "evaluate"
        yield "in no pool" + (": evaluation traces are never learned from" if measured else " yet")
    for decision in sorted(found, key=lambda one: (one.experiment, one.since)):
        verb = "kept" if decision.kept else "dropped"
        instead = () if decision.kept else _kept_instead(warehouse, trace.task, decision)
        told = f"; kept of its task: {', '.join(instead)}" if instead else ""
        yield f"{verb} for {decision.generations} of {decision.experiment}: {decision.reason}{told}"


def _kept_instead(warehouse: Warehouse, task: str, decision: Decision) -> list[str]:
    """The traces of a task that were kept while a decision stood, by id."""
    others = warehouse.every(Decision, experiment=decision.experiment, task=task, kept=True)
    last = inf if decision.until is None else decision.until
    return [
        one.trace
        for one in others
        if one.since <= last and decision.since <= (inf if one.until is None else one.until)
    ]
