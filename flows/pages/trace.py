"""The page of a trace: its task, its text, its plan step by step, its verdict, and what became of
it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from flows.generations.judging import reading_of
from flows.pages.drawings import Picture, picture
from flows.pages.links import Row, rows_of
from flows.pages.source import Source
from planners.checking.explain import explain
from planners.checking.steps import Step, steps
from planners.errors import InvalidInput, NotJudged, PosterityError
from planners.pddl import Task as Parsed
from planners.pddl.printing import formula_text
from planners.records import Plan, turn_texts
from warehouse.records import Decision, Feedback, Request, Task, Trace
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement, Opinion, Unjudged

ADVICE_SECONDS = 0.2
"""Time for the search behind each line of advice: a page is not kept waiting."""
REPLAY_SECONDS = 1.0
"""Time to follow a plan whose quantifiers are large."""
THOUGHT = "</think>"


@dataclass(frozen=True, slots=True)
class TracePage:
    """A trace as its page shows it. Without a `verdict`, `unjudged` says why; `told` is what there
    is to say of its plan besides the `steps`.
    """

    trace: Trace
    task: Task
    reasoning: str
    answer: str
    verdict: Judgement | None
    unjudged: str
    advice: list[str]
    steps: list[Step]
    told: str
    picture: Picture | None
    goal: list[str]
    decisions: list[Decision]
    feedback: list[Feedback]
    request: Request | None
    opinions: list[Opinion]
    siblings: list[Row]


def trace_page(source: Source, id: str) -> TracePage:
    """A trace's page. Raises InvalidInput where there is none."""
    with source.reading() as warehouse:
        return _page(warehouse, one_trace(warehouse, id), source.only)


def one_trace(warehouse: Warehouse, start: str) -> Trace:
    """The trace that has an id, or the only one whose id begins like that. Raises InvalidInput
    where there is none, or more than one.
    """
    found = warehouse.traces_beginning(start)
    # A whole id names its trace, even where longer ids begin with it.
    exact = [trace for trace in found if trace.id == start]
    if not found:
        raise InvalidInput(
            f"no trace id in {warehouse.place} begins with {start!r}; `posterity query "
            '"FROM best_plans LIMIT 10"` lists some'
        )
    if len(found) > 1 and not exact:
        names = ", ".join(trace.id for trace in found)
        raise InvalidInput(f"give more of the trace's id: {names} begin with {start!r}")
    return (exact or found)[0]


def _page(warehouse: Warehouse, trace: Trace, only: frozenset[str] | None) -> TracePage:
    task = warehouse.task(trace.task)
    assert task is not None  # every trace's task is in the warehouse
    judged = [j for j in warehouse.every(Judgement, trace=trace.id) if not j.superseded]
    refused = warehouse.every(Unjudged, trace=trace.id)
    siblings = warehouse.query("page_siblings", task=trace.task, experiment=trace.experiment)
    *turns, last = turn_texts(trace.text, trace.turn_characters or ())
    thought, mark, answer = last.partition(THOUGHT) if trace.reasoning_tokens else ("",) * 3
    thought = "".join(turns) + thought
    moved, drawn, advice, told, goal = _replayed(task, trace)
    decisions = warehouse.every(Decision, trace=trace.id)
    return TracePage(
        trace, task, thought, answer if mark else last,
        judged[0] if judged else None, refused[-1].reason if refused else "", advice, moved,
        told, drawn, goal,
        sorted(
            (one for one in decisions if only is None or one.experiment in only),
            key=lambda one: (one.experiment, one.since),
        ),
        warehouse.every(Feedback, trace=trace.id),
        next(iter(warehouse.every(Request, trace=trace.id)), None),
        warehouse.every(Opinion, trace=trace.id),
        rows_of(siblings),
    )  # fmt: skip


def _replayed(
    task: Task, trace: Trace
) -> tuple[list[Step], Picture | None, list[str], str, list[str]]:  # fmt: skip
    """The steps of a trace's plan, their picture, advice, a word on it, and the task's goal;
    nothing of what cannot be read.
    """
    try:
        parsed = task.parsed
        plan = reading_of(trace.prompt_format).read(parsed, trace.text).plan
    except PosterityError:
        return [], None, [], "It cannot be read any more.", []
    moved, drawn, advice, told = replayed(parsed, plan or Plan(()))
    if plan is None or not plan.actions:
        told = "No plan was found in it." if plan is None else "The plan has no action."
    return moved, drawn, advice, told, goal_lines(parsed)


def replayed(
    task: Parsed, plan: Plan
) -> tuple[list[Step], Picture | None, list[str], str]:  # fmt: skip
    """The steps of a plan, its picture, advice where it is not valid, and why it was not followed
    to its end, if it was not.
    """
    moved, advice, told = list[Step](), list[str](), ""
    try:
        for one in steps(task, plan, REPLAY_SECONDS):
            moved.append(one)
        advice = explain(task, plan, ADVICE_SECONDS) if plan.actions else []
    except NotJudged as error:
        told = f"It is followed no further on this page: {error.reason}."
    states = [frozenset(task.problem.init), *(one.state for one in moved)]
    drawn = None
    with suppress(InvalidInput):  # its goal is more than atoms
        drawn = picture(task, states)
    return moved, drawn, advice, told


def goal_lines(task: Parsed) -> list[str]:
    """The goal as PDDL, a part of a conjunction on each line."""
    goal = task.problem.goal
    parts = goal[1:] if goal and goal[0] == "and" else [goal]
    return [formula_text(part, {}) for part in parts]
