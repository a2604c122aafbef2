"""Traces of a warehouse as a log of Inspect, which Inspect View and Docent open.

`python integrations/inspect_ai/traces.py posterity.duckdb EXPERIMENT GENERATION traces.eval`
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    write_eval_log,
)
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
from inspect_ai.scorer import CORRECT, INCORRECT, Score

from warehouse import Warehouse

TRACES = """
    SELECT t.trace, t.sample, t.text, t.policy, t.reasoning_tokens, t.plan_tokens, t.logprob,
        t.prompt_format, k.domain, k.size, e.horizon, k.pddl, v.outcome, v.detail, v.plan_length
    FROM traces AS t
    JOIN tasks AS k ON k.task = t.task
    LEFT JOIN experiment_tasks AS e ON e.experiment = t.experiment AND e.task = t.task
    LEFT JOIN stg_verdicts AS v ON v.trace = t.trace
    WHERE t.experiment = :experiment AND t.generation = :generation AND t.purpose = 'evaluate'
    ORDER BY t.task, t.sample
"""


def log_of(warehouse: Warehouse, experiment: str, generation: int) -> EvalLog:
    """The evaluation of a generation: a sample for each trace, scored by the checker's verdict; one
    that was not judged has no score.
    """
    rows = warehouse.frame(TRACES, experiment=experiment, generation=generation)
    samples = [_sample(row) for row in rows.to_dict("records")]
    judged = [one for one in samples if one.scores]
    right = sum(one.scores["checker"].value == CORRECT for one in judged if one.scores)
    metric = EvalMetric(name="accuracy", value=right / max(1, len(judged)))
    score = EvalScore(name="checker", scorer="checker", metrics={"accuracy": metric})
    model = f"posterity/{experiment}@{generation}"
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=datetime.now(UTC).isoformat(), task=experiment, model=model,
            dataset=EvalDataset(name=experiment, samples=len(samples)), config=EvalConfig(),
        ),
        samples=samples,
        results=EvalResults(
            total_samples=len(samples), completed_samples=len(samples), scores=[score]
        ),
    )  # fmt: skip


def _sample(row: dict[str, object]) -> EvalSample:
    outcome, text = row["outcome"], str(row["text"])
    told = Score(
        value=CORRECT if outcome == "VALID" else INCORRECT,
        explanation=f"{outcome} {row['detail'] or ''}".strip(),
    )
    names = ("domain", "size", "horizon", "policy", "prompt_format", "logprob", "plan_length")
    return EvalSample(
        id=str(row["trace"]), epoch=1, input=str(row["pddl"]), target="",
        messages=[ChatMessageUser(content=str(row["pddl"])), ChatMessageAssistant(content=text)],
        output=ModelOutput.from_content(str(row["policy"]), text),
        scores={"checker": told} if isinstance(outcome, str) else None,
        metadata={name: row[name] for name in names if row[name] == row[name]},
    )  # fmt: skip


if __name__ == "__main__":
    place, experiment, generation, out = sys.argv[1:]
    with Warehouse(place, read_only=True) as store:
        write_eval_log(log_of(store, experiment, int(generation)), out)
