"""Find preferences for traits that nobody listed: words, and what plans are made of.

Each candidate is a yes-or-no feature of a trace: an action, an action done twice, two actions in a
row, the first or last action, an object, a word, two words in a row. Within tasks, each feature's
score is compared with the largest score of all features when the kept labels are permuted (max-T,
Westfall and Young 1993), so that the chance to name anything where nothing is preferred is at most
the level asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from curation.strata import Strata, Tails
from curation.tasks import FEWEST, PERMUTED

MOST = 1000
"""Features, at most: the most frequent ones."""
COLUMNS = ["feature", "traces", "share_kept", "share_expected", "z", "p"]
_WORD = re.compile(r"[^\W\d_][\w'-]*")


def features(plan: str, prose: str = "") -> set[str]:
    """The features of a trace: of its plan, one action per line, and of its prose."""
    actions = [line.strip("() ").split() for line in plan.splitlines() if line.strip("() ")]
    names = [action[0] for action in actions]
    found = {f"action {name}" for name in names}
    found |= {f"twice {name}" for name, count in Counter(names).items() if count > 1}
    found |= {f"object {word}" for action in actions for word in action[1:]}
    found |= {f"{one} then {two}" for one, two in pairwise(names)}
    found |= {f"first {name}" for name in names[:1]} | {f"last {name}" for name in names[-1:]}
    words = [word.lower() for word in _WORD.findall(prose)]
    found |= {f"word {word}" for word in words}
    return found | {f"words {one} {two}" for one, two in pairwise(words)}


def unlisted(
    kept: pd.Series, task: pd.Series, plans: Sequence[str], prose: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Features that go with being kept within a task, the clearest first.

    One row per feature (COLUMNS): how many traces of tasks with kept and dropped ones have it, its
    share among the kept ones and the share expected if each task's had been drawn at random, its
    score (below 0: kept less often), and `p`, adjusted for all features together. Empty if nothing
    can be asked.
    """
    chosen, tasks = kept.to_numpy(dtype=bool), pd.factorize(task.to_numpy())[0]
    strata = Strata.of(chosen, tasks)
    told = [features(plans[row], prose[row]) for row in strata.rows]
    names = list(_candidates(told))
    if not names:
        return pd.DataFrame(columns=COLUMNS)
    place = {name: number for number, name in enumerate(names)}
    x = np.zeros((len(told), len(names)), dtype=np.float32)
    for row, found in enumerate(told):
        x[row, [place[name] for name in found if name in place]] = 1
    label = strata.label.astype(bool)
    mean, count = strata.sums(x) / strata.size[:, None], x.sum(axis=0)
    shares = x[label].mean(axis=0), strata.kept @ mean / strata.kept.sum()
    x -= mean[strata.task]
    spread = np.sqrt((x**2 * strata.variance[:, None]).sum(axis=0))
    asked = spread > 1e-6
    if not asked.any():
        return pd.DataFrame(columns=COLUMNS)
    x, spread = x[:, asked] / spread[asked], spread[asked]
    # A feature that few traces have is far from a normal one, and would set the bar for all others.
    rng = np.random.default_rng(seed)
    tails = Tails(strata, x, rng, PERMUTED)
    score = tails.credible(x[label].sum(axis=0))
    drawn = np.array([x[places].sum(axis=0) for places in strata.permuted(rng, PERMUTED)])
    largest = np.sort(np.abs(tails.credible(drawn)).max(axis=-1))
    beyond = PERMUTED - np.searchsorted(largest, np.abs(score) - 1e-6)
    frame = pd.DataFrame(
        {
            "feature": np.array(names)[asked], "traces": count[asked].astype(int),
            "share_kept": shares[0][asked], "share_expected": shares[1][asked], "z": score,
            "p": (1 + beyond) / (1 + PERMUTED),
        }
    )  # fmt: skip
    order = np.lexsort((frame["feature"], -frame["z"].abs(), frame["p"]))
    return frame.iloc[order].reset_index(drop=True)


def _candidates(told: list[set[str]]) -> Iterator[str]:
    """Features that enough traces have and enough have not; of equal ones, the first by name."""
    counts = Counter(name for found in told for name in sorted(found))
    for name, count in counts.most_common(MOST):
        if FEWEST <= count <= len(told) - FEWEST:
            yield name
