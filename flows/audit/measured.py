"""Whether recorded log-probabilities are those of the recorded weights, measured again."""

from __future__ import annotations

from collections.abc import Sequence

from flows.audit.known import Check
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import checkpoint_of, use_machine
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.models.checkpoint import load
from planners.models.likelihood import own_tokens, supervised
from planners.policies.local import LocalPolicy
from planners.prompts.formats import PROMPTS
from warehouse.store import Warehouse

TOLERANCE = 0.01
"""Nats a token by which a log-probability may differ in float32: other batches round otherwise."""
ROUNDED = 0.1
"""The same for a model that is calculated in half the precision, or on a GPU."""


def measured_again(
    warehouse: Warehouse, known: Sequence[Experiment], count: int, watch: Watch
) -> Check:
    """Measure `count` traces of each generation again, with its checkpoint.

    Generations whose checkpoint is not as recorded are left to the check of generations, and
    policies that are no model in this process have nothing to measure.
    """
    check = Check("log-probabilities")
    local = [one for one in known if one.model.policy == "local"]
    with watch.bar("verify log-probabilities", len(local)) as advance:
        for experiment in local:
            _measure(warehouse, experiment, count, check)
            advance(1)
    return check


def _measure(warehouse: Warehouse, experiment: Experiment, count: int, check: Check) -> None:
    prompt = PROMPTS[experiment.model.prompt]
    rows = warehouse.query(
        "to_measure_again", experiment=experiment.id, prompt_format=str(prompt), count=count
    )
    tasks = {task.key: task.parsed for task in warehouse.tasks(experiment.id)}
    use_machine(experiment)
    for generation, traces in rows.groupby("generation"):
        try:
            checkpoint = checkpoint_of(warehouse, experiment, int(generation))
        except InvalidInput:
            continue
        policy = LocalPolicy(*load(checkpoint.folder, checkpoint.base))
        exact = experiment.model.dtype in ("auto", "float32") and policy.model.device.type == "cpu"
        allowed = TOLERANCE if exact else ROUNDED
        heads = policy.encode([prompt.write(tasks[task]) for task in traces["task"]], 0)
        tails = [
            own_tokens([int(one) for one in told.token_ids], list(told.turn_tokens))
            for told in traces.itertuples()
        ]
        measured = list(zip(heads, tails, strict=True))
        again = policy.row_logprobs(measured)
        for told, row, logprob in zip(traces.itertuples(), measured, again, strict=True):
            apart = abs(logprob - told.logprob) / supervised(row)
            check.expect(
                apart <= allowed,
                f"trace {told.trace}: its log-probability is {told.logprob:.4f}, and with the "
                f"weights of generation {generation} it is {logprob:.4f}, {apart:.2g} nats a token "
                "apart",
            )
