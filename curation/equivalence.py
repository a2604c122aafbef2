"""Compare training on a selection with a REINFORCE step, by their gradients on the real model.

In one step on frozen data, fine-tuning on all valid traces that the policy itself wrote has the
direction of REINFORCE with reward 1 for valid plans, and N / N+ times its length (the paper's §3;
N+ of N traces are valid). A curator that keeps one trace per task, or replays others' traces,
deviates, and these figures say how far. They say nothing about many steps, or about Adam.

Large sets are sampled. Where a model has nearly learned a set, gradients nearly cancel, and a
sample's mean is mostly noise. So the variance between batches corrects its squared length, and a
cosine has a standard error (jackknife over batches).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from planners.models.likelihood import Row, by_length, summed_logprobs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


BATCHES = 12
"""Batches of a sample; their variance says how far it can be trusted."""
SURE = 2.0
"""Standard errors by which a gradient's squared length must exceed zero to have a direction."""


def gradient(
    model: PreTrainedModel, rows: Sequence[Row], weights: Sequence[float], batch: int = 64
) -> torch.Tensor:
    """Gradient of the weighted sum of completions' log-probabilities, flat and in float64.

    `rows` are token ids of a prompt and of its completion, end-of-sequence included.
    """
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for chosen in by_length(rows, batch):
        weight = torch.tensor([weights[i] for i in chosen], dtype=torch.float64)
        logprobs = summed_logprobs(model, [rows[i] for i in chosen])
        found = torch.autograd.grad((weight * logprobs).sum(), parameters)
        total += torch.cat([g.reshape(-1).double() for g in found])
    return total


@dataclass(frozen=True, slots=True)
class Sketch:
    """Sampled gradients of a set of traces.

    `means`: the mean gradient of each random batch (batches, parameters). `sizes`: traces per
    batch. `population`: traces in the whole set.
    """

    means: torch.Tensor
    sizes: tuple[int, ...]
    population: int

    @property
    def unseen(self) -> float:
        """The share of the set that was not drawn."""
        return 1 - sum(self.sizes) / self.population


class Comparison(NamedTuple):
    """Cosine of two gradients, its standard error, and how many times longer the first is.

    All are None if a gradient cannot be distinguished from zero.
    """

    cosine: float | None
    error: float | None
    ratio: float | None


def sketch(model: PreTrainedModel, rows: Sequence[Row], population: int) -> Sketch:
    """The mean gradients of rows that were drawn from `population` traces in random order."""
    import torch

    # A set that was drawn whole has no sampling error, so one batch will do.
    batches = 1 if len(rows) == population else min(BATCHES, len(rows))
    parts = [rows[i::batches] for i in range(batches)]
    means = [gradient(model, part, [1 / len(part)] * len(part)) for part in parts]
    return Sketch(torch.stack(means), tuple(map(len, parts)), population)


def compare(one: Sketch, other: Sketch) -> Comparison:
    """Compare the mean gradients of two independent samples; a set with itself is exact."""
    if one is other:
        return Comparison(1.0, 0.0, 1.0)
    vectors = np.vstack([one.means.numpy(), other.means.numpy()])
    # All that follows needs inner products only, not the long vectors.
    gram = vectors @ vectors.T
    sizes = np.array(one.sizes, float), np.array(other.sizes, float)
    found = _estimate(gram, sizes, (one.unseen, other.unseen))
    if found is None:
        return Comparison(None, None, None)
    variance = 0.0
    for side, drawn in enumerate((one, other)):
        if drawn.unseen:
            without = _without_each(gram, sizes, side, (one.unseen, other.unseen))
            if without is None:
                return Comparison(None, None, None)
            spread = drawn.unseen * (len(without) - 1) * np.var(without, axis=0)
            if found[2 + side] < SURE * np.sqrt(spread[2 + side]):
                return Comparison(None, None, None)
            variance += float(spread[0])
    return Comparison(found[0], float(np.sqrt(variance)), found[1])


Pair = tuple[np.ndarray, np.ndarray]


Estimate = tuple[float, float, float, float]
"""Cosine, ratio of lengths, and both squared lengths."""


def _estimate(gram: np.ndarray, sizes: Pair, unseen: tuple[float, float]) -> Estimate | None:
    """The estimate from the inner products of all batch means; None without a positive length."""
    split = len(sizes[0])
    weights = [size / size.sum() for size in sizes]
    blocks = gram[:split, :split], gram[split:, split:]
    squares = [
        _square(block, weight, share)
        for block, weight, share in zip(blocks, weights, unseen, strict=True)
    ]
    if min(squares) <= 0:
        return None
    cross = float(weights[0] @ gram[:split, split:] @ weights[1])
    cosine = cross / float(np.sqrt(squares[0] * squares[1]))
    return cosine, float(np.sqrt(squares[0] / squares[1])), squares[0], squares[1]


def _square(gram: np.ndarray, weight: np.ndarray, unseen: float) -> float:
    """Squared length of a set's mean: that of the sample, minus its sampling variance (with the
    correction for a finite population).
    """
    length = float(weight @ gram @ weight)
    if not unseen:
        return length
    if len(weight) < 2:
        return 0.0  # one batch says nothing about its variance
    spread = np.diag(gram) - 2 * gram @ weight + length
    return length - unseen * len(weight) / (len(weight) - 1) * float(weight**2 @ spread)


def _without_each(
    gram: np.ndarray, sizes: Pair, side: int, unseen: tuple[float, float]
) -> list[Estimate] | None:
    """Estimates without each batch of one side in turn; None if any of them is None."""
    found = []
    for i in range(len(sizes[side])):
        left = [np.delete(size, i) if s == side else size for s, size in enumerate(sizes)]
        at = i + side * len(sizes[0])
        rest = np.delete(np.delete(gram, at, axis=0), at, axis=1)
        again = _estimate(rest, (left[0], left[1]), unseen)
        if again is None:
            return None
        found.append(again)
    return found
