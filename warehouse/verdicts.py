"""Records of judging: verdicts, traces without one, opinions of referees, canaries."""

from __future__ import annotations

from dataclasses import dataclass

from warehouse.records import Record, stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Record):
    """A checker's verdict on a trace."""

    table = "judgements"
    grain = "One row per trace and checker: the verdict. A trace without a row is not judged."

    trace: str = stored("The trace.", key=True)
    checker: str = stored("Name of the checker.", key=True)
    checker_version: str = stored("Version of the checker + that of the extraction.", key=True)
    extraction_version: str = stored("Version of the step that finds the plan in the text.")
    outcome: str = stored("What became of the plan, from the closed table of outcomes.")
    step: int | None = stored("Index of the first bad action, from 0.")
    detail: str = stored("The unmet condition in PDDL, or what else was wrong.")
    plan_length: int | None = stored("Actions of the plan found; none where there is no plan.")
    cost: float | None = stored("Cost of a valid plan under the task's metric.")
    superseded: bool | None = stored(
        "Whether another version has judged the trace since; views show the newest.", default=False
    )
    experiment: str = stored("The trace's experiment, so that views need no join.")
    generation: int = stored("The trace's generation, so that views need no join.")
    purpose: str = stored("The trace's purpose, so that views need no join.")
    task: str = stored("The trace's task, so that views need no join.")
    redundant: int | None = stored("Actions that greedy action elimination leaves out.")
    plan: str | None = stored(
        "The plan that was found, one action per line, in the task's own names; none where there "
        "is no plan, or where it was judged before schema 6."
    )


@dataclass(frozen=True, slots=True)
class Unjudged(Record):
    """A trace on which a checker could give no verdict, and why."""

    table = "unjudged"
    grain = "One row per trace and checker that gave no verdict on it: why. It is not invalid."

    trace: str = stored("The trace.", key=True)
    checker: str = stored("Name of the checker.", key=True)
    checker_version: str = stored("Version of the checker + that of the extraction.", key=True)
    reason: str = stored("Why there is no verdict, for example that the time was over.")
    experiment: str = stored("The trace's experiment, so that queries need no join.")


@dataclass(frozen=True, slots=True)
class Opinion(Record):
    """A referee's opinion on a trace's plan."""

    table = "opinions"
    grain = "One row per trace and referee: a second opinion, which never decides anything."

    trace: str = stored("The trace.", key=True)
    referee: str = stored("Whose opinion it is.", key=True)
    valid: bool | None = stored("Whether the plan is valid; none where there is no verdict.")
    note: str = stored("Why there is no verdict.")


@dataclass(frozen=True, slots=True)
class Canary(Record):
    """A plan that was broken on purpose, and the checker's verdict on it."""

    table = "canaries"
    grain = "One row per plan broken on purpose and judged beside the traces."

    id: str = stored("Hash of experiment, generation, kind and text.", key=True, column="canary")
    experiment: str = stored("The experiment.")
    generation: int = stored("Generation whose valid plan was broken.")
    task: str = stored("The task.")
    kind: str = stored("What was done to the plan.")
    text: str = stored("The broken completion.")
    outcome: str = stored("The checker's verdict; VALID here stops the loop.")
