"""Who taught a generation what it does: its lessons by their influence, and what becomes of it if
it is trained without the first of them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.influence import influence
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import checkpoint_of, use_machine
from flows.generations.lessons import as_lessons
from flows.generations.lineage import start_of
from flows.loop.learn import trained_again
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.models.checkpoint import load
from planners.policies.local import LocalPolicy
from planners.records import derive_seed
from planners.training.fine_tuning import encode
from planners.training.lessons import Lesson
from warehouse.pool import completions_of, lessons_of, traits_of, written_traits
from warehouse.records import Taught
from warehouse.store import Warehouse

TARGETS = 200
"""Traces that stand for a behaviour, at most: those with the lowest ids, which are hashes."""


@dataclass(frozen=True, slots=True)
class Teachers:
    """The lessons of a generation, the most influential first: trace ids, their `texts` and
    `scores` (their share of all positive influence), and the number of `targets` that stand for the
    behaviour.
    """

    traces: tuple[str, ...]
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    targets: int


def teachers(
    warehouse: Warehouse, experiment: Experiment, generation: int, behaviour: str
) -> Teachers:
    """Rank a generation's lessons by their influence on the deployed traces that satisfy a SQL
    condition over a trace. Raises InvalidInput if there is no such trace.
    """
    taught, rows, targets = _rows(warehouse, experiment, generation, behaviour)
    use_machine(experiment)
    total = np.zeros(len(rows))
    for index in (start_of(warehouse, experiment, generation), generation):
        checkpoint = checkpoint_of(warehouse, experiment, index)
        model, tokenizer = load(checkpoint.folder, checkpoint.base)
        prompt = experiment.model.prompt
        total += influence(
            model, encode(rows, tokenizer, prompt), encode(targets, tokenizer, prompt)
        )
    total *= [one.weight for one in taught]
    order = np.argsort(-total, kind="stable")
    whole = max(float(total[total > 0].sum()), 1e-30)
    ranked = [taught[i] for i in order]
    return Teachers(
        traces=tuple(one.trace for one in ranked),
        texts=tuple(one.text for one in ranked),
        scores=tuple(float(score) for score in total[order] / whole),
        targets=len(targets),
    )


def without_them(
    warehouse: Warehouse, experiment: Experiment, generation: int, behaviour: str,
    found: Teachers, watch: Watch,
) -> tuple[float, float, float]:  # fmt: skip
    """Train the generation again on all lessons, without the tenth that is most influential, and
    without a tenth by lot. Returns the mean log-probability of the behaviour's traces of each.
    """
    taught, lessons, targets = _rows(warehouse, experiment, generation, behaviour)
    if len(lessons) < 2:
        raise InvalidInput(
            f"generation {generation} of {experiment.id} learned one trace, so nothing is left to "
            "learn without it"
        )
    tenth = max(1, len(lessons) // 10)
    seed = derive_seed(experiment.seed, generation, "teachers")
    lot = np.random.default_rng(seed).permutation(len(lessons))[:tenth]
    left_out: list[set[str]] = [
        set(),
        set(found.traces[:tenth]),
        {taught[i].trace for i in lot},
    ]
    told, prompt = [], experiment.model.prompt
    with watch.bar("train again", len(left_out)) as advance:
        for out in left_out:
            with tempfile.TemporaryDirectory(prefix="posterity-teachers-") as scratch:
                left = [b for a, b in zip(taught, lessons, strict=True) if a.trace not in out]
                folder = Path(scratch) / "weights"
                made = trained_again(warehouse, experiment, generation, left, folder)
                policy = LocalPolicy(*load(made.folder, made.base))
                told.append(
                    float(np.mean(policy.row_logprobs(encode(targets, policy.tokenizer, prompt))))
                )
            advance(1)
    return told[0], told[1], told[2]


def _rows(
    warehouse: Warehouse, experiment: Experiment, generation: int, behaviour: str
) -> tuple[list[Taught], list[Lesson], list[Lesson]]:
    """The traces that taught a generation, as lessons too, and the traces of the behaviour."""
    if generation < 1 or warehouse.generation(experiment.id, generation) is None:
        raise InvalidInput(f"{experiment.id} has no trained generation {generation}")
    if experiment.training.method != "sft":
        raise InvalidInput(
            "teachers are named only where training.method = 'sft'; that of "
            f"{experiment.id} is {experiment.training.method!r}"
        )
    own = written_traits(warehouse, experiment.id, {"asked": behaviour}, generation)
    asked = own.loc[traits_of(own)["asked"].fillna(False).astype(bool), "trace"]
    if asked.empty:
        why = "was not deployed" if own.empty else f"deployed {len(own)} traces with a plan"
        raise InvalidInput(
            f"no trace of generation {generation} satisfies {behaviour!r}: it {why}; only deployed "
            "traces are asked about"
        )
    prompt = experiment.model.prompt
    taught = lessons_of(warehouse, experiment.id, generation)
    chosen = sorted(asked)[:TARGETS]
    return taught, as_lessons(taught, prompt), as_lessons(completions_of(warehouse, chosen), prompt)
