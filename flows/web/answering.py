"""A generation at work, and the thread in which it samples for all who wait."""

from __future__ import annotations

import queue
import re
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.experiments.experiment import Experiment
from flows.generations.judging import READING
from flows.generations.policies import policy_of
from planners.errors import ComponentFailure, InvalidInput, PosterityError, Refused
from planners.models.chat import encode_prompts
from planners.pddl import Task
from planners.policies.local import LocalPolicy
from planners.policies.served import ServedPolicy
from planners.policies.validating import ValidatingPolicy
from planners.prompts.formats import PromptFormat
from planners.records import Completion, Heard, Policy, Sampling
from warehouse.store import Warehouse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNANSWERED = "the model did not answer; the gateway's log says why"


@dataclass(frozen=True, slots=True)
class Tool:
    """The task of a prompt, about which the model may ask the checker, and the prompt's format."""

    task: Task
    prompt: PromptFormat


@dataclass(slots=True)
class Job:
    """A prompt that waits for a completion."""

    prompt: str
    sampling: Sampling
    seed: int
    done: Future[Completion]
    heard: Heard
    """Told each token as it is drawn."""
    tool: Tool | None

    @property
    def kind(self) -> tuple[Sampling, str]:
        """Jobs of one kind can be sampled together: one prompt may hold two tasks, if it leaves out
        the actions.
        """
        tool = self.tool
        return self.sampling, "" if tool is None else f"{tool.prompt} {tool.task.key}"


TOO_LONG = re.compile(
    r"status \d+:.*(?:context (?:length|window|size)|context_length|too long|too many tokens)",
    re.I | re.DOTALL,
)
"""Words of a model server that was asked for more tokens than it can take."""
TOOL_SECONDS = 1.0
"""The most that the checker may take for a call: other users wait meanwhile."""


def unheard(_: int, __: int) -> None:
    """Nobody listens."""


def _without_places(error: Exception) -> PosterityError:
    """An error for users, of one that may say where a server is."""
    if not isinstance(error, Refused):
        return ComponentFailure(UNANSWERED)
    if TOO_LONG.search(str(error)):
        return InvalidInput("the prompt and max_tokens exceed the model's context")
    return InvalidInput("the model server refused this request; the gateway's log says why")


class Answerer:
    """A generation at work. In this process, all jobs that wait are sampled together, those with
    equal settings in one batch; a job's answer does not depend on the others. A server gets each at
    once, as many as it may have, and batches them itself. Raises InvalidInput where the experiment
    has a tool that the policy cannot call.
    """

    def __init__(self, warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
        self.generation = generation
        made = warehouse.generation(experiment.id, generation)
        self.weights = "" if made is None else made.weights_hash
        server = experiment.model.server
        self.batch = experiment.model.batch
        self._calls = experiment.deploy.max_tool_calls
        with ExitStack() as stack:
            self.policy: Policy = stack.enter_context(
                policy_of(warehouse, experiment, generation, experiment.deploy)
            )
            if self._calls and isinstance(self.policy, LocalPolicy | ServedPolicy):
                ValidatingPolicy(self.policy, {}, READING, self._calls)  # or it says why not
            self._stack = stack.pop_all()  # else a server that was started goes on
        at_once = server.concurrency * max(1, len(server.urls)) if server else 0
        self._pool = ThreadPoolExecutor(at_once) if server else None
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._gate, self._leaving = threading.Lock(), False
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def ask(
        self, prompt: str, sampling: Sampling, seeds: Sequence[int],
        heard: Sequence[Heard] | None = None, tool: Tool | None = None,
    ) -> list[Future[Completion]] | None:  # fmt: skip
        """A completion for each seed, whose tokens `heard` is told as they are drawn; None if it is
        leaving, and another has to be asked. With a `tool`, the model may call it. Raises
        InvalidInput where the prompt is too long.
        """
        self._with(tool, [prompt]).require_room([prompt], sampling)
        listeners = heard or [unheard] * len(seeds)
        jobs = [
            Job(prompt, sampling, seed, Future(), listener, tool)
            for seed, listener in zip(seeds, listeners, strict=True)
        ]
        for job in jobs:
            job.done.set_running_or_notify_cancel()  # who gives up must not fail the others
        with self._gate:
            if self._leaving:
                return None
            for job in jobs:
                self._waiting.put(job)
        return [job.done for job in jobs]

    def tokens(self, prompt: str) -> int:
        """How long a prompt is; in words where only a server has the tokenizer."""
        if self.tokenizer is None:
            return len(prompt.split())
        return len(encode_prompts(self.tokenizer, [prompt])[0])

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """Makes texts of the tokens that are heard; None where none are."""
        policy = self.policy
        return policy.tokenizer if isinstance(policy, LocalPolicy | ServedPolicy) else None

    def close(self) -> None:
        """Answer what waits, then stop."""
        with self._gate:
            self._leaving = True
        self._waiting.put(None)
        self._thread.join()
        if self._pool:
            self._pool.shutdown()
        self._stack.close()

    def _work(self) -> None:
        ends = False
        while not ends:
            some = [self._waiting.get()]
            while len(some) < self.batch and not self._waiting.empty():
                some.append(self._waiting.get())
            ends = None in some
            jobs = [job for job in some if job is not None]
            if self._pool:
                for job in jobs:
                    self._pool.submit(self._answer, [job])
                continue
            for kind in dict.fromkeys(job.kind for job in jobs):
                self._answer([job for job in jobs if job.kind == kind])

    def _with(self, tool: Tool | None, prompts: Sequence[str]) -> Policy:
        """The policy, which may call the tool about the task that these prompts hold."""
        if tool is None or not isinstance(self.policy, LocalPolicy | ServedPolicy):
            return self.policy
        tasks = dict.fromkeys(prompts, tool.task)
        return ValidatingPolicy(self.policy, tasks, tool.prompt, self._calls, TOOL_SECONDS)

    def _answer(self, jobs: list[Job]) -> None:
        """Answer jobs of one kind."""
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        try:
            told: dict[str, Any] = {}
            if self.tokenizer is not None and any(job.heard != unheard for job in jobs):
                told = {"heard": [job.heard for job in jobs]}
            policy = self._with(jobs[0].tool, prompts)
            for found in policy.stream(prompts, jobs[0].sampling, seeds, **told):
                for row, completion in found.items():
                    jobs[row].done.set_result(completion)
        except Exception as error:
            failed = error
            if self._pool or not isinstance(error, PosterityError):  # it may say where a server is
                sys.stderr.write(f"generation {self.generation} did not answer: {error!r}\n")
                failed = _without_places(error)
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(failed)
