"""The reward that a curator's choice amounts to, trace by trace.

Let a policy draw N samples of a task, each of which is a trace y with chance pi(y). Training on
those that a curator keeps is, in one step on frozen data, a REINFORCE step with the reward

    R(y) = E[weight of the kept copies of y] / pi(y).

For curators that keep one trace a task there are closed forms, in which Z is the chance that a
sample is valid, and P = 1 - (1 - Z)^N the chance that its task is solved:

- drawn at random among the valid ones: P / Z;
- the shortest: [(1 - q<)^N - (1 - q< - q=)^N] / q= where q< is the chance of a better valid
  sample and q= that of one as good (best of N); with an erring checker, of one that is believed.

Where there is none, the samples are drawn again from those that there are (a bootstrap), and the
curator is asked what it keeps. Chances are estimated by shares of the pool, which makes the rewards
of rare traces too low: of 16 samples with Z = 0.02, P / Z is told at 0.68 of its value. Every such
statement holds for one step, not over epochs, and for the sampling distribution itself, its
temperature included.

Replay is off-policy. If policy beta wrote a trace and policy pi learns it with weight w, one step
on the traces of beta alone acts like a reward, under pi, of w (Z_pi / Z_beta) beta / pi, with Z_q
the share of valid traces under q (the paper's statement leaves Z_pi / Z_beta out). The importance
weight is pi / beta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from planners.records import Outcome

CLIP = 10.0
"""Limit of importance weights and rewards where they are clipped."""
DRAWS = 200
"""Bootstrap draws of a pool, where there is no closed form."""

Choose = Callable[[pd.DataFrame], pd.Series]
"""A curator's weights on a pool, by trace; 0 or nothing for a trace that it drops."""


def one_a_task(pool: pd.DataFrame) -> np.ndarray:
    """P / Z for each valid trace, 0 for the others. Columns `task`, `valid`; all samples."""
    samples = pool.groupby("task")["valid"].transform("size")
    z = pool.groupby("task")["valid"].transform("mean")
    solved = 1 - (1 - z) ** samples
    return np.where(pool["valid"], solved / z.where(z > 0, 1.0), 0.0)


def best_of(pool: pd.DataFrame, order: list[str], believed: np.ndarray | None = None) -> np.ndarray:
    """The reward of keeping each task's best valid trace, least in the columns `order` first.

    Ties go to any of them alike. Columns `task`, `valid` and those of `order`; all samples.
    `believed`: the chance that each trace is taken for valid, where that is not certain.
    """
    samples = pool.groupby("task")["valid"].transform("size").to_numpy(dtype=float)
    taken = pool["valid"].to_numpy(dtype=float) if believed is None else believed
    at = np.flatnonzero(taken)
    asked = pool.iloc[at].assign(taken=taken[at])
    equal = asked.groupby(["task", *order], sort=True, dropna=False)["taken"].sum()
    better = equal.groupby(level="task").cumsum() - equal
    key = pd.MultiIndex.from_frame(asked[["task", *order]])
    same, less = equal.reindex(key).to_numpy(float), better.reindex(key).to_numpy(float)
    n, found = samples[at], np.zeros(len(pool))
    solved = (1 - less / n) ** n - np.maximum(1 - (less + same) / n, 0) ** n
    found[at] = taken[at] * solved / (same / n)
    return found


def erring(pool: pd.DataFrame, order: list[str], rate: float) -> np.ndarray:
    """The same for a checker that is wrong about each plan at a rate. Also `plan_length`."""
    with_plan = pool["plan_length"].fillna(0).to_numpy() > 0
    right = np.where(pool["valid"], 1 - rate, rate)
    return best_of(pool, order, np.where(with_plan, right, pool["valid"].astype(float)))


def advantage(pool: pd.DataFrame) -> np.ndarray:
    """1 for a valid trace, 0 for another, less the share of valid ones among its siblings: those of
    the task and the generation. Columns `task`, `generation`, `outcome`, `valid`.
    """
    usable = pool["outcome"].notna() & (pool["outcome"] != Outcome.TRUNCATED.value)
    reward = pool["valid"].astype(float).where(usable)
    z = reward.groupby([pool["task"], pool["generation"]]).transform("mean")
    return (reward - z).fillna(0.0).to_numpy(dtype=float)


def simulated(choose: Choose, pool: pd.DataFrame, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """The reward of any curator by Monte Carlo: each task's samples are drawn again.

    `pool` has all samples, with the columns that the curator reads, `trace` and `task` among them.
    """
    rng = np.random.default_rng(seed)
    place = pd.factorize(pool["task"].to_numpy())[0]
    size = np.bincount(place)
    start = np.cumsum(size) - size
    order = np.argsort(place, kind="stable")
    total = np.zeros(len(pool))
    for _ in range(draws):
        drawn = order[start[place] + (rng.random(len(pool)) * size[place]).astype(int)]
        again = pool.iloc[drawn].reset_index(drop=True)
        # Curators break ties by id, so that copies get ids of their own, in random order.
        again["trace"] = [f"{number:012x}" for number in rng.permutation(len(pool))]
        weight = again["trace"].map(choose(again)).fillna(0.0).to_numpy(dtype=float)
        np.add.at(total, drawn, weight)
    return total / draws * size[place]


# ------------------------------------------------------------ replay


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
