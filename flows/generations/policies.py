"""The policy of a generation: a local model, a server, or a baseline that never learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import (
    UNKNOWN,
    Checkpoint,
    checkpoint_of,
    files_of,
    loaded,
    require_base,
    use_machine,
)
from planners.errors import ComponentFailure, InvalidInput
from planners.files import one_process
from planners.models.checkpoint import load, read_tokenizer, save, weights_hash
from planners.policies.baselines import PlannerPolicy, ScriptedPolicy
from planners.policies.local import LocalPolicy
from planners.policies.model_server import serving
from planners.policies.served import ServedPolicy
from planners.records import Policy, Sampling
from warehouse.store import Warehouse

PROOF = "Say yes."
"""The prompt that a server must answer with the new weights before they are put to work."""
SECONDS = 10.0
"""Seconds that a classical planner has per task by default."""


@contextmanager
def policy_of(
    warehouse: Warehouse, experiment: Experiment, generation: int, sampling: Sampling
) -> Iterator[Policy]:
    """A generation's policy, ready to answer; a server started for it stops with the block."""
    model = experiment.model
    if not model.learns:
        yield _as_begun(warehouse, experiment)
    elif model.policy == "served":
        with _served(warehouse, experiment, generation, sampling) as policy:
            yield policy
    else:
        checkpoint = checkpoint_of(warehouse, experiment, generation)
        threads = use_machine(experiment)
        name = f"local {checkpoint.weights}"
        yield LocalPolicy(*loaded(checkpoint), name=name, batch=model.batch, threads=threads)


def _as_begun(warehouse: Warehouse, experiment: Experiment) -> PlannerPolicy | ScriptedPolicy:
    found, made = unlearned(experiment), warehouse.generation(experiment.id, 0)
    if made is not None and made.weights_hash != found.name:
        raise InvalidInput(
            f"the policy is {found.name}, and {experiment.id} was begun with {made.weights_hash}: "
            "restore that, or start a new experiment"
        )
    return found


def unlearned(experiment: Experiment) -> PlannerPolicy | ScriptedPolicy:
    """The policy of an experiment without weights. Raises InvalidInput if it cannot be used."""
    model = experiment.model
    if model.policy == "planner":
        return PlannerPolicy(model.seconds or SECONDS)
    return ScriptedPolicy(Path(model.base))


@contextmanager
def _served(
    warehouse: Warehouse, experiment: Experiment, generation: int, sampling: Sampling
) -> Iterator[ServedPolicy]:
    """A generation's policy at its server, once that is healthy and has answered a prompt."""
    server = experiment.model.server
    if server is None:
        raise InvalidInput(
            f"{experiment.id} is answered by a server: say where it is with model.server.urls or "
            "model.server.command"
        )
    checkpoint = checkpoint_of(warehouse, experiment, generation) if experiment.has_base else None
    base = server.model or experiment.model.base
    with ExitStack() as stack:
        urls = list(server.urls)
        if server.command is not None and checkpoint is not None:
            use_machine(experiment)  # which decides in what numbers an adapter is merged
            folder = _whole(checkpoint)
            urls = [stack.enter_context(serving(server.command, folder, server.start_up))]
            base = server.model or str(folder)
        name = "served " + (checkpoint.weights if checkpoint else base)
        patient = {"timeout": server.timeout, "patience": server.patience}
        tokenizer = None if checkpoint is None else read_tokenizer(checkpoint.folder)
        made = ServedPolicy(urls, base, name, server.concurrency, tokenizer=tokenizer, **patient)
        policy = stack.enter_context(closing(made))
        if not server.command:
            policy.require_ready(server.start_up)
        if server.adapters and checkpoint is not None and checkpoint.base is not None:
            # Another warehouse may have made other weights of the same experiment.
            adapter = f"{experiment.id}-generation-{generation:03d}-{checkpoint.weights[:12]}"
            policy.load_adapter(adapter, str(checkpoint.folder.resolve()))
        policy.prove(PROOF, sampling)
        yield policy


def _whole(checkpoint: Checkpoint) -> Path:
    """A folder with the adapter merged into its base, for servers that load whole models."""
    if checkpoint.base is None:
        return checkpoint.folder
    merged = checkpoint.folder / "merged"
    if merged.is_dir():
        return merged
    try:
        with one_process(checkpoint.folder / "merged.lock"):
            if not merged.is_dir():
                save(*load(checkpoint.folder, checkpoint.base), merged)
    except OSError as error:
        raise ComponentFailure(
            f"the adapter cannot be merged into its base at {merged}: {error.strerror}; make room "
            "there, or let this user write it"
        ) from error
    return merged


def first_weights(experiment: Experiment) -> tuple[str, str | None]:
    """Hash of generation 0's weights, or a baseline's name or UNKNOWN if there are none here; and
    the hashes of the files beside them.
    """
    if not experiment.model.learns:
        return unlearned(experiment).name, None
    base = require_first(experiment)
    return (UNKNOWN, None) if base is None else (weights_hash(base), files_of(base))


def require_first(experiment: Experiment) -> Path | None:
    """The folder of generation 0's weights; None if there are none here. Raises InvalidInput if
    something is missing that it answers with.
    """
    if not experiment.model.learns:
        unlearned(experiment)
    elif experiment.has_base:
        return require_base(experiment)
    return None
