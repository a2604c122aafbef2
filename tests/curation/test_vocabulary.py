"""Preferences for what nobody listed."""

import numpy as np
import pandas as pd

from curation.vocabulary import features, unlisted

NAMES = ("pickup", "putdown", "stack", "unstack")
PROSE = ("first the red one", "so we must clear it", "easy", "let me think about that one")


def pool(seed: int, taste: str = "", odds: float = 3.0) -> tuple[pd.Series, ...]:
    """550 traces of 60 tasks: random plans and prose, kept by chance, or with a taste."""
    rng = np.random.default_rng(seed)
    task = rng.integers(0, 60, 550)
    plans, prose = [], []
    for _ in task:
        names = rng.choice(NAMES, rng.integers(2, 7))
        plans.append("\n".join(f"({name} b{rng.integers(1, 9)})" for name in names))
        prose.append(" ".join(rng.choice(PROSE, 2)))
    liked = np.array([taste in features(p, w) for p, w in zip(plans, prose, strict=True)])
    ease = rng.normal(0, 1, 60)[task]
    kept = rng.random(550) < 1 / (1 + np.exp(0.5 - ease - np.log(odds) * liked * bool(taste)))
    return pd.Series(kept), pd.Series(task), plans, prose  # type: ignore[return-value]


def test_features_are_of_plan_and_prose() -> None:
    found = features("(pickup b1)\n(stack b1 b2)\n(pickup b3)\n", "Clear it, 3 times")
    assert found == {
        "action pickup", "action stack", "twice pickup", "object b1", "object b2", "object b3",
        "pickup then stack", "stack then pickup", "first pickup", "last pickup",
        "word clear", "word it", "word times", "words clear it", "words it times",
    }  # fmt: skip


def test_a_taste_that_nobody_listed_is_named_first() -> None:
    for taste in ("object b4", "stack then unstack", "word clear"):
        named = [unlisted(*pool(seed, taste), seed=seed).iloc[0] for seed in range(10)]
        hits = sum(taste in row["feature"] or taste.split()[-1] in row["feature"] for row in named)
        assert hits >= 8, (taste, [row["feature"] for row in named])
        assert sum(row["p"] <= 0.05 for row in named) >= 7


def test_nothing_is_named_by_chance() -> None:
    alarms = [unlisted(*pool(seed), seed=seed)["p"].min() <= 0.05 for seed in range(60)]
    assert sum(alarms) <= 7  # 3 are expected


def test_questions_that_cannot_be_asked() -> None:
    kept, task, plans, prose = pool(0)
    for everything in (kept | True, kept & False):
        assert unlisted(everything, task, plans, prose).empty  # type: ignore[arg-type]
    alone = pd.Series(range(len(task)))
    assert unlisted(kept, alone, plans, prose).empty  # type: ignore[arg-type]
