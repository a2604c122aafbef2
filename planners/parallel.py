"""Judging many tasks on all cores: chunks to worker processes, results in order, memory bounded.

A chunk is one task with its plans. At most a few chunks a worker are under way at any time. A
worker that dies (killed, out of memory) costs nothing: its chunks are judged again by a fresh pool,
and a chunk that kills its worker three times is named instead of being judged.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

from planners.checker import checker_for
from planners.errors import ComponentFailure
from planners.records import Plan, Verdict

AHEAD = 4
"""Chunks under way for each worker."""
TRIES = 3
"""Times a chunk may break its worker before it is given up."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A task, as text, and the plans to judge."""

    domain: str
    problem: str
    plans: Sequence[Plan]


def judge_chunk(chunk: Chunk) -> list[Verdict]:
    """The verdicts of one chunk, in order."""
    return checker_for(chunk.domain, chunk.problem).check_many(chunk.plans)


def judge_all(chunks: Iterable[Chunk], processes: int = 0) -> Iterator[list[Verdict]]:
    """The verdicts of each chunk, in order. `processes` 0: one a core; 1: in this process.

    Raises PddlError where a task cannot be read, ComponentFailure where a chunk keeps breaking
    its worker.
    """
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield from map(judge_chunk, chunks)
        return
    pool = _pool(processes)
    waiting: deque[_Waiting] = deque()
    source = iter(chunks)
    tries = 0
    try:
        while True:
            room = AHEAD * processes - len(waiting)
            waiting.extend(_Waiting(chunk) for chunk in islice(source, room))
            if not waiting:
                return
            try:
                for item in waiting:
                    item.future = item.future or pool.submit(judge_chunk, item.chunk)
                verdicts = waiting[0].future.result()  # type: ignore[union-attr]
            except BrokenProcessPool as error:
                tries += 1
                if tries == TRIES:
                    raise ComponentFailure(_given_up(waiting[0].chunk)) from error
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _pool(processes)
                waiting = deque(_Waiting(item.chunk) for item in waiting)
                continue
            waiting.popleft()
            tries = 0
            yield verdicts
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Waiting:
    """A chunk whose verdicts are still to come; without a future it is not submitted yet."""

    chunk: Chunk
    future: Future[list[Verdict]] | None = None


def _pool(processes: int) -> ProcessPoolExecutor:
    """Spawned, not forked: a forked child would share the warehouse's lock in silence."""
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def _given_up(chunk: Chunk) -> str:
    return (
        f"judging {len(chunk.plans)} plans of one task broke its worker process {TRIES} times; "
        f"they are not judged. The task begins {chunk.problem[:80]!r}; give the machine more "
        "memory, or judge it alone with `posterity check`"
    )
