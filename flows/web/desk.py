"""Between a request and a generation: who is asked, what is written down, what goes back."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

from flows.deployment.answered import CHOSEN, Answered, Endpoint, Told, answered_id, as_line, drawn
from flows.deployment.loading import NO_TASK
from flows.deployment.log import Log
from flows.generations.identity import INGESTED_FORMAT
from flows.generations.judging import READING, reading_of, verdict_of
from flows.web.answering import Answerer, Tool
from flows.web.deployed import Deployed
from flows.web.keys import Names
from flows.web.live import Live
from flows.web.memory import Memory
from flows.web.protocol import Asked, Corrected, Given, Judged, Planned, Planning
from planners.checking.checker import Checker, checker_for
from planners.clock import OUT_OF_TIME
from planners.errors import ComponentFailure, InvalidInput, NotJudged, PosterityError
from planners.prompts.formats import PROMPTS, PromptFormat
from planners.records import SEEDS, Completion, Plan, Sampling, Verdict, content_hash

TRIES = 3
LONG = 10_000
"""Characters from which a prompt is read in a thread, so that others need not wait for it."""
UNWRITTEN = "the answer could not be written down; the gateway's log says why"
LATE = "it could not be judged within {:g} seconds"
JUDGES = 8
"""Threads that judge plans, so that plans which take long leave the others to other work."""
T = TypeVar("T")


class TooBusy(ComponentFailure):
    """As many requests wait as may."""


class Desk:
    """Asks generations and writes every answer down before it is given."""

    def __init__(self, deployed: Deployed, log: Log, most: int = 256) -> None:
        self.deployed, self.log, self.most = deployed, log, most
        self.waiting, self._heard = 0, datetime.min.replace(tzinfo=UTC)
        self._memory, self._names = Memory(deployed.looking, log.folder), Names()
        self._shadows: set[asyncio.Task[None]] = set()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._judges = ThreadPoolExecutor(JUDGES)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def answer(
        self, asked: Asked, endpoint: Endpoint, prompt: str, most: int | None,
        task: tuple[str, str] | None = None, written: str = INGESTED_FORMAT, count: int = 1,
        live: Live | None = None,
    ) -> list[Given]:  # fmt: skip
        """`count` answers to a prompt, each written down. `task`: PDDL of the domain and problem
        that the prompt of format `written` holds. `live` hears the tokens as they are drawn. Raises
        InvalidInput where it cannot be asked, and TooBusy where too many wait.
        """
        with self._room(count):
            if task is not None:
                task = await asyncio.to_thread(self._memory.first_written, task)
            return await self._answer(asked, endpoint, prompt, most, task, written, count, live)

    @contextmanager
    def _room(self, count: int) -> Iterator[None]:
        """Room for so many answers at a time. Raises TooBusy where there is none."""
        if self.waiting and self.waiting + count > self.most:
            raise TooBusy(f"{self.waiting} answers are being written already")
        self.waiting += count
        try:
            yield
        finally:
            self.waiting -= count

    async def _answer(
        self, asked: Asked, endpoint: Endpoint, prompt: str, most: int | None,
        task: tuple[str, str] | None, written: str, count: int, live: Live | None,
    ) -> list[Given]:  # fmt: skip
        """The same for a request that there is room for, with the task as it was first written."""
        begun, received = time.perf_counter(), datetime.now(UTC)
        nonces = [uuid4().hex for _ in range(count)]
        seeds = [
            _seed(nonce) if asked.seed is None else (asked.seed + number) % SEEDS
            for number, nonce in enumerate(nonces)
        ]
        session = self._names.hashed(asked.session)
        answerer, sampling, futures = await self._asked(
            asked, prompt, most, seeds, session, live, await self._tool(task, written)
        )
        if live is not None:
            traces = [answered_id(nonce, content_hash(prompt)) for nonce in nonces]
            live.begin(answerer.generation, traces, answerer.tokenizer)
        completions = await asyncio.gather(*map(asyncio.wrap_future, futures))
        lines = [
            Answered(
                nonce=nonce,
                endpoint=endpoint,
                experiment=self.deployed.id,
                generation=answerer.generation,
                weights=answerer.weights,
                received=received,
                latency_ms=_since(begun),
                prompt=prompt,
                prompt_format=written,
                settings=asdict(sampling) | ({CHOSEN: 1} if "@" in asked.model else {}),
                policy=answerer.policy.name,
                seed=seed,
                **drawn(one),
                domain=task and task[0],
                problem=task and task[1],
                user=self._names.hashed(asked.user),
                session=session,
                metadata=asked.metadata,
            )
            for nonce, seed, one in zip(nonces, seeds, completions, strict=True)
        ]
        await self._write_down(*lines)
        self._memory.keep(lines)
        for line in lines:
            self._begin_shadow(line, sampling)
        tokens = await _read(prompt, partial(answerer.tokens, prompt))
        return [
            Given(line.trace, one, answerer.generation, tokens)
            for line, one in zip(lines, completions, strict=True)
        ]

    async def _write_down(self, *lines: Answered | Told, in_order: bool = False) -> None:
        """Return once the lines are on disk."""
        written = [self.log.append(as_line(one), in_order) for one in lines]
        try:
            await asyncio.gather(*map(asyncio.wrap_future, written))
        except ComponentFailure as error:  # which says where the log is
            sys.stderr.write(f"{error}\n")
            raise ComponentFailure(UNWRITTEN) from error

    def _begin_shadow(self, beside: Answered, sampling: Sampling) -> None:
        """Let another generation answer the same in silence, if one does and has time for it."""
        other = self.deployed.shadow(beside.generation, beside.nonce)
        busy = 2 * (self.waiting - 1 + len(self._shadows)) > self.most  # but for this request
        if other is not None and not busy:  # users come first
            shadow = self.go_on(self._in_silence(other, beside, sampling))
            self._shadows.add(shadow)
            shadow.add_done_callback(self._shadows.discard)

    def go_on(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Work that is finished even where nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def finish(self, seconds: float) -> None:
        """Wait for answers that nobody waits for any more, of clients that left and in silence."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)
        self._judges.shutdown(wait=False, cancel_futures=True)  # plans that nobody waits for

    async def _in_silence(self, generation: int, beside: Answered, sampling: Sampling) -> None:
        """Let another generation answer what a user was answered, and write that down."""
        begun = time.perf_counter()
        with suppress(PosterityError):  # nobody waits for it
            answerer = await asyncio.to_thread(self.deployed.of, generation)
            task = beside.domain and beside.problem and (beside.domain, beside.problem)
            tool = await self._tool(task or None, beside.prompt_format)
            asked = answerer.ask(beside.prompt, sampling, [beside.seed], None, tool)
            if asked is None:
                return
            completion = await asyncio.wrap_future(asked[0])
            line = replace(
                beside, nonce=uuid4().hex, endpoint="shadow", generation=generation,
                weights=answerer.weights, policy=answerer.policy.name, corrects=beside.trace,
                latency_ms=_since(begun), **drawn(completion),
            )  # fmt: skip
            await self._write_down(line)

    async def _asked(
        self, asked: Asked, prompt: str, most: int | None, seeds: list[int], session: str | None,
        live: Live | None, tool: Tool | None,
    ) -> tuple[Answerer, Sampling, list[Future[Completion]]]:  # fmt: skip
        """Who answers, how it samples, and what it will answer."""
        asked.require_known()
        sampling = asked.sampling(self.deployed.experiment.deploy, most)
        for _ in range(TRIES):
            index = self.deployed.chosen(asked.model, session)
            answerer = self.deployed.at_work(index)
            if answerer is None:  # to be loaded, which takes seconds
                answerer = await self._loaded(index, asked.model)
            heard = None if live is None else [live.heard(one) for one in range(len(seeds))]
            ask = partial(answerer.ask, prompt, sampling, seeds, heard, tool)
            futures = await _read(prompt, ask)
            if futures is not None:
                return answerer, sampling, futures
        raise ComponentFailure(
            "the generation is being replaced by a newer one; send the request again"
        )

    async def _loaded(self, generation: int, model: str) -> Answerer:
        """A generation at work, or the deployed one for it where nobody asked for it by its number.
        Raises ComponentFailure if it cannot be loaded, which is no fault of who asked.
        """
        try:
            return await asyncio.to_thread(self.deployed.of, generation)
        except Exception as error:  # a place or an address is in what some say
            sys.stderr.write(f"generation {generation} cannot be loaded: {error}\n")
            instead = self.deployed.at_work(self.deployed.current)
            if "@" not in model and instead is not None:
                return instead
            told = f"generation {generation} cannot be loaded; the server's log says why"
            raise ComponentFailure(told) from error

    async def _tool(self, task: tuple[str, str] | None, written: str) -> Tool | None:
        """The tool for a prompt of this format that holds a task; None where it holds none, or the
        experiment has no tool.
        """
        if task is None or not self.deployed.experiment.deploy.max_tool_calls:
            return None
        checker = await asyncio.to_thread(self._checker, *task)
        own = PROMPTS[self.deployed.experiment.model.prompt]
        return Tool(checker.task, reading_of(written, own))

    async def plan(self, asked: Planning) -> Planned:
        """Sample plans until the checker calls one valid, or there were `attempts`; a request that
        has room keeps it. Raises as `answer` does.
        """
        with self._room(1):
            return await self._plan(asked)

    async def _plan(self, asked: Planning) -> Planned:
        texts = await asyncio.to_thread(lambda: asked.texts)
        domain, problem = await asyncio.to_thread(self._memory.first_written, texts)
        checker = await asyncio.to_thread(self._checker, domain, problem)
        prompt = PROMPTS[self.deployed.experiment.model.prompt]
        text = await asyncio.to_thread(prompt.write, checker.task)
        given: list[Given] = []
        while True:
            again = {} if asked.seed is None else {"seed": (asked.seed + len(given)) % SEEDS}
            given += await self._answer(
                asked.model_copy(update=again), "plans", text, asked.max_tokens,
                (domain, problem), str(prompt), 1, None,
            )  # fmt: skip
            last = given[-1].completion
            found = await self._judge(domain, problem, last.text, last.finish_reason, prompt)
            plan, verdict, unjudged = found
            if unjudged or (verdict and verdict.valid) or len(given) == asked.attempts:
                return Planned(given, plan, verdict, unjudged)

    async def _judge(
        self, domain: str, problem: str, text: str, finish: str, prompt: PromptFormat
    ) -> tuple[Plan | None, Verdict | None, str]:
        """The plan in a text, the verdict on it, and why there is none, if so."""

        def judge() -> tuple[Plan | None, Verdict | None, str]:
            checker = self._checker(domain, problem)
            try:
                return (*verdict_of(checker, text, finish, prompt), "")
            except NotJudged as error:
                late = error.reason == OUT_OF_TIME
                told = LATE.format(checker.timeout) if late else error.reason
                return prompt.read(checker.task, text).plan, None, told

        # Plans of one task wait for each other, and those of others need not wait for them.
        turn = self._turns.setdefault((domain, problem), asyncio.Lock())
        seconds = self.deployed.experiment.judging.timeout
        try:
            await asyncio.wait_for(turn.acquire(), seconds)
        except TimeoutError:
            return None, None, LATE.format(seconds)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._judges, judge)
        finally:
            turn.release()

    def _checker(self, domain: str, problem: str) -> Checker:
        """The checker of a task, with the time that the experiment gives it for a plan."""
        return checker_for(domain, problem, timeout=self.deployed.experiment.judging.timeout)

    async def hear(self, said: Judged) -> Corrected | None:
        """Write down what a user says of an answer. The plan of a correction becomes a trace, which
        its user accepts, whatever the checker says of it; returns that. Raises InvalidInput where
        there is no such answer, or it was forgotten.
        """
        answer = await asyncio.to_thread(self._memory.answer, said.trace)
        if answer is None:
            raise InvalidInput(
                f"no answer has the trace {said.trace}; if it was given just now, try again in a "
                "few seconds"
            )
        # In the order in which they are said, even where the clock is set back.
        now = self._heard = max(datetime.now(UTC), self._heard + timedelta(microseconds=1))
        user = self._names.hashed(said.user)
        told = Told(
            trace=said.trace, accepted=said.feedback == "accept", given=now, score=said.score,
            comment=said.comment, user=user,
        )  # fmt: skip
        lines, wanted = list[Answered | Told]([told]), None
        if said.plan is not None:
            # The same one sent again is the same trace.
            nonce = content_hash(said.trace, said.plan, user or "")
            wanted = replace(
                answer, nonce=nonce, endpoint="correction", weights="", received=now,
                latency_ms=0.0, prompt_format=INGESTED_FORMAT, settings={}, text=said.plan,
                finish_reason="stop", policy="user", seed=0, reasoning_tokens=0,
                plan_tokens=len(said.plan.split()), logprob=None, sampling_logprob=None, user=user,
                corrects=said.trace, turn_characters=None, turn_tokens=None,
            )  # fmt: skip
            if await asyncio.to_thread(self._memory.is_forgotten, wanted.trace):
                wanted = replace(wanted, nonce=uuid4().hex)  # it is said anew
            lines += [wanted, Told(trace=wanted.trace, accepted=True, given=now, user=user)]
        await self._write_down(*lines, in_order=True)
        if wanted is None:
            return None
        self._memory.keep([wanted])
        if not wanted.domain or not wanted.problem:
            return Corrected(wanted.trace, None, NO_TASK)
        task = wanted.domain, wanted.problem
        try:
            found = await self._judge(*task, wanted.text, wanted.finish_reason, READING)
        except InvalidInput as error:  # its task is none any more, and it is written down already
            return Corrected(wanted.trace, None, str(error))
        return Corrected(wanted.trace, *found[1:])


async def _read(prompt: str, call: Callable[[], T]) -> T:
    """The result of a call that counts a prompt's tokens, which takes seconds for a long one."""
    return call() if len(prompt) < LONG else await asyncio.to_thread(call)


def _since(begun: float) -> float:
    """Milliseconds since then."""
    return round(1e3 * (time.perf_counter() - begun), 3)


def _seed(nonce: str) -> int:
    return int.from_bytes(blake2b(nonce.encode(), digest_size=8).digest(), "big") >> 1
