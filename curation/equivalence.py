"""Compare training on a selection with a REINFORCE step, by their gradients on the real model.

In one step on frozen data, fine-tuning on all valid traces that the policy itself wrote has the
direction of REINFORCE with reward 1 for valid plans, and N / N+ times its length (the paper's §3;
N+ of N traces are valid). A curator that keeps one trace per task, or replays others' traces,
deviates, and these figures say how far. They say nothing about many steps, or about Adam.

Traces are a sample of what a policy may write, and large sets are sampled once more. Where a model
has nearly learned a set, gradients nearly cancel, and a sample's mean is mostly noise. So lengths
and cosines are estimated from different batches of tasks, which share no noise, and a cosine has a
standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from planners.models.likelihood import Row, by_length, summed_logprobs
from planners.records import content_hash

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


PROJECTED = 2**21
"""Numbers that are kept of a gradient, at most."""
BATCHES = 12
"""Batches of tasks; their differences say how far an estimate can be trusted."""
SURE = 2.0
"""Standard errors by which a gradient's squared length must exceed zero to have a direction."""


def gradient(
    model: PreTrainedModel, rows: Sequence[Row], weights: Sequence[float], batch: int = 24
) -> torch.Tensor:
    """Gradient of the weighted sum of completions' log-probabilities, flat and in float64.

    `rows` are token ids of a prompt and of its completion, end-of-sequence included.
    """
    import torch

    # Of all weights: those of a merged adapter were frozen while it was trained.
    parameters = [one.requires_grad_() for one in model.parameters()]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for chosen in by_length(rows, batch):
        weight = torch.tensor([weights[i] for i in chosen], dtype=torch.float64)
        logprobs = summed_logprobs(model, [rows[i] for i in chosen])
        found = torch.autograd.grad((weight * logprobs).sum(), parameters)
        total += torch.cat([g.reshape(-1).double() for g in found])
    return total


def projected(vector: torch.Tensor, size: int = PROJECTED) -> torch.Tensor:
    """A vector, or if it is longer than `size`, a random projection of it to that size.

    Inner products of projections are those of the vectors up to an error of about 1 / sqrt(size) of
    the product of their lengths (count sketch; Charikar, Chen and Farach-Colton 2002).
    """
    import torch

    if len(vector) <= size:
        return vector
    found = torch.zeros(size, dtype=vector.dtype)
    rng = torch.Generator().manual_seed(0)  # the same projection each time
    for part in vector.split(size):
        place = torch.randint(size, part.shape, generator=rng)
        sign = torch.randint(2, part.shape, generator=rng) * 2 - 1
        found.index_add_(0, place, part * sign)
    return found


@dataclass(frozen=True, slots=True)
class Sketch:
    """The mean gradient of the traces in each batch of tasks (BATCHES, parameters), and how many
    traces each batch has. Batches of two sketches have the same tasks.
    """

    means: torch.Tensor
    sizes: np.ndarray

    def is_distinct(self) -> bool:
        """Whether the gradient can be distinguished from zero, and thus has a direction."""
        vectors = self.means.numpy()
        gram = np.tile(vectors @ vectors.T, (2, 2))
        return _compared(gram, self.sizes, self.sizes).cosine is not None


class Comparison(NamedTuple):
    """Cosine of two gradients, its standard error, and how many times longer the first is.

    All are None if a gradient cannot be distinguished from zero.
    """

    cosine: float | None
    error: float | None
    ratio: float | None


def batch_of(task: str) -> int:
    """The batch of a task, whatever the set of traces; a task's key is a hash."""
    return int(content_hash(task, length=8), 16) % BATCHES


def sketch(model: PreTrainedModel, rows: Sequence[Row], batches: Sequence[int]) -> Sketch:
    """The mean gradient of each batch of rows; that of a large model is projected."""
    import torch

    parts: list[list[Row]] = [[] for _ in range(BATCHES)]
    for row, batch in zip(rows, batches, strict=True):
        parts[batch].append(row)
    # Without rows the gradient is zero, and counts for nothing.
    means = [
        projected(gradient(model, part, [1 / max(len(part), 1)] * len(part))) for part in parts
    ]
    return Sketch(torch.stack(means), np.array([len(part) for part in parts], dtype=float))


def compare(one: Sketch, other: Sketch) -> Comparison:
    """Compare two mean gradients; a set with itself is exact.

    The error is that of drawing tasks and their traces anew (jackknife over batches of tasks).
    """
    if one is other:
        return Comparison(1.0, 0.0, 1.0)
    vectors = np.vstack([one.means.numpy(), other.means.numpy()])
    # All that follows needs inner products only, not the long vectors.
    return _compared(vectors @ vectors.T, one.sizes, other.sizes)


def _compared(gram: np.ndarray, first: np.ndarray, second: np.ndarray) -> Comparison:
    every = np.arange(BATCHES)
    found = _estimate(gram, first, second, every)
    without = [_estimate(gram, first, second, every[every != left]) for left in range(BATCHES)]
    if found is None or any(each is None for each in without):
        return Comparison(None, None, None)
    spread = (BATCHES - 1) * np.var(np.array(without, dtype=float), axis=0)
    if any(found[2 + side] < SURE * np.sqrt(spread[2 + side]) for side in (0, 1)):
        return Comparison(None, None, None)
    return Comparison(found[0], float(np.sqrt(spread[0])), found[1])


Estimate = tuple[float, float, float, float]
"""Cosine, ratio of lengths, and both squared lengths."""


def _estimate(
    gram: np.ndarray, first: np.ndarray, second: np.ndarray, batches: np.ndarray
) -> Estimate | None:
    """The estimate from the inner products of some batches; None without a positive length.

    Products of a batch with itself are left out: they hold the noise of its traces, which would
    make gradients longer than they are, and sets that share traces more alike.
    """

    def inner(at: int, sizes: np.ndarray, other: int, others: np.ndarray) -> float:
        weight = np.outer(sizes[batches], others[batches])
        np.fill_diagonal(weight, 0)
        block = gram[np.ix_(batches + at * BATCHES, batches + other * BATCHES)]
        total = weight.sum()
        return float((weight * block).sum() / total) if total else 0.0

    squares = inner(0, first, 0, first), inner(1, second, 1, second)
    if min(squares) <= 0:
        return None
    cosine = inner(0, first, 1, second) / float(np.sqrt(squares[0] * squares[1]))
    return cosine, float(np.sqrt(squares[0] / squares[1])), *squares
