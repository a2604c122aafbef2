"""Gradients of selections against one backward pass, and the paper's identity on a real model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.equivalence import (
    BATCHES,
    Sketch,
    batch_of,
    compare,
    gradient,
    projected,
    sketch,
)
from planners.models.checkpoint import load
from planners.models.likelihood import Row, collate

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
    assert torch.allclose(tuned, n / len(kept) * reinforce, atol=1e-5)
    batches = [batch_of(f"task {i}") for i in range(n)]
    parts = sketch(model, ROWS, batches)
    assert parts.sizes.sum() == n
    mean = (parts.means * torch.tensor(parts.sizes)[:, None]).sum(0) / n
    assert torch.allclose(mean, gradient(model, ROWS, [1 / n] * n), atol=1e-5)


def test_nothing_has_no_direction() -> None:
    nothing, something = (
        Sketch(torch.full((BATCHES, 3), value), np.ones(BATCHES)) for value in (0.0, 1.0)
    )
    assert compare(nothing, something) == (None, None, None)
    assert compare(something, something) == (1.0, 0.0, 1.0)
    same = compare(something, Sketch(2 * something.means, something.sizes))
    assert same == pytest.approx((1.0, 0.0, 0.5))


def drawn(mean: np.ndarray, tasks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of twice as many traces as tasks around a mean, and the batch of each."""
    noise = rng.normal(size=(2 * tasks, len(mean))) + np.repeat(
        rng.normal(size=(tasks, len(mean))), 2, 0
    )
    return mean + noise, np.repeat(rng.integers(0, BATCHES, tasks), 2)


def sketched(vectors: np.ndarray, batches: np.ndarray) -> Sketch:
    sizes = np.bincount(batches, minlength=BATCHES).astype(float)
    sums = [vectors[batches == b].sum(0) for b in range(BATCHES)]
    return Sketch(torch.tensor(np.array(sums) / np.maximum(sizes, 1)[:, None]), sizes)


def test_a_sample_says_what_all_that_might_be_written_would_and_how_surely() -> None:
    """Means far below the noise, as of a nearly learned set; one set is part of the other."""
    rng = np.random.default_rng(0)
    mean, shift = rng.normal(size=50) / 5, rng.normal(size=50) / 8
    truth = mean @ (mean + shift / 2) / np.linalg.norm(mean) / np.linalg.norm(mean + shift / 2)
    found = []
    for _ in range(150):
        vectors, batches = drawn(mean, 400, rng)
        vectors[1::2] += shift  # half of the traces, of which the first set has none
        found.append(compare(sketched(vectors[::2], batches[::2]), sketched(vectors, batches)))
    told = [one for one in found if one.cosine is not None]
    cosines, errors = np.array([one.cosine for one in told]), np.array([one.error for one in told])
    assert len(told) > 140
    assert abs(cosines.mean() - truth) < 0.02, "no bias, though the sets share traces"
    assert 0.7 < errors.mean() / cosines.std() < 1.6
    assert np.mean(abs(cosines - truth) < 2 * errors) > 0.88


def test_noise_is_not_given_a_direction() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(20):
        pairs = (drawn(np.zeros(50), 50, rng) for _ in range(2))
        found.append(compare(*(sketched(*pair) for pair in pairs)))
    assert all(cosine is None or error > 0.2 for cosine, error, _ in found)


def test_frozen_weights_have_a_gradient_too(tiny_checkpoint: Path) -> None:
    """Those of a generation whose adapter was merged are frozen."""
    model = load(tiny_checkpoint)[0].double()
    free = gradient(model, ROWS, [1.0] * len(ROWS))
    frozen = load(tiny_checkpoint)[0].double().requires_grad_(False)
    assert torch.equal(gradient(frozen, ROWS, [1.0] * len(ROWS)), free)


def test_a_projection_keeps_inner_products() -> None:
    rng = np.random.default_rng(0)
    one, noise = (torch.tensor(rng.normal(size=100_000)) for _ in range(2))
    other = 0.5 * one + noise
    exact = float(one @ other / one.norm() / other.norm())
    a, b = projected(one, 20_000), projected(other, 20_000)
    assert float(a @ b / a.norm() / b.norm()) == pytest.approx(exact, abs=4 / 20_000**0.5)
    assert torch.equal(projected(one, 20_000), a), "the same projection each time"
    assert torch.equal(projected(one[:50], 20_000), one[:50]), "short vectors are kept"
