"""Which generation answers, and the thread in which it samples for all who wait."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from flows.experiments.experiment import Experiment
from flows.generations.judging import READING
from flows.generations.lineage import deployed
from flows.generations.policies import policy_of
from flows.pages.source import changed
from flows.web.keys import Clients
from planners.errors import Busy, ComponentFailure, InvalidInput, PosterityError
from planners.pddl import Task
from planners.policies.local import LocalPolicy
from planners.policies.served import ServedPolicy
from planners.policies.validating import ValidatingPolicy
from planners.prompts.formats import PromptFormat
from planners.records import Completion, Heard, Policy, Sampling
from warehouse.findings import ApiKey
from warehouse.places.connect import place_of
from warehouse.places.file import File, Still
from warehouse.store import Warehouse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNREADABLE = "what was answered before cannot be read just now; try again later"
"""Told to a client, who has no business with the warehouse's place; the log says more."""

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


TOOL_SECONDS = 1.0
"""The most that the checker may take for a call: other users wait meanwhile."""


def unheard(_: int, __: int) -> None:
    """Nobody listens."""


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
        """How long a prompt is; in words where a server has the tokenizer."""
        if isinstance(self.policy, LocalPolicy):
            return len(self.policy.encode([prompt], 0)[0])
        return len(prompt.split())

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
                failed = ComponentFailure(UNANSWERED)
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(failed)


class Deployed:
    """The generations of an experiment that answer: the deployed one, or one by its number."""

    def __init__(self, warehouse: str, experiment: Experiment, clients: Clients) -> None:
        self.warehouse, self.experiment, self.id = warehouse, experiment, experiment.id
        self.clients = clients
        self._answerers: dict[int, Answerer] = {}
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._seen = 0
        self.candidate: int | None = None
        """The generation that answers a share of sessions, though it is not deployed."""
        self.silent: int | None = None
        """The one that answers in silence."""
        self._held: Warehouse | None = None
        """A lake, open: others of this process then need not connect to it anew."""
        with self.reading() as store:
            self.current = deployed(store, experiment)
            self.clients.know(store.every(ApiKey))
            self._look(store)
        self.of(self.current)

    def reading(self) -> Warehouse:
        """The published snapshot, which no writer holds, or the warehouse before there is one."""
        place = place_of(self.warehouse)
        published = place.published
        if not isinstance(place, File) and self._held is None:
            self._held = Warehouse(str(place), read_only=True)
        if isinstance(published, File) and not published.is_new:
            # Readers of one file share a database, perhaps that of before the last publication.
            return Warehouse(Still(published.path), read_only=True)
        return Warehouse(str(place), read_only=True)

    def looking(self) -> Warehouse:
        """The published state, for a look while others write. Raises Busy if there is none yet:
        a run would be refused for as long as the warehouse itself is looked at. Raises
        ComponentFailure where it cannot be read, which is no fault of a client's.
        """
        if place_of(self.warehouse).published.is_new:
            raise Busy("nothing has been published yet; try again later")
        try:
            return self.reading()
        except InvalidInput as error:
            sys.stderr.write(f"the warehouse cannot be read: {error}\n")
            self._let_go_of_lake()
            raise ComponentFailure(UNREADABLE) from error

    def _let_go_of_lake(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def _look(self, store: Warehouse) -> None:
        made = [one.index for one in store.generations(self.id)]
        self.known = made
        newest = made[-1]
        self.candidate, self.silent = self._tried(store, newest)

    def _tried(self, store: Warehouse, newest: int) -> tuple[int | None, int | None]:
        """Who answers a share of sessions though it is not deployed, and who answers in silence."""
        users, decisions = self.experiment.deployment, store.promotions(self.id)
        decided = {one.generation for one in decisions}
        if self.experiment.promote == "if-preferred" and newest in decided:
            return None, None  # it had its chance
        if users is None or newest == self.current or newest in self._tainted(store):
            return None, None
        rolled_back = newest in {one.generation for one in decisions if one.promoted}
        return (
            newest if users.candidate and not rolled_back else None,
            newest if users.shadow else None,
        )

    def _tainted(self, store: Warehouse) -> set[int]:
        """The generations that learned what users wanted to be forgotten."""
        if not store.forgotten():
            return set()
        return set(store.query("tainted_of", experiment=self.id)["generation"])

    def refresh(self) -> None:
        """Look which generation is deployed now; load it before it answers."""
        if (seen := changed(place_of(self.warehouse).published)) == self._seen and seen:
            return
        try:
            with self.reading() as store:
                self.clients.know(store.every(ApiKey))  # revoked, even if nothing else can be read
                if (found := deployed(store, self.experiment)) != self.current:
                    self.of(found)
                    self.current = found
                self._look(store)
        except BaseException:
            self._let_go_of_lake()  # PostgreSQL may have been started again
            raise
        self._seen = seen  # only now: if it could not be read, it is tried again

    def chosen(self, model: str, session: str | None) -> int:
        """The generation that a model's name means. Raises InvalidInput where there is none."""
        name, at, number = model.partition("@")
        numbered = {str(index): index for index in self.known}
        if name not in (self.experiment.name, self.id) or (at and number not in numbered):
            raise InvalidInput(
                f"the model {model!r} does not exist; there is {', '.join(self.names())}"
            )
        if at:
            return numbered[number]
        share = self.experiment.deployment.candidate if self.experiment.deployment else 0.0
        if self.candidate is not None and session is not None and share_of(session) < share:
            return self.candidate
        return self.current

    def shadow(self, generation: int, nonce: str) -> int | None:
        """The generation that answers a request in silence beside the one that answers it, if any
        does.
        """
        share = self.experiment.deployment.shadow if self.experiment.deployment else 0.0
        return self.silent if generation == self.current and share_of(nonce) < share else None

    def names(self) -> Iterator[str]:
        """The names of models: the deployed generation, then each by its number."""
        yield self.experiment.name
        yield from (f"{self.experiment.name}@{index}" for index in self.known)

    def of(self, generation: int) -> Answerer:
        """The generation at work; it is loaded if it is not, while the others go on answering."""
        if (found := self.at_work(generation)) is not None:
            return found
        with self._loading:
            if (found := self.at_work(generation)) is None:
                with self.reading() as store:
                    found = Answerer(store, self.experiment, generation)
                with self._lock:
                    self._answerers[generation] = found
                    self._let_go(generation)
        return found

    def at_work(self, generation: int) -> Answerer | None:
        """The generation if it is at work already."""
        with self._lock:
            return self._answerers.get(generation)

    def _let_go(self, fresh: int) -> None:
        """Stop generations that answer nobody any more, but for two."""
        needed = {self.current, self.candidate, self.silent, fresh}
        old = [index for index in self._answerers if index not in needed]
        for index in old[:-2]:
            leaving = self._answerers.pop(index)
            threading.Thread(target=leaving.close, daemon=True).start()

    def close(self) -> None:
        """Answer what waits, then stop all."""
        for answerer in self._answerers.values():
            answerer.close()
        self._let_go_of_lake()


def share_of(name: str) -> float:
    """Where a name falls between 0 and 1: always the same."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
