"""A run at work: what it is doing, as server-sent events. The run writes its progress beside the
warehouse; pages only read it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from flows.pages.source import LATE, Source
from flows.progress import Working, at_work

EVERY = 1.0
"""Seconds between looks."""


@dataclass(frozen=True, slots=True)
class News:
    """A run's progress in words."""

    working: Working
    rate: float
    left: float | None
    late: bool

    @property
    def told(self) -> str:
        """How fast it goes, and how long it will take."""
        if self.late:
            return f"no news for {time.time() - self.working.at:.0f} s; it may have stopped"
        speed = f"{self.rate:.1f} a second" if self.rate else "begun"
        left = "" if self.left is None else f", {_span(self.left)} left in this stage"
        note = f", {self.working.note}" if self.working.note else ""
        return f"{speed}{left}{note}"


def news(source: Source) -> list[News]:
    """The progress of the runs on a warehouse."""
    return [_news(one) for one in at_work(source.place.checkpoints)]


def _news(one: Working) -> News:
    seconds = one.at - one.began
    rate = one.done / seconds if seconds > 0 else 0.0
    left = (one.total - one.done) / rate if rate else None
    return News(one, rate, left, time.time() - one.at > LATE)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


async def events(source: Source) -> AsyncIterator[str]:
    """Server-sent events until the server stops: `work` where a run went on, `figures` where
    something was written.
    """
    seen, version = None, source.version()
    while not source.stopped.is_set():
        now = await asyncio.to_thread(news, source)
        told = [{**asdict(one.working), "told": one.told} for one in now]
        if told != seen:
            seen = told
            yield f"event: work\ndata: {json.dumps(told)}\n\n"
        if (found := source.version()) != version:
            version = found
            yield "event: figures\ndata: {}\n\n"
        await asyncio.sleep(EVERY)
