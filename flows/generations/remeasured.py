"""Whether a server answers with a generation's own weights: its log-probabilities, computed again.

A server can hold another adapter under the right name, or render prompts otherwise. Its texts look
alike, and only their log-probabilities tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import Checkpoint, checkpoint_of, use_machine
from flows.generations.lineage import start_of
from planners.errors import ComponentFailure
from planners.models.checkpoint import load
from planners.models.hardware import out_of_memory
from planners.policies.local import LocalPolicy
from planners.policies.served import ServedPolicy
from planners.records import Completion, Policy, Sampling, derive_seed
from warehouse.store import Warehouse

TOKENS = 64
"""Tokens of each completion that is measured again, at most."""


def require_own_weights(
    warehouse: Warehouse, experiment: Experiment, generation: int, policy: Policy,
    prompts: Sequence[str],
) -> None:  # fmt: skip
    """Sample a few of a stage's prompts from a server and compute their log-probabilities again.

    Does nothing for a policy in this process, for a server whose base is nowhere else, and where
    the server tells no token ids or no log-probabilities. Raises ComponentFailure if the weights
    are not the generation's.
    """
    server = experiment.model.server
    if not isinstance(policy, ServedPolicy) or server is None or not server.remeasured:
        return
    if not experiment.has_base:
        return
    few = prompts[: server.remeasured]
    sampling = Sampling(max_new_tokens=TOKENS)
    seeds = [derive_seed(experiment.seed, generation, "remeasured", text) for text in few]
    told = [
        (prompt, completion)
        for prompt, completion in zip(few, policy.sample(few, sampling, seeds), strict=True)
        if completion.token_ids and completion.sampling_logprob is not None
    ]
    if not told:
        return
    checkpoint = checkpoint_of(warehouse, experiment, generation)
    apart = _apart(experiment, checkpoint, told)
    wrong = f"{server.tolerance:g} are allowed" if apart > server.tolerance else ""
    if generation and not wrong:
        # Training may change little, so that an adapter which is not applied is within tolerance.
        start = start_of(warehouse, experiment, generation)
        others = _apart(experiment, checkpoint_of(warehouse, experiment, start), told)
        if others < apart:
            wrong = f"those of generation {start}, which it was trained from, are {others:.2g} off"
    if wrong:
        raise ComponentFailure(
            f"the server does not answer with the weights of generation {generation}: its "
            f"log-probabilities are {apart:.2g} nats a token off those of {checkpoint.folder} "
            f"({wrong}). Another adapter or base may be loaded there, or another chat template; no "
            "trace was kept. Restart the server and run again; model.server.tolerance allows more, "
            "model.server.remeasured = 0 asks nothing"
        )


def _apart(
    experiment: Experiment, checkpoint: Checkpoint, told: Sequence[tuple[str, Completion]]
) -> float:
    """How far a server's log-probabilities of completions are from a checkpoint's: the sum of their
    absolute differences, in nats, by token. Raises ComponentFailure if there is no memory for the
    checkpoint.
    """
    use_machine(experiment)
    try:
        policy = LocalPolicy(*load(checkpoint.folder, checkpoint.base))
        heads = policy.encode([prompt for prompt, _ in told], 0)
        rows = [(head, list(one.token_ids)) for head, (_, one) in zip(heads, told, strict=True)]
        own = policy.row_logprobs(rows)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ComponentFailure(
            "there is no memory to measure a served generation again beside its server: set "
            "model.device=cpu, or model.server.remeasured=0 to trust the server"
        ) from error
    off = [
        abs(logprob - (one.sampling_logprob or 0.0))
        for logprob, (_, one) in zip(own, told, strict=True)
    ]
    return sum(off) / sum(len(one.token_ids) for _, one in told)
