"""How off-policy replayed traces are: importance weights, effective sample size and reward.

Let policy beta write a trace and policy pi learn it with weight w. In one step on frozen data this
acts like a REINFORCE reward, under pi, of w (Z_pi / Z_beta) beta / pi. Z_q is the share of valid
traces under q (the paper's statement leaves Z_pi / Z_beta out). The importance weight is pi / beta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLIP = 10.0
"""Limit of importance weights and rewards where they are clipped."""


@dataclass(frozen=True, slots=True)
class Staleness:
    """Traces of one generation that are learned, and how many on-policy traces they are worth.

    `effective` is Kish's effective sample size, `effective_clipped` the same with weights clipped
    at CLIP, and `share` their part of all training weight.
    """

    traces: int
    effective: float
    effective_clipped: float
    share: float


def importance(logprob: np.ndarray, behaviour: np.ndarray) -> np.ndarray:
    """The importance weight pi / beta of each trace.

    `logprob` is under the policy that is trained, `behaviour` under the sampling distribution.
    """
    # exp overflows above 709.
    return np.exp(np.clip(logprob - behaviour, -700, 700))


def effective_size(ratio: np.ndarray) -> float:
    """Kish's effective sample size of importance weights, (sum r)^2 / sum r^2; 0 for none."""
    # Scaled first, because the squares of large weights would overflow.
    scaled = ratio / ratio.max() if len(ratio) and ratio.max() > 0 else ratio
    squares = float((scaled**2).sum())
    return float(scaled.sum()) ** 2 / squares if squares else 0.0


def effective_reward(
    weight: np.ndarray, ratio: np.ndarray, valid_pi: float, valid_beta: np.ndarray
) -> np.ndarray:
    """The reward that each trace amounts to: w (Z_pi / Z_beta) / (pi / beta)."""
    return weight * (valid_pi / valid_beta) / np.maximum(ratio, 1e-300)


def mean_reward(reward: np.ndarray) -> float:
    """The mean of effective rewards, each at most CLIP.

    Otherwise a few traces that the policy would hardly write any more would dominate.
    """
    return float(np.minimum(reward, CLIP).mean())


def staleness(weight: np.ndarray, ratio: np.ndarray, source: np.ndarray) -> dict[int, Staleness]:
    """Staleness of the learned traces, by the generation that wrote them."""
    found = {}
    for generation in np.unique(source):
        of = (source == generation) & (weight > 0)
        found[int(generation)] = Staleness(
            traces=int(of.sum()),
            effective=effective_size(ratio[of]),
            effective_clipped=effective_size(np.minimum(ratio[of], CLIP)),
            share=float(weight[of].sum() / weight.sum()),
        )
    return found
