"""The tasks, and the score of an answer: 1 if the plan checker calls its plan valid."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import datasets

from planners import NotJudged, judge, pose


def posed(**settings: Any) -> dict[str, datasets.Dataset]:
    """The test split: `settings` are those of `planners.pose`, by `--metadata`."""
    known = {"domain", "count", "sizes", "horizons", "seed"} & settings.keys()
    rows = [asdict(one) for one in pose(**{name: settings[name] for name in known})]
    return {"test": datasets.Dataset.from_list(rows)}


def scores(doc: dict[str, str], results: list[str]) -> dict[str, float]:
    """The score of the first answer; none where it cannot be judged, so that it counts nowhere."""
    try:
        return {"valid": float(judge(doc["domain"], doc["problem"], results[0]).valid)}
    except NotJudged:
        return {}
