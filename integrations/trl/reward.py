"""The plan checker as a reward of TRL, and tasks as its dataset.

from datasets import Dataset
from reward import rows, valid_plan
GRPOTrainer(model, reward_funcs=valid_plan, train_dataset=Dataset.from_list(rows(count=200)))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planners import NotJudged, judge, pose


def rows(chat: bool = False, **settings: Any) -> list[dict[str, Any]]:
    """A row for each task: `prompt` (with `chat` as messages), `domain` and `problem`. The
    `settings` are those of `planners.pose`.
    """
    return [
        {
            "prompt": [{"role": "user", "content": one.prompt}] if chat else one.prompt,
            "domain": one.domain,
            "problem": one.problem,
        }
        for one in pose(**settings)
    ]


def valid_plan(
    completions: Sequence[Any], domain: Sequence[str], problem: Sequence[str], **_: Any
) -> list[float | None]:
    """1 for each completion with a valid plan, else 0; None where a plan takes too long to judge,
    which TRL takes for no reward.
    """
    texts = [one if isinstance(one, str) else one[-1]["content"] or "" for one in completions]
    return [_valid(*task, text) for *task, text in zip(domain, problem, texts, strict=True)]


def _valid(domain: str, problem: str, text: str) -> float | None:
    try:
        return float(judge(domain, problem, text).valid)
    except NotJudged:
        return None
