"""Influence against gradients one by one, and the weights as they were."""

from pathlib import Path

import numpy as np
import torch

from curation.equivalence import gradient
from curation.influence import BATCH, FLOOR, influence
from planners.models.checkpoint import load
from planners.models.likelihood import Row

LESSONS: list[Row] = [([1, 30 + i % 9, 31], [40 + i % 5, 41, 2][i % 2 :]) for i in range(BATCH + 4)]
TARGETS = [LESSONS[3], ([1, 33], [42, 41, 2])]


def test_influence_is_the_inner_product_with_each_lessons_gradient(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)[0].double()
    before = [weights.clone() for weights in model.parameters()]
    found = influence(model, LESSONS, TARGETS)
    toward = gradient(model, TARGETS, [0.5, 0.5])
    parts = (LESSONS[:BATCH], LESSONS[BATCH:])
    size = sum(gradient(model, part, [1 / len(part)] * len(part)) ** 2 for part in parts)
    assert isinstance(size, torch.Tensor)
    way = toward / (size.sqrt() + FLOOR * size.sqrt().mean())
    way = way / way.norm() * toward.norm()
    exact = [float(gradient(model, [lesson], [1.0]) @ way) for lesson in LESSONS]
    assert np.allclose(found, exact, rtol=1e-2, atol=1e-3 * np.abs(exact).max())
    assert int(np.argmax(found)) == int(np.argmax(exact))
    for weights, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(weights, old)
