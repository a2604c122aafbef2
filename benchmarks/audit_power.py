"""How often the audit names a preference where there is none, and where there is one.

`make audit-bench` prints a table of simulated pools: valid traces of tasks that differ in size, in
length of plans and in how many of their traces are valid.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from curation.preferences import preferences
from curation.vocabulary import features, unlisted
from flows.audit.questions import UNLISTED

Rng = np.random.Generator
Pool = tuple[np.ndarray, np.ndarray, pd.DataFrame]
"""Kept or not, task and traits of each valid trace."""


def traits_of(task: np.ndarray, rng: Rng, extra: int = 0) -> pd.DataFrame:
    """Traits of traces: longer plans and larger tasks are rarer among the valid ones."""
    count = len(task)
    size = 4 + task % 5
    length = size + rng.integers(0, 8, count)
    frame = {
        "plan_length": length.astype(float),
        "text_length": length * 9.0 + rng.integers(0, 40, count),
        "size": size.astype(float),
        "domain": np.where(task % 3, "blocksworld", "rovers"),
        "first_action": rng.choice(["pickup", "unstack", "stack"], count, p=[0.5, 0.4, 0.1]),
        "fenced": rng.random(count) < 0.3,
        "source_generation": rng.choice(list("01234"), count),
        "rare": np.where(rng.random(count) < 0.015, "yes", "no"),
    }
    frame |= {f"extra{i}": rng.random(count) < 0.5 for i in range(extra)}
    return pd.DataFrame(frame)


def tasks_of(count: int, tasks: int, rng: Rng) -> np.ndarray:
    """A task for each trace; easy tasks have many more valid traces than hard ones."""
    ease = rng.gamma(1.0, 1.0, tasks) / (1 + np.arange(tasks) % 5)
    return rng.choice(tasks, count, p=ease / ease.sum())


def one_each(task: np.ndarray, rng: Rng, weight: np.ndarray | None = None) -> np.ndarray:
    """One trace of each task, at random, or with these odds."""
    key = rng.random(len(task)) ** (1 / (np.ones(len(task)) if weight is None else weight))
    best = pd.Series(key).groupby(task).idxmax()
    kept = np.zeros(len(task), dtype=bool)
    kept[best.to_numpy()] = True
    return kept


def thinned(task: np.ndarray, rng: Rng, weight: np.ndarray | None = None) -> np.ndarray:
    """Each trace by itself, more of them in some tasks than in others."""
    logit = -0.4 + rng.normal(0, 1, task.max() + 1)[task]
    logit = logit + (0 if weight is None else np.log(weight))
    return np.asarray(rng.random(len(task)) < 1 / (1 + np.exp(-logit)))


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of pool, and what should be named in it: nothing, or `taste` at these odds."""

    name: str
    count: int
    tasks: int
    keep: Callable[..., np.ndarray] = one_each
    extra: int = 0
    taste: str = ""
    odds: float = 2.0
    copied: bool = False
    few: int = 0
    odd: int = 0

    def pool(self, seed: int) -> Pool:
        """A pool of this kind."""
        rng = np.random.default_rng(seed)
        task = tasks_of(self.count, self.tasks, rng)
        traits = traits_of(task, rng, self.extra)
        if self.copied:
            traits["copy"] = traits["plan_length"] * 2
        for number in range(self.odd):  # each is another number for one trace alone
            traits[f"odd{number}"] = (np.arange(self.count) == rng.integers(self.count)) * 1.0
        weight = None
        if self.taste:
            liked = traits[self.taste]
            if self.taste == "plan_length":
                liked = -(liked - liked.mean()) / liked.std()
            weight = self.odds ** liked.to_numpy(dtype=float)
        kept = self.keep(task, rng, weight)
        if self.few:  # of all that are kept, only a few
            kept &= np.isin(np.arange(len(task)), rng.choice(np.flatnonzero(kept), self.few))
        return kept, task, traits


