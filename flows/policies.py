"""Which policy answers for a generation: a model here, a server, or what never learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.checkpoints import Checkpoint, checkpoint_of, loaded
from flows.experiment import Experiment
from planners.errors import InvalidInput
from planners.local import LocalPolicy, use_threads
from planners.records import Policy
from planners.served import ServedPolicy
from planners.serving import serving
from planners.unlearned import PlannerPolicy, ScriptedPolicy
from warehouse.store import Warehouse

PROOF = "Say yes."
"""What a server is asked before a generation is put to work: do the new weights answer?"""
SECONDS = 10.0
"""What a classical planner may take for a task, unless told otherwise."""


@contextmanager
def policy_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> Iterator[Policy]:
    """The policy that a generation is, ready to answer; a server started for it is stopped."""
    model = experiment.model
    if not model.learns:
        yield unlearned(experiment)
    elif model.policy == "served":
        with _served(warehouse, experiment, generation) as policy:
            yield policy
    else:
        checkpoint = checkpoint_of(warehouse, experiment, generation)
        threads = use_threads(model.threads)
        name = f"local {checkpoint.weights}"
        yield LocalPolicy(*loaded(checkpoint), name=name, batch=model.batch, threads=threads)


def unlearned(experiment: Experiment) -> PlannerPolicy | ScriptedPolicy:
    """The policy of an experiment without weights. Raises InvalidInput."""
    model = experiment.model
    if model.policy == "planner":
        return PlannerPolicy(model.seconds or SECONDS)
    return ScriptedPolicy(Path(model.base))


@contextmanager
def _served(
    warehouse: Warehouse, experiment: Experiment, generation: int
) -> Iterator[ServedPolicy]:
    server = experiment.model.server
    if server is None:
        raise InvalidInput(
            f"{experiment.id} is answered by a server: say where it is with model.server.urls or "
            "model.server.command"
        )
    base = server.model or experiment.model.base
    named = f"served {base}"
    if server.command is not None:
        checkpoint = checkpoint_of(warehouse, experiment, generation)
        folder = _whole(checkpoint)
        with serving(server.command, folder) as url:
            served = server.model or str(folder)
            policy = ServedPolicy([url], served, f"served {checkpoint.weights}", server.concurrency)
            policy.require_ready()
            policy.prove(PROOF)
            yield policy
        return
    if generation == 0:
        policy = ServedPolicy(server.urls, base, named, server.concurrency)
        policy.require_ready()
    else:
        checkpoint = checkpoint_of(warehouse, experiment, generation)
        name = f"{experiment.id}-generation-{generation:03d}"
        policy = ServedPolicy(
            server.urls, base, f"{named} {checkpoint.weights}", server.concurrency
        )
        policy.load_adapter(name, str(checkpoint.folder.resolve()))
    policy.prove(PROOF)
    yield policy


def _whole(checkpoint: Checkpoint) -> Path:
    """A folder with whole weights, for servers that know no adapters."""
    from planners.checkpoint import ADAPTER, save

    if not (checkpoint.folder / ADAPTER).is_file():
        return checkpoint.folder
    merged = checkpoint.folder / "merged"
    if not merged.is_dir():
        save(*loaded(checkpoint), merged)
    return merged
