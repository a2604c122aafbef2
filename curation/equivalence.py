"""Is training on a selection a step of REINFORCE: the two gradients, on the real model.

At one step with frozen data, fine-tuning on every valid trace that the policy itself wrote goes in
the direction of REINFORCE with reward 1 for valid plans, N / N+ times as far (the paper's §3; N+ of
N traces are valid). A curator that keeps one trace a task, or replays what others wrote, goes
elsewhere; how far is what these figures say. Nothing is said about many steps, or Adam.

Of a large set a random sample stands for all. Where a model has nearly learned a set, gradients
nearly cancel and a sample's mean is mostly noise: its length, squared, is corrected by the variance
between batches of the sample, and a cosine comes with its standard error (jackknife over batches).
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
"""Batches of a sample, whose variance says how far it can be trusted."""
SURE = 2.0
"""Standard errors that a gradient's squared length must be above zero, to have a direction."""


def gradient(
    model: PreTrainedModel, rows: Sequence[Row], weights: Sequence[float], batch: int = 64
) -> torch.Tensor:
    """The gradient of the weighted sum of log-probabilities of completions, flat and in float64.

    `rows` are token ids of a prompt and of its completion, end included.
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
    """Gradients of a set of traces: `means` over random batches of those drawn (batches,
    parameters), how many are in each, and in the whole `population`.
    """

    means: torch.Tensor
    sizes: tuple[int, ...]
    population: int

    @property
    def unseen(self) -> float:
        """The share that was not drawn."""
        return 1 - sum(self.sizes) / self.population


class Comparison(NamedTuple):
    """Cosine of two gradients, its standard error, and how many times longer the first is; None
    where a gradient cannot be told from zero.
    """

    cosine: float | None
    error: float | None
    ratio: float | None


def sketch(model: PreTrainedModel, rows: Sequence[Row], population: int) -> Sketch:
    """The mean gradient of completions, of rows drawn from `population` in random order."""
    import torch

    batches = 1 if len(rows) == population else min(BATCHES, len(rows))
    parts = [rows[i::batches] for i in range(batches)]
    means = [gradient(model, part, [1 / len(part)] * len(part)) for part in parts]
    return Sketch(torch.stack(means), tuple(map(len, parts)), population)


def compare(one: Sketch, other: Sketch) -> Comparison:
    """The mean gradients of two sets, drawn from independently; a set with itself is exact."""
    if one is other:
        return Comparison(1.0, 0.0, 1.0)
    vectors = np.vstack([one.means.numpy(), other.means.numpy()])
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
"""Cosine, ratio of lengths, and both lengths squared."""


def _estimate(gram: np.ndarray, sizes: Pair, unseen: tuple[float, float]) -> Estimate | None:
    """What there is to say, from the inner products of all batches' means."""
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
    """The squared length of a set's mean: that of the sample's, less its sampling variance (with
    the correction for a finite population).
    """
    length = float(weight @ gram @ weight)
    if not unseen:
        return length
    if len(weight) < 2:
        return 0.0  # one batch says nothing of its variance
    spread = np.diag(gram) - 2 * gram @ weight + length
    return length - unseen * len(weight) / (len(weight) - 1) * float(weight**2 @ spread)


def _without_each(
    gram: np.ndarray, sizes: Pair, side: int, unseen: tuple[float, float]
) -> list[Estimate] | None:
    """The same without each batch of one side in turn; None where one of them has none."""
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
