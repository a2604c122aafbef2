"""Diversity of a generation's plans, and what more samples still find: is it collapsing?"""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

TEXTS = 2000
"""The most completions that are compressed together."""


def diversity(traces: pd.DataFrame) -> dict[str, float]:
    """The diversity of deployed traces (`task`, `valid`, `text`, `plan`, `first_action`).

    `pass_at_1`, `pass_at_k` (k samples per task) and the `gap` between them. `distinct_plans`:
    different valid plans per solved task. `first_action_entropy` is in bits. `compression`: how
    many times smaller completions become when compressed together. `all_wrong`, `all_right`: shares
    of tasks.
    """
    by_task = traces.groupby("task")["valid"]
    right, solved = by_task.mean(), by_task.any()
    valid = traces[traces["valid"]]
    shares = traces.loc[traces["first_action"] != "", "first_action"].value_counts(normalize=True)
    # Every n-th text in sorted order, so that the order of rows does not matter.
    texts = "\n".join(sorted(traces["text"])[:: max(1, -(-len(traces) // TEXTS))]).encode()
    return {
        "pass_at_1": float(right.mean()),
        "pass_at_k": float(solved.mean()),
        "gap": float(solved.mean() - right.mean()),
        "distinct_plans": float(valid.groupby("task")["plan"].nunique().mean())
        if len(valid)
        else 0,
        # Adding 0.0 turns -0.0 into 0.0.
        "first_action_entropy": float(-(shares * np.log2(shares)).sum()) + 0.0,
        "compression": len(texts) / len(zlib.compress(texts, 6)) if texts else 1.0,
        "all_wrong": float((right == 0).mean()),
        "all_right": float((right == 1).mean()),
    }


def trend(values: list[float]) -> float | None:
    """Change per generation, the slope of a fitted line; None for fewer than three values."""
    if len(values) < 3:
        return None
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])
