"""Which lessons taught a behaviour: the influence of each on the log-probability of some traces.

TracIn (Pruthi et al. 2020, section 3): a step on a lesson moves the log-probability of a trace by
the inner product of their gradients, summed over checkpoints of the training. Adam divides each
coordinate by the size of its gradients, and so does this. Inner products with one direction are
derivatives along it, so that two forward passes over the lessons are enough for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from curation.equivalence import gradient
from planners.models.likelihood import Row, logprobs_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BATCH = 16
"""Lessons per gradient whose size stands for Adam's."""
FLOOR = 0.1
"""The least size that a coordinate is taken to have, as a share of their mean."""
STEP = 1e-2
"""Length of the steps to both sides, in the space of weights."""


def influence(model: PreTrainedModel, lessons: Sequence[Row], targets: Sequence[Row]) -> np.ndarray:
    """The derivative of each lesson's log-probability along the direction in which Adam would raise
    the mean log-probability of the targets, (lessons,): large for those that teach them.

    The model's weights are moved, and moved back.
    """
    import torch

    toward = gradient(model, targets, [1 / len(targets)] * len(targets))
    size = torch.zeros_like(toward)
    for start in range(0, len(lessons), BATCH):
        part = lessons[start : start + BATCH]
        size += gradient(model, part, [1 / len(part)] * len(part)) ** 2
    size = size.sqrt()
    direction = toward / (size + FLOOR * size.mean()).clamp(min=1e-30)
    direction *= STEP / direction.norm().clamp(min=1e-30)
    kept = [weights.detach().clone() for weights in model.parameters()]
    try:
        ahead, behind = (_moved(model, kept, way * direction, lessons) for way in (1, -1))
    finally:
        _set(model, kept, torch.zeros_like(direction))
    return (ahead - behind) / (2 * STEP) * float(toward.norm())


def _moved(
    model: PreTrainedModel, kept: Sequence[torch.Tensor], by: torch.Tensor, rows: Sequence[Row]
) -> np.ndarray:
    """Log-probabilities of rows with the weights moved."""
    _set(model, kept, by)
    return logprobs_of(model, rows, 1.0).numpy()


def _set(model: PreTrainedModel, kept: Sequence[torch.Tensor], by: torch.Tensor) -> None:
    """Set the weights to `kept`, moved by a flat vector."""
    import torch

    at = 0
    with torch.no_grad():
        for weights, before in zip(model.parameters(), kept, strict=True):
            step = by[at : at + before.numel()].view_as(before)
            weights.copy_(before + step.to(before))
            at += before.numel()
