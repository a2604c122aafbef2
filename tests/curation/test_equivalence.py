"""Gradients of selections against one backward pass, and the paper's identity on a real model."""

from pathlib import Path

import pytest
import torch

from curation.equivalence import compare, gradient
from planners.local import load
from planners.training import Row, collate

ROWS: list[Row] = [([1, 30 + i, 31], [40 + i, 41, 2][i % 2 :]) for i in range(7)]


def by_hand(model: torch.nn.Module, weights: list[float]) -> torch.Tensor:
    """Row by row, token by token."""
    total = torch.zeros(())
    for row, weight in zip(ROWS, weights, strict=True):
        ids, _ = collate([row])
        logprobs = model(input_ids=ids).logits[0].double().log_softmax(-1)
        for at in range(len(row[0]), ids.shape[1]):
            total = total + weight * logprobs[at - 1, ids[0, at]]
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(total, list(model.parameters()))])


def test_a_gradient_is_that_of_the_weighted_sum(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)[0].double()
    weights = [0.5, 0.0, 2.0, 1.0, -1.0, 0.25, 3.0]
    found = gradient(model, ROWS, weights, batch=3)
    assert torch.allclose(found, by_hand(model, weights), atol=1e-9)


def test_training_on_every_valid_trace_of_ones_own_is_reinforce(tiny_checkpoint: Path) -> None:
    """N+ of N traces are valid: the same direction, N / N+ times as far."""
    model = load(tiny_checkpoint)[0].double()
    valid, n = [True, False, True, True, False, False, True], len(ROWS)
    kept = [row for row, good in zip(ROWS, valid, strict=True) if good]
    tuned = gradient(model, kept, [1 / len(kept)] * len(kept))
    reinforce = gradient(model, ROWS, [good / n for good in valid])
    cosine, ratio = compare(tuned, reinforce)
    assert cosine == pytest.approx(1.0, abs=1e-9)
    assert ratio == pytest.approx(n / len(kept), abs=1e-6)
    other, _ = compare(gradient(model, kept[:1], [1.0]), reinforce)
    assert other is not None
    assert other < 0.99


def test_nothing_has_no_direction() -> None:
    assert compare(torch.zeros(3), torch.ones(3)) == (None, None)
