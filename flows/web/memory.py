"""The last answers and tasks of a gateway; older ones are looked up in the warehouse."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flows.deployment.answered import Answered, of_line
from flows.deployment.loading import TEXT
from flows.deployment.log import written_so_far
from planners.checking.checker import checker_for
from planners.domains import name_of
from planners.errors import Busy, InvalidInput, PosterityError
from planners.pddl import Task
from planners.pddl.printing import print_task
from planners.pddl.renaming import canonical
from warehouse.findings import Forgotten
from warehouse.records import Request
from warehouse.store import Warehouse

RECENT = 50_000_000
"""Bytes of answers that are remembered, about, for feedback on them before they are in the
warehouse.
"""
BESIDES = 1200
"""Bytes that an answer takes besides its texts."""
KNOWN = 512
"""Tasks of which it is remembered how they were first written."""
NAMELESS = "problem"
"""The name of every problem that a user sends."""
Texts = tuple[str, str]
"""The PDDL of a domain and a problem."""


class Memory:
    """The last answers, and the last tasks. `reading` opens the warehouse to be read; `log` is the
    folder of answers that are not loaded into it yet, another gateway's too, or a run has the file.
    """

    def __init__(self, reading: Callable[[], Warehouse], log: Path) -> None:
        self._reading, self._log = reading, log
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._recent: OrderedDict[str, Answered] = OrderedDict()
        self._characters = 0
        self._tasks: dict[str, Texts] = {}
        self.keep(_answers_in(log))

    def keep(self, lines: Iterable[Answered]) -> None:
        """Remember answers, and let go of the oldest."""
        for line in lines:
            kept = replace(line, token_ids=(), metadata=None)
            self._recent[line.trace] = kept
            self._characters += _length(kept)
            while self._characters > RECENT:
                self._characters -= _length(self._recent.popitem(last=False)[1])

    def answer(self, trace: str) -> Answered | None:
        """An answer that was given lately, that is in the warehouse already, or still in the log:
        of long ago, or another gateway's. Raises InvalidInput where it was forgotten.
        """
        recent = self._recent.get(trace)
        try:
            with self._reading() as store:
                if store.every(Forgotten, trace=trace):
                    raise InvalidInput(f"the answer {trace} was forgotten")
                found = recent or _stored(store, trace)
        except Busy:  # it was never published, and is being written
            if recent is None:
                raise
            return recent
        if found is None:
            with self._looking:  # one at a time: a log may be large
                found = next((one for one in _answers_in(self._log) if one.trace == trace), None)
        return found

    def is_forgotten(self, trace: str) -> bool:
        """Whether it was erased, as far as the warehouse says."""
        with suppress(Busy), self._reading() as store:
            return bool(store.every(Forgotten, trace=trace))
        return False

    def first_written(self, task: Texts) -> Texts:
        """A task as it was first written; a new one without comments and the problem's name, which
        are its writer's own. The order of objects and facts makes no other task, but prompts and
        what is said of a plan depend on it. Raises InvalidInput where it is no task.
        """
        read = checker_for(*task).task
        key, task = read.key, _impersonal(task[0], read)
        with self._lock:
            if (known := self._tasks.get(key)) is not None:
                return known
        with suppress(Busy), self._reading() as store:
            stored = store.task(key)
            if stored is not None and stored.pddl:
                task = stored.domain_pddl, stored.pddl
        with self._lock:  # another thread may have met it meanwhile
            found = self._tasks.setdefault(key, task)
            while len(self._tasks) > KNOWN:
                del self._tasks[next(iter(self._tasks))]
        return found


def _answers_in(log: Path) -> Iterator[Answered]:
    for line in written_so_far(log):
        with suppress(PosterityError):  # it is of another version
            if isinstance(read := of_line(line), Answered):
                yield read


def _impersonal(domain: str, task: Task) -> Texts:
    """The PDDL of a task, printed anew: in one order, so that every gateway writes it alike."""
    problem = replace(canonical(task.problem), name=NAMELESS)
    ordered = replace(task, problem=problem, values=tuple(sorted(task.values)))
    return domain if name_of(domain) else task.domain.text, print_task(ordered)


def _length(line: Answered) -> int:
    texts = (line.prompt, line.text, line.domain or "", line.problem or "")
    return BESIDES + sum(map(len, texts))


def _stored(store: Warehouse, trace: str) -> Answered | None:
    """An answer as the warehouse has it."""
    requests = store.every(Request, trace=trace)
    if not requests:
        return None
    [asked], [found] = requests, store.traces_beginning(trace, 1)
    task = store.task(found.task)
    pddl = (None, None) if task is None else (task.domain_pddl, task.pddl)
    domain, problem = (None, None) if pddl == TEXT else pddl
    return Answered(
        nonce=asked.nonce, endpoint="chat", experiment=found.experiment,
        generation=found.generation, weights=asked.weights_hash, received=asked.received_at,
        latency_ms=asked.latency_ms, prompt=asked.prompt, prompt_format=found.prompt_format,
        settings={}, text=found.text, finish_reason="stop", policy=found.policy,
        domain=domain, problem=problem,
        session=asked.session_hash,
    )  # fmt: skip
