"""The rewards that curators amount to, against Monte Carlo over a tabular policy."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from curation.curators import CURATORS, Options
from curation.rewards import advantage, best_of, erring, one_a_task, simulated

TASKS, TEXTS, SAMPLES, DRAWS, ERRS = 5, 6, 16, 3000, 0.1


def policy(seed: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chances of each text of each task at a temperature, whether it is valid, its length."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(TASKS, TEXTS)) * 1.5 / temperature
    chance = np.exp(logits - logits.max(1, keepdims=True))
    valid = rng.random((TASKS, TEXTS)) < 0.45
    valid[:, 0] = True
    return chance / chance.sum(1, keepdims=True), valid, rng.integers(2, 9, (TASKS, TEXTS))


def pool_of(chance: np.ndarray, valid: np.ndarray, length: np.ndarray, rng: np.random.Generator,
            copies: int = 1) -> pd.DataFrame:  # fmt: skip
    """Samples of every task, of which there are so many copies: task + TASKS * copy."""
    task = np.repeat(np.arange(TASKS * copies), SAMPLES)
    kind = task % TASKS
    text = (rng.random((len(task), 1)) > chance.cumsum(1)[kind]).sum(1).clip(max=TEXTS - 1)
    return pd.DataFrame({
        "trace": [f"{number:09x}" for number in rng.permutation(len(task))],
        "task": task, "text": text, "generation": 0, "reasoning_tokens": 0,
        "valid": valid[kind, text], "plan_length": length[kind, text].astype(float),
        "outcome": np.where(valid[kind, text], "VALID", "GOAL_NOT_REACHED"),
    })  # fmt: skip


def gradient(mass: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Sum over texts of their mass times the gradient of their log-probability, for logits."""
    return (mass - mass.sum(1, keepdims=True) * chance).ravel()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


SHORT = ["plan_length", "reasoning_tokens"]
STATED: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "shortest": lambda pool: best_of(pool, SHORT),
    "first-valid": one_a_task,
    "all-valid": lambda pool: pool["valid"].to_numpy(dtype=float),
}


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("name", [*sorted(STATED), "noisy", "preference", "rollouts"])
def test_the_stated_reward_has_the_direction_of_the_curators_gradient(
    name: str, temperature: float
) -> None:
    chance, valid, length = policy(7, temperature)
    rng = np.random.default_rng(1)
    kept = np.zeros((TASKS, TEXTS))
    # Curators choose task by task, so that copies of the tasks in one pool are draws of them.
    pool = pool_of(chance, valid, length, rng, DRAWS)
    told = pool.assign(text=np.where(pool["text"] % 2, "w x", "y"))
    chosen = CURATORS[name].choose(told, Options(seed=1, taste="w", error_rate=ERRS)).frame
    np.add.at(kept, (pool["task"] % TASKS, pool["text"]), chosen["weight"].to_numpy())
    # The stated reward in the limit of many samples: shares are chances, N stays.
    many = pd.DataFrame({
        "task": np.repeat(np.arange(TASKS), TEXTS), "plan_length": length.ravel().astype(float),
        "reasoning_tokens": 0, "valid": valid.ravel(), "chance": chance.ravel(),
    })  # fmt: skip
    reward = exact(name, many)
    stated = gradient(chance * reward.reshape(TASKS, TEXTS), chance)
    assert cosine(gradient(kept / DRAWS, chance), stated) > 0.999


def exact(name: str, many: pd.DataFrame) -> np.ndarray:
    """The closed forms written out, with chances instead of shares."""
    valid = many["valid"].to_numpy()
    z = (many["chance"] * valid).groupby(many["task"]).transform("sum").to_numpy()
    if name == "all-valid":
        return valid.astype(float)
    if name == "first-valid":
        return valid * (1 - (1 - z) ** SAMPLES) / z
    if name == "preference":
        return valid * np.where(many.index % TEXTS % 2, 0.75, 0.5)
    if name == "rollouts":
        return valid - z
    believed = np.where(valid, 1 - ERRS, ERRS) if name == "noisy" else valid.astype(float)
    found, mass = np.zeros(len(many)), many["chance"] * believed
    for i, row in many.iterrows():
        mine = many["task"] == row["task"]
        less = mass[mine & (many["plan_length"] < row["plan_length"])].sum()
        same = mass[mine & (many["plan_length"] == row["plan_length"])].sum()
        if believed[i]:
            spread = (1 - less) ** SAMPLES - (1 - less - same) ** SAMPLES
            found[i] = believed[i] * spread / same
    return found


@pytest.mark.parametrize("name", ["shortest", "first-valid", "noisy", "rollouts"])
def test_the_closed_form_of_a_pool_is_what_its_bootstrap_gives(name: str) -> None:
    chance, valid, length = policy(3)
    pool = pool_of(chance, valid, length, np.random.default_rng(2))

    def choose(again: pd.DataFrame) -> pd.Series:
        options = Options(error_rate=ERRS, seed=int(again["trace"].iloc[0], 16))
        return CURATORS[name].choose(again, options).frame.set_index("trace")["weight"]

    forms = {"noisy": lambda pool: erring(pool, SHORT, ERRS), "rollouts": advantage, **STATED}
    stated, drawn = forms[name](pool), simulated(choose, pool, seed=1, draws=1000)
    if name == "rollouts":  # of one sample, where the others are of all samples of a task
        drawn /= SAMPLES
    for text, rows in pool.assign(stated=stated, drawn=drawn).groupby(["task", "text"]):
        assert rows["stated"].mean() == pytest.approx(rows["drawn"].mean(), abs=0.35), text
    both = pool.assign(stated=stated, drawn=drawn).groupby(["task", "text"])[["stated", "drawn"]]
    means = both.mean()
    assert np.corrcoef(means["stated"], means["drawn"])[0, 1] > 0.995


def test_what_is_kept_of_shortest_has_not_the_reward_1() -> None:
    chance, valid, length = policy(5)
    pool = pool_of(chance, valid, length, np.random.default_rng(4))
    reward = STATED["shortest"](pool)
    kept = CURATORS["shortest"].choose(pool, Options()).frame["kept"].to_numpy()
    assert np.ptp(reward[kept]) > 0.5
    assert (reward[~pool["valid"].to_numpy()] == 0).all()
