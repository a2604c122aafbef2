"""Randomised arms of a generation: the same pool and the same training, kept traces drawn by lot.

What differs between a generation and such an arm was caused by which of a task's traces were kept.
A shift from one generation to the next may have other causes: a control whose curation prefers
nothing moves traits too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from curation.price import Effect, by_lot, effect, numeric
from flows.audit.ledger import Audit
from flows.experiments.experiment import Experiment
from flows.experiments.tables import Curation
from flows.generations.checkpoints import Checkpoint, checkpoint_of
from flows.generations.lessons import as_lessons
from flows.generations.pool import choosable, pool_for
from flows.loop.forecast import FIXED
from flows.loop.judge import judge
from flows.loop.learn import trained_again
from flows.loop.prepare import prepare
from flows.loop.sample import deploy
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.models.checkpoint import load, save
from planners.records import derive_seed
from warehouse.pool import TRAITS, completions_of, pool_traits, traits_of, written_traits
from warehouse.store import Warehouse

FEWEST = 2
"""Arms by lot of which something can be told."""
SURE = 0.05
"""Chance to tell any trait where the choice caused nothing."""
SAMPLES = 4
"""Completions per training task that each arm writes."""


def randomised(
    warehouse: Warehouse, experiment: Experiment, generation: int, arms: int, watch: Watch
) -> Audit:
    """Train arms by lot beside a generation, put all to work, and compare their traits.

    Nothing of the arms is kept but the findings. Raises InvalidInput if the generation was not
    trained by supervised fine-tuning, or its lessons leave nothing to chance.
    """
    if generation < 1 or experiment.training.method != "sft":
        raise InvalidInput(
            f"a randomised arm of generation {generation} of {experiment.id} cannot be made: it "
            "needs a generation from 1 on, trained with training.method = 'sft'"
        )
    made = [one.index for one in warehouse.generations(experiment.id)]
    if generation not in made:
        raise InvalidInput(
            f"{experiment.id} has no generation {generation}; it has {made[0]} to {made[-1]}"
            if made
            else f"{experiment.id} has no generation yet"
        )
    pool = pool_traits(warehouse, experiment.id, {}, generation)
    pool = choosable(pool, pool_for(warehouse, experiment, generation))
    if not pool.groupby(["task", "valid"])["weight"].nunique().gt(1).any():
        raise InvalidInput(
            f"generation {generation} of {experiment.id} learned all of what it could choose from "
            "in each task: nothing can be drawn by lot"
        )
    lots = [_lot(experiment, generation, pool, arm) for arm in range(arms)]
    traits = {**TRAITS, **experiment.audit.traits}
    asked = {name: sql for name, sql in traits.items() if name not in FIXED}
    with tempfile.TemporaryDirectory(prefix="posterity-arms-") as scratch:
        own = checkpoint_of(warehouse, experiment, generation)
        written = [_written(own, experiment, asked, Path(scratch) / "chosen", watch)]
        for number, lot in enumerate(lots, 1):
            folder = Path(scratch) / f"arm-{number}"
            trained = _trained(warehouse, experiment, generation, lot, folder / "weights")
            written.append(_written(trained, experiment, asked, folder, watch))
            watch.say(f"arm {number} of {arms}: trained by lot, and put to work")
    found = Audit(experiment, {})
    compare(found, generation, written)
    return found


def compare(found: Audit, generation: int, written: Sequence[pd.DataFrame]) -> None:
    """Note and tell how what the generation wrote, the first frame, differs from what arms by lot
    did.
    """
    chosen, *others = written
    left = [one for one in others if not one.empty]
    if silent := len(others) - len(left):
        found.say(f"{silent} of {len(others)} arms wrote no plan, and are compared with nothing")
    if chosen.empty or len(left) < FEWEST:
        who = "the generation" if chosen.empty else f"all but {len(left)} of the arms"
        found.say(f"{who} wrote no plan: what the choice caused cannot be told")
        return
    _tell(found, generation, dict(_effects([chosen, *left])), len(left))


def _lot(experiment: Experiment, generation: int, pool: pd.DataFrame, arm: int) -> dict[str, float]:
    """The weight of each trace that an arm learns."""
    seed = derive_seed(experiment.seed, generation, "arm", str(arm)) % 2**32
    weight = by_lot(pool["weight"], pool["task"], pool["valid"], seed)
    return {t: w for t, w in zip(pool["trace"], weight, strict=True) if w > 0}


def _trained(
    warehouse: Warehouse, experiment: Experiment, generation: int, lot: dict[str, float],
    folder: Path,
) -> Checkpoint:  # fmt: skip
    """The weights of an arm: all as for the generation, but for which traces are learned."""
    taught = [replace(one, weight=lot[one.trace]) for one in completions_of(warehouse, sorted(lot))]
    lessons = as_lessons(taught, experiment.model.prompt)
    return trained_again(warehouse, experiment, generation, lessons, folder)


def _written(
    checkpoint: Checkpoint, experiment: Experiment, traits: dict[str, str], folder: Path,
    watch: Watch,
) -> pd.DataFrame:  # fmt: skip
    """Traces with a plan that weights write for the training tasks, one row each, with traits.

    The weights become generation 0 of a warehouse of their own, so that the stages are the real
    ones, with the same seeds for all arms.
    """
    whole = folder / "whole"
    save(*load(checkpoint.folder, checkpoint.base), whole)
    model = experiment.model.model_copy(
        update={"base": str(whole), "policy": "local", "server": None}
    )
    drawing = replace(experiment.deploy, samples=SAMPLES)
    arm = experiment.model_copy(
        update={
            "model": model, "deploy": drawing, "generations": 1, "curation": Curation(),
            "workers": None, "warmup": None,
        }
    )  # fmt: skip
    with Warehouse(folder / "arm.duckdb") as own:
        quiet = Watch(quiet=True)
        prepare(own, arm, quiet)
        deploy(own, arm, 0, watch)
        judge(own, arm, 0, watch)
    with Warehouse(folder / "arm.duckdb", read_only=True) as own:
        return written_traits(own, arm.id, traits, 0)


def _effects(written: Sequence[pd.DataFrame]) -> Iterator[tuple[str, Effect]]:
    """The effect on each trait, and on the share of valid plans."""
    whole = pd.concat(written, ignore_index=True)
    columns = numeric(traits_of(whole)).assign(valid=whole["valid"].astype(float))
    arm = np.repeat(np.arange(len(written)), [len(one) for one in written])
    for name, column in columns.items():
        if column.notna().all() and column.nunique() > 1:
            chosen, *lots = column.groupby(arm).mean()
            yield str(name), effect(chosen, lots, float(column.std()) / len(written[0]) ** 0.5)


def _tell(found: Audit, generation: int, effects: dict[str, Effect], arms: int) -> None:
    """Note every effect; say those that stand out, with the chance to say any by chance at 5%."""
    found.say(f"generation {generation} and {arms} arms whose traces were drawn by lot:")
    before = len(found.lines)
    for left, (name, one) in enumerate(sorted(effects.items(), key=lambda item: item[1].p)):
        found.note(generation, "randomised", name, one._asdict())
        if one.p * (len(effects) - left) <= SURE and len(found.lines) == before + left:  # Holm
            found.say(
                f"  caused by the choice within tasks: {name} {one.chosen:.3g}, by lot "
                f"{one.lot:.3g} (difference {one.low:+.2g} to {one.high:+.2g})"
            )
    if len(found.lines) == before:
        found.say("  no trait stands out: the choice within tasks caused nothing that can be seen")
