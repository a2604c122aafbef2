"""Policies that do not learn: a script, and a classical planner as a baseline and upper bound."""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from planners.checking.reference import reference_plan, require_reference
from planners.errors import InvalidInput
from planners.prompts.language import BETWEEN
from planners.records import Completion, Policy, Sampling, content_hash


class Unlearned(Policy, ABC):
    """Base class of these policies: their answers always end and have no log-probability."""

    name: str

    @abstractmethod
    def answers(self, prompt: str) -> Sequence[str]:
        """The possible answers to a prompt; the seed picks one."""

    def stream(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        known: Collection[int] = (),
    ) -> Iterator[dict[int, Completion]]:
        """Yield the completions of one distinct prompt after the other, a prompt per core."""
        rows = defaultdict[str, list[int]](list)
        for row, prompt in enumerate(prompts):
            if row not in known:
                rows[prompt].append(row)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            each = pool.map if len(rows) > 1 else map
            for prompt, answers in zip(rows, each(self.answers, rows), strict=True):
                yield {
                    row: Completion(answers[seeds[row] % len(answers)], "stop")
                    for row in rows[prompt]
                }


class ScriptedPolicy(Unlearned):
    """Answers from a JSON Lines file, for tests and documentation.

    Each line has a `prompt` and its `completions`; the seed picks one. Other prompts get no plan.
    """

    def __init__(self, file: Path) -> None:
        try:
            # Not by `splitlines`: a text may hold other ends of lines than a file has.
            lines = re.split("\r?\n", file.read_text("utf-8").removesuffix("\n"))
            read = [json.loads(line) for line in lines if line.strip()]
            self.completions = {
                line["prompt"]: [str(c) for c in _listed(line["completions"])] for line in read
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"the script {file} cannot be read: {error!r}; each line must be an object with "
                "`prompt` and `completions`"
            ) from error
        self.name = f"scripted {content_hash(*lines)}"

    def answers(self, prompt: str) -> Sequence[str]:
        """The completions of a prompt."""
        return self.completions.get(prompt) or [""]


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("`completions` is no list")
    return value


class PlannerPolicy(Unlearned):
    """Fast Downward (LAMA's first plan) with `seconds` per task: an upper bound for a model.

    Its prompts are a domain and a problem in PDDL, the format "task". Raises InvalidInput if the
    planner is not installed.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        require_reference()
        self.seconds = seconds
        self.name = f"planner fast-downward {seconds:g}s"

    def answers(self, prompt: str) -> Sequence[str]:
        """One plan, or an empty text if none was found in time."""
        domain, _, problem = prompt.partition(BETWEEN)
        found = reference_plan(domain, problem, self.seconds)
        # An empty plan is a PDDL comment, because an empty text means no plan.
        return ["" if found is None else str(found) or ";\n"]
