"""Is training on a selection a step of REINFORCE: the two gradients, on the real model.

At one step with frozen data, fine-tuning on every valid trace that the policy itself wrote goes in
the direction of REINFORCE with reward 1 for valid plans, N / N+ times as far (the paper's §3; N+ of
N traces are valid). A curator that keeps one trace a task, or replays what others wrote, goes
elsewhere; how far is what these figures say. Nothing is said about many steps, or Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planners.training import Row, by_length, summed_logprobs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


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


def compare(one: torch.Tensor, other: torch.Tensor) -> tuple[float | None, float | None]:
    """Cosine of two gradients, and how many times longer the first is; None where one is zero."""
    lengths = float(one.norm()), float(other.norm())
    if not all(lengths):
        return None, None
    return float(one @ other) / (lengths[0] * lengths[1]), lengths[0] / lengths[1]
