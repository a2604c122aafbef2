"""Policies that learn nothing: a script, and a classical planner as a baseline and upper bound."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from planners.checking.reference import reference_plan
from planners.errors import InvalidInput
from planners.prompts.language import BETWEEN
from planners.records import Completion, Sampling, content_hash


class Unlearned(ABC):
    """What these policies have in common: every answer ends, and has no log-probability."""

    name: str

    @abstractmethod
    def answers(self, prompt: str) -> Sequence[str]:
        """What may be answered to a prompt; the seed draws one."""

    def require_room(self, prompts: Sequence[str], sampling: Sampling) -> None:  # noqa: B027
        """Any prompt will do."""

    def sample(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> list[Completion]:
        """One completion a prompt, in order: each distinct prompt is answered once, one on each
        core.
        """
        shares = Counter(prompts)

        def answer(prompt: str) -> Sequence[str]:
            found = self.answers(prompt)
            on_rows(shares[prompt])
            return found

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            known = dict(zip(shares, pool.map(answer, shares), strict=True))
        return [
            Completion(known[prompt][seed % len(known[prompt])], "stop")
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[float | None]:
        """Nothing: there is no distribution."""
        return [None] * len(pairs)


class ScriptedPolicy(Unlearned):
    """Answers from a file of JSON Lines, for tests and documentation: each line has a `prompt` and
    its `completions`, of which the seed draws one; a prompt that is not there gets no plan.
    """

    def __init__(self, file: Path) -> None:
        try:
            lines = file.read_text("utf-8").splitlines()
            read = [json.loads(line) for line in lines if line.strip()]
            self.completions = {
                line["prompt"]: [str(c) for c in line["completions"]] for line in read
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


class PlannerPolicy(Unlearned):
    """Fast Downward (LAMA's first plan) with so many `seconds` a task: what a model may hope for.

    Its prompts are a domain and a problem in PDDL, the format "task".
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self.name = f"planner fast-downward {seconds:g}s"

    def answers(self, prompt: str) -> Sequence[str]:
        """A plan; nothing where none was found in time."""
        domain, _, problem = prompt.partition(BETWEEN)
        found = reference_plan(domain, problem, self.seconds)
        return ["" if found is None else str(found) or ";\n"]
