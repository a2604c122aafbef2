"""Losses over the completions of (prompt, completion) rows, for supervised learning, REINFORCE and
negative-aware fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planners.errors import ComponentFailure
from planners.models.hardware import out_of_memory
from planners.models.likelihood import Row, by_length, supervised, supervised_logits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Advised = tuple[list[int], list[int], float, float | None]
"""A Row with its advantage (how much better than expected the completion did) and its
log-probability under the policy that wrote it, or None if that is unknown.
"""


def completion_loss(model: PreTrainedModel, rows: Sequence[Row | Advised]) -> torch.Tensor:
    """Mean negative log-likelihood (nats) of the supervised tokens of a batch."""
    import torch

    logits, target, _ = supervised_logits(model, rows)
    return torch.nn.functional.cross_entropy(logits.float(), target)


def weighted_loss(model: PreTrainedModel, rows: Sequence[Advised]) -> torch.Tensor:
    """Sum of each completion's negative log-likelihood (nats) times its weight, divided by the
    number of supervised tokens. With every weight 1 it is `completion_loss`.
    """
    import torch

    logits, target, row = supervised_logits(model, rows)
    each = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
    weight = torch.tensor([weight for *_, weight, _ in rows], device=each.device)
    return (weight[row] * each).sum() / len(each)


def policy_gradient_loss(model: PreTrainedModel, rows: Sequence[Advised]) -> torch.Tensor:
    """REINFORCE (Williams 1992): each completion's negative log-likelihood times its advantage,
    divided by the number of supervised tokens. With every advantage 1 it is `completion_loss`.

    A negative advantage is scaled down by how much less likely its completion has become since it
    was written (Le Roux et al. 2025, arXiv 2503.14286). Without that, steps beyond the first push
    it down without end, and everything else with it. Without its old log-probability, it teaches
    nothing.
    """
    import torch

    each, row, advantage, apart, _ = _advised(model, rows)
    taper = torch.where(advantage < 0, apart.detach().exp().clamp(max=1.0), 1.0)
    return ((advantage * taper)[row] * each).sum() / len(each)


def negative_aware_loss(model: PreTrainedModel, rows: Sequence[Advised]) -> torch.Tensor:
    """NFT (Chen et al. 2025, arXiv 2505.18118): learn from failures by an implicit negative policy.

    Let a share r of a task's samples be valid. Those are learned directly. The negative policy is
    what remains of the policy without them, so a failure costs -log((1 - r R) / (1 - r)) per token,
    where R is how many times likelier it has become. This is weighted by 1 - r, so that at R = 1
    the gradient is REINFORCE's. As the paper advises, the logarithm's argument is at least 1,
    except in its gradient. A trace has one log-probability, so R is the geometric mean over its
    tokens. A failure without one teaches nothing.
    """
    import torch

    each, row, advantage, apart, lengths = _advised(model, rows)
    # An advantage is -r for a failure and 1 - r for a valid sample; the limit keeps 1 - r above 0.
    rate = torch.where(advantage < 0, -advantage, 1 - advantage).clamp(max=0.999)
    left = (1 - rate * (apart / lengths).exp()) / (1 - rate)
    # Straight-through: the clamped value with the gradient of the unclamped one.
    left = left + (left.clamp(min=1.0) - left).detach()
    failed = (rate - 1) * (advantage < 0) * lengths * left.log()
    return ((advantage.clamp(min=0.0)[row] * each).sum() + failed.sum()) / len(each)


def _advised(
    model: PreTrainedModel, rows: Sequence[Advised]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per supervised token its negative log-likelihood and its row. Per row its advantage, how much
    likelier (in nats) it is than when it was written, and its number of supervised tokens.

    The change in likelihood is minus infinity where it is unknown.
    """
    import torch

    logits, target, row = supervised_logits(model, rows)
    each = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
    now = torch.zeros(len(rows), device=each.device).index_add(0, row, -each)
    written = torch.tensor(
        [math.inf if then is None else then for *_, then in rows], device=each.device
    )
    advantage = torch.tensor([advantage for *_, advantage, _ in rows], device=each.device)
    return each, row, advantage, now - written, row.bincount(minlength=len(rows))


def mean_loss(model: PreTrainedModel, rows: Sequence[Row], batch: int) -> float:
    """`completion_loss` over any number of rows, `batch` at once or as many as fit into memory,
    without gradients. Raises ComponentFailure if not even one does.
    """
    try:
        return _mean_loss(model, rows, batch)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        if batch == 1:
            raise ComponentFailure(
                f"measuring the loss of one row does not fit into memory: {error}; set "
                "training.validation = 0, or choose smaller tasks"
            ) from error
    return mean_loss(model, rows, batch // 2)


def _mean_loss(model: PreTrainedModel, rows: Sequence[Row], batch: int) -> float:
    import torch

    total = 0.0
    model.eval()  # without dropout
    with torch.inference_mode():
        for chosen in by_length(rows, batch):
            part = [rows[i] for i in chosen]
            total += completion_loss(model, part).item() * sum(map(supervised, part))
    return total / sum(map(supervised, rows))


OBJECTIVES: dict[str, Any] = {
    "sft": completion_loss,
    "weighted": weighted_loss,
    "reinforce": policy_gradient_loss,
    "nft": negative_aware_loss,
}
"""The loss that each method minimises; "weighted" is "sft" with unequal weights."""
