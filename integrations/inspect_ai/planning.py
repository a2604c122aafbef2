"""Planning as a task of Inspect: `inspect eval integrations/inspect_ai/planning.py -T count=50`."""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState, generate

from planners import NotJudged, judge, pose


@scorer(metrics=[accuracy(), stderr()])
def valid_plan() -> Scorer:
    """Correct if the plan checker calls the plan in the answer valid; no score where it gives no
    verdict.
    """

    async def score(state: TaskState, target: Target) -> Score | None:
        try:
            verdict = judge(*(state.metadata[key] for key in ("domain", "problem")),
                            state.output.completion)  # fmt: skip
        except NotJudged:
            return None
        return Score(
            value=CORRECT if verdict.valid else INCORRECT, answer=state.output.completion,
            explanation=f"{verdict.outcome.value} {verdict.detail}".strip(),
        )  # fmt: skip

    return score


@task
def planning(
    domain: str = "blocksworld", count: int = 100, smallest: int = 3, largest: int = 6,
    shortest: int = 2, longest: int = 8, seed: int = 0,
) -> Task:  # fmt: skip
    """Find a plan. Sizes and horizons (`shortest` to `longest`) are inclusive."""
    posed = pose(domain, count, (smallest, largest), (shortest, longest), seed)
    samples = [
        Sample(
            id=f"{domain}-{number}", input=one.prompt, target=one.solution,
            metadata={"domain": one.domain, "problem": one.problem, "size": one.size,
                      "horizon": one.horizon},
        )
        for number, one in enumerate(posed)
    ]  # fmt: skip
    return Task(dataset=MemoryDataset(samples), solver=generate(), scorer=valid_plan())
