"""How stale replayed traces are: importance weights, effective sample size, effective reward.

A trace that policy beta wrote and policy pi learns, with weight w, acts at one step with frozen
data like a reward in REINFORCE under pi of w (Z_pi / Z_beta) beta / pi, where Z_q is the share of
valid traces under q (the paper's statement leaves Z_pi / Z_beta out). The importance weight is
pi / beta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLIP = 10.0
"""Largest importance weight where they are clipped."""


@dataclass(frozen=True, slots=True)
class Staleness:
    """Of the traces that one generation wrote: how many are learned, how many as many fresh ones
    they are worth (Kish's effective sample size, plain and with weights clipped at CLIP), and their
    share of all training weight.
    """

    traces: int
    effective: float
    effective_clipped: float
    share: float


def importance(logprob: np.ndarray, behaviour: np.ndarray) -> np.ndarray:
    """pi / beta of each trace, from its log-probability under the policy that is trained and under
    the distribution that it was drawn from.
    """
    return np.exp(np.clip(logprob - behaviour, -700, 700))


def effective_size(ratio: np.ndarray) -> float:
    """Kish's effective sample size of importance weights: (sum r)^2 / sum r^2; 0 of none."""
    scaled = ratio / ratio.max() if len(ratio) and ratio.max() > 0 else ratio
    squares = float((scaled**2).sum())
    return float(scaled.sum()) ** 2 / squares if squares else 0.0


def effective_reward(
    weight: np.ndarray, ratio: np.ndarray, valid_pi: float, valid_beta: np.ndarray
) -> np.ndarray:
    """The reward that each trace stands for: w (Z_pi / Z_beta) / (pi / beta)."""
    return weight * (valid_pi / valid_beta) / np.maximum(ratio, 1e-300)


def mean_reward(reward: np.ndarray) -> float:
    """The mean of effective rewards, each at most CLIP: a few traces that the policy would hardly
    write any more would decide it otherwise.
    """
    return float(np.minimum(reward, CLIP).mean())


def staleness(weight: np.ndarray, ratio: np.ndarray, source: np.ndarray) -> dict[int, Staleness]:
    """By generation that wrote them."""
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