NULL = (
    Row("one trace a task", 2000, 250),
    Row("one trace a task, 200 traces", 200, 60),
    Row("ten tasks", 2000, 10, thinned),
    Row("ten tasks, 200 traces", 200, 10, thinned),
    Row("one trace a task of ten", 2000, 10),
    Row("kept by chance, tasks differ", 2000, 250, thinned),
    Row("60 extra traits, 200 traces", 200, 60, thinned, extra=60),
    Row("60 extra traits", 2000, 250, extra=60),
    Row("few kept", 2000, 250, few=12),
    Row("a copied trait", 2000, 250, copied=True),
    Row("five generations", 10000, 400),
    Row("ten numbers with one odd trace each", 2000, 60, odd=10),
)
POWER = (
    Row("a mark, odds 2", 2000, 250, thinned, taste="fenced"),
    Row("a mark, odds 2, 200 traces", 200, 25, thinned, taste="fenced"),
    Row("plan length, odds 2 a deviation", 2000, 250, thinned, taste="plan_length"),
    Row("plan length, odds 2, 200 traces", 200, 25, thinned, taste="plan_length"),
    Row("plan length with its copy", 2000, 250, thinned, taste="plan_length", copied=True),
    Row("a mark, one trace a task, odds 3", 2000, 400, taste="fenced", odds=3.0),
    Row("plan length, one trace a task, odds 2.5", 2000, 60, taste="plan_length", odds=2.5),
    Row("the same with three such numbers", 2000, 60, taste="plan_length", odds=2.5, odd=3),
)


def share_named(row: Row, pools: int) -> tuple[float, float]:
    """The share of pools in which anything is named, and in which the taste is named first."""
    named = []
    for seed in range(pools):
        kept, task, traits = row.pool(seed)
        named.append(preferences(pd.Series(kept), pd.Series(task), traits, seed).named())
    first = [bool(names) and names[0] == row.taste for names in named]
    return sum(map(bool, named)) / pools, sum(first) / pools


LOOKS = 30
"""Generations of a simulated experiment."""


def share_of_lives(row: Row, lives: int) -> tuple[float, float]:
    """The share of experiments of LOOKS generations in which anything is named at some generation,
    by each look alone, and by the bounds, which count looks.
    """
    alone = counted = 0
    for life in range(lives):
        found = []
        for look in range(1, LOOKS + 1):
            seed = 10_000 + life * LOOKS + look
            kept, task, traits = row.pool(seed)
            found.append(preferences(pd.Series(kept), pd.Series(task), traits, seed))
        alone += any(one.named() for one in found)
        counted += any(len(one.clear(look=look)) for look, one in enumerate(found, 1))
    return alone / lives, counted / lives


ACTIONS = ("pickup", "putdown", "stack", "unstack")
TASTE = "stack then unstack"
"""What is preferred, and listed nowhere."""


def plans_of(task: np.ndarray, rng: Rng) -> list[str]:
    """A plan for each trace: those of a task have the same actions, each in an order of its own."""
    actions = [
        [f"({name} b{rng.integers(1, 9)})" for name in rng.choice(ACTIONS, rng.integers(3, 7))]
        for _ in range(task.max() + 1)
    ]
    return ["\n".join(rng.permutation(actions[one])) for one in task]


def share_of_orders(count: int, odds: float, pools: int) -> tuple[float, float]:
    """The share of pools in which some unlisted feature is named, and in which TASTE is, first."""
    named = []
    for seed in range(pools):
        rng = np.random.default_rng(seed)
        task = tasks_of(count, count // 4, rng)
        plans = plans_of(task, rng)
        liked = np.array([TASTE in features(plan) for plan in plans])
        kept = thinned(task, rng, odds**liked)
        found = unlisted(pd.Series(kept), pd.Series(task), plans, [""] * count, seed)
        named.append(found["feature"][found["p"] <= UNLISTED].tolist())
    first = [bool(names) and names[0] == TASTE for names in named]
    return sum(map(bool, named)) / pools, sum(first) / pools


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="50 pools a row instead of 200")
    pools = 50 if parser.parse_args().fast else 200
    print(f"without a preference, of {pools} pools: something is named in")
    for row in NULL:
        print(f"  {share_named(row, pools)[0]:6.1%}  {row.name}", flush=True)
    print(f"of experiments of {LOOKS} generations: by each alone, and against a bound, in")
    for row in NULL[:4]:
        alone, counted = share_of_lives(row, pools // 2)
        print(f"  {alone:6.1%} {counted:6.1%}  {row.name}", flush=True)
    print("with one: named, and named first, in")
    for row in POWER:
        anything, first = share_named(row, pools)
        print(f"  {anything:6.1%} {first:6.1%}  {row.name}", flush=True)
    print("unlisted, two actions in a row: named, and named first, in")
    for count, odds in ((1000, 1.0), (1000, 3.0), (600, 3.0)):
        anything, first = share_of_orders(count, odds, pools)
        print(f"  {anything:6.1%} {first:6.1%}  odds {odds:g}, {count} traces", flush=True)


if __name__ == "__main__":
    main()
