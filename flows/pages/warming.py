"""Reads ahead, in a thread of its own, what the pages will ask of a warehouse that was written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from flows.pages.console import catalogue
from flows.pages.experiments import figures_of, part
from flows.pages.source import Source
from flows.pages.tasks import heat_map, tasks_of
from planners.errors import PosterityError
from warehouse.records import NO_SETTINGS, Experiment

LOOK_EVERY = 2.0
"""Seconds between looks at whether something was written."""
NEWEST = 6
"""Experiments that are read ahead at most: those that were begun last."""


@contextmanager
def warm(source: Source) -> Iterator[None]:
    """While the block runs, read ahead whenever the warehouse was written."""
    stopped = threading.Event()

    def work() -> None:
        seen: object = None
        while not stopped.is_set():
            if (version := source.version()) != seen:
                seen = version
                with suppress(PosterityError):  # written just now: the pages will say it
                    read_ahead(source, stopped)
            stopped.wait(LOOK_EVERY)

    thread = threading.Thread(target=work, name="reads ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()


def read_ahead(source: Source, stopped: threading.Event) -> None:
    """Make what takes longest and is asked for first."""
    figures_of(source)
    catalogue(source)
    with source.reading() as warehouse:
        begun = [one.id for one in warehouse.every(Experiment) if one.config != NO_SETTINGS]
    for id in begun[-NEWEST:]:
        if stopped.is_set():
            return
        tasks_of(source, id)
        heat_map(source, id, "train")
        source.kept(("part", "coverage", id), partial(part, name="coverage", ids=[id]))
