"""The loop. Everything else is detail.

Each stage asks the warehouse what is missing, does that, and writes its completion mark last. So a
run killed anywhere and started again ends with the same contents as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flows.deployment.loading import load_requests, require_enough
from flows.experiments.experiment import Experiment
from flows.generations.lineage import decided, deployed
from flows.generations.tasks import is_whole
from flows.loop.judge import judge, unjudged
from flows.loop.learn import curate, train
from flows.loop.prepare import prepare
from flows.loop.promote import promote, require_promoted
from flows.loop.sample import deploy, evaluate
from flows.progress import Watch
from flows.tracking.trackers import follow, require_trackers
from warehouse.landing import take_left
from warehouse.store import Warehouse

Stage = Callable[[Warehouse, Experiment, int, Watch], None]
"""Does one stage of one generation."""
EVERY_GENERATION = ("curate", "train", "evaluate", "judge", "promote", "deploy")
"""The stages of a generation, in their order."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages as plain functions, or the same ones wrapped by an orchestrator."""

    prepare: Callable[[Warehouse, Experiment, Watch], None] = prepare
    curate: Stage = curate
    train: Stage = train
    evaluate: Stage = evaluate
    judge: Stage = judge
    promote: Stage = promote
    deploy: Stage = deploy


def iterate(
    warehouse: Warehouse,
    experiment: Experiment,
    watch: Watch,
    do: Stages | None = None,
    last: int | None = None,
) -> None:
    """Run an experiment to its last generation, or to `last` (the paper, section 2).

    Each generation is measured on all tasks and, if promoted, put to work on the training tasks.
    The checker judges every trace; the curator chooses from the traces of all ancestors; the next
    generation learns from those. Running again resumes. A snapshot is published for readers after
    each generation. Raises NotPromoted where a generation may not be deployed, and Waiting where
    users have not asked enough yet.
    """
    do = do or Stages()
    require_trackers(experiment)
    take_left(warehouse, experiment.id)
    load_requests(warehouse)
    with watch.telling(warehouse.checkpoints, experiment.id):
        _reach(warehouse, experiment, experiment.generations if last is None else last, watch, do)
        warehouse.publish()


def _reach(
    warehouse: Warehouse, experiment: Experiment, last: int, watch: Watch, do: Stages
) -> None:
    """Make the generations up to `last` that are missing."""
    do.prepare(warehouse, experiment, watch)
    for generation in range(last + 1):
        if not finished(warehouse, experiment, generation):
            _make(warehouse, experiment, generation, watch, do)
        require_promoted(warehouse, experiment, generation)


def _make(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch, do: Stages
) -> None:
    if generation > 0:
        # Runs that learn each other's traces take turns.
        for other in experiment.crossed():
            if not finished(warehouse, other, generation - 1):
                watch.say(f"seed {other.seed}, whose traces seed {experiment.seed} learns:")
                with warehouse.working_on(other.id):
                    _reach(warehouse, other, generation - 1, watch, do)
                watch.say(f"seed {experiment.seed}:")
        require_enough(warehouse, experiment, generation)
        do.curate(warehouse, experiment, generation, watch)
    if generation > 0 or experiment.warmup is not None:
        do.train(warehouse, experiment, generation, watch)
    do.evaluate(warehouse, experiment, generation, watch)
    do.judge(warehouse, experiment, generation, watch)
    do.promote(warehouse, experiment, generation, watch)
    if _works(warehouse, experiment, generation):
        do.deploy(warehouse, experiment, generation, watch)
        do.judge(warehouse, experiment, generation, watch)
    warehouse.publish()
    watch.generation(warehouse, experiment, generation)
    follow(warehouse, experiment, generation, watch)


def _works(warehouse: Warehouse, experiment: Experiment, generation: int) -> bool:
    """Whether a generation is put to work on tasks of ours. The last has none to teach, one that is
    not promoted may not, and where users are to teach alone, none is.
    """
    if experiment.users_alone:
        return False
    last = generation == experiment.generations
    return not last and generation == deployed(warehouse, experiment)


def finished(warehouse: Warehouse, experiment: Experiment, generation: int) -> bool:
    """Whether a generation is done: decided on, judged by the present checker and, if it is the one
    deployed, put to work.
    """
    made = generation in decided(warehouse, experiment)
    if not made or unjudged(warehouse, experiment, generation):
        return False
    if not _works(warehouse, experiment, generation):
        return True
    if not is_whole(warehouse, experiment, "deploy", generation):
        return False
    # The last mark that judging writes, which it does only after deployment.
    last = "referees" if experiment.judging.referees else "canaries"
    return bool(warehouse.done(experiment.id, generation, last))
