"""Gradients of selections against one backward pass, and the paper's identity on a real model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.equivalence import BATCHES, Sketch, compare, gradient, sketch
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
    tuned = sketch(model, kept, len(kept))
    reinforce = Sketch(gradient(model, ROWS, [good / n for good in valid])[None], (n,), n)
    cosine, error, ratio = compare(tuned, reinforce)
    assert cosine == pytest.approx(1.0, abs=1e-9)
    assert error == 0
    assert ratio == pytest.approx(n / len(kept), abs=1e-6)
    other = compare(sketch(model, kept[:1], 1), reinforce).cosine
    assert other is not None
    assert other < 0.99


def test_nothing_has_no_direction() -> None:
    nothing, something = (Sketch(torch.full((1, 3), value), (1,), 1) for value in (0.0, 1.0))
    assert compare(nothing, something) == (None, None, None)
    assert compare(something, something) == (1.0, 0.0, 1.0)


def drawn(vectors: np.ndarray, count: int, rng: np.random.Generator) -> Sketch:
    parts = np.array_split(rng.permutation(vectors)[:count], BATCHES)
    means = torch.tensor(np.array([part.mean(0) for part in parts]))
    return Sketch(means, tuple(map(len, parts)), len(vectors))


def test_a_sample_says_what_the_whole_would_and_how_surely() -> None:
    """Means a tenth of the noise of each vector: what a nearly learned set looks like."""
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=(n, 50)) + rng.normal(size=50) / 10 for n in (900, 1500))
    both = [vectors.mean(0) for vectors in (one, other)]
    lengths = [np.linalg.norm(mean) for mean in both]
    truth = both[0] @ both[1] / (lengths[0] * lengths[1])
    found = [compare(drawn(one, 600, rng), drawn(other, 600, rng)) for _ in range(200)]
    cosines = np.array([cosine for cosine, _, _ in found], float)
    errors = np.array([error for _, error, _ in found], float)
    assert np.isfinite(cosines).all()
    assert abs(cosines.mean() - truth) < 0.02, "no bias"
    assert 0.7 < errors.mean() / cosines.std() < 1.5
    assert np.mean(abs(cosines - truth) < 2 * errors) > 0.9
    ratios = np.array([ratio for _, _, ratio in found], float)
    assert np.median(ratios) == pytest.approx(lengths[0] / lengths[1], rel=0.05)
    whole = compare(drawn(one, 900, rng), drawn(other, 1500, rng))
    assert whole.cosine == pytest.approx(truth, abs=1e-9)
    assert whole.error == 0


def test_noise_is_not_given_a_direction() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4000, 50))
    found = [compare(drawn(noise, 100, rng), drawn(noise[::-1], 100, rng)) for _ in range(20)]
    assert all(cosine is None or error > 0.3 for cosine, error, _ in found)
