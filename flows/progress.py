"""A run's progress for people: bars on a terminal, plain lines elsewhere, a line per generation."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flows.experiments.experiment import Experiment
from planners.errors import Busy, harmless
from warehouse.store import Warehouse

Advance = Callable[..., None]
"""Called as `advance(count, note)`; the note may be left out."""

LINE_EVERY = 60.0
"""Seconds between lines about the same work, without a terminal."""
WRITE_EVERY = 1.0
"""Seconds between two writes of the file that other processes read."""
PROGRESS = "progress"
"""How the names of these files begin."""
LOOK_EVERY = 2.0
"""Seconds between looks at whether a warehouse is free."""
LINE = 120
"""Columns of the output without a terminal."""
HEADINGS = (
    ("generation", "generation"),
    ("coverage", "coverage"),
    ("unanimous", "unanimous@{samples}"),
    ("heldout", "held-out"),
    ("larger", "larger"),
    ("longest", "longest plan"),
    ("new_solved", "new tasks solved"),
)


class _Console(Console):
    """A console whose reader may go away: a run goes on, and its answer stays what it is."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Watch:
    """Shows a run's progress; with `quiet`, nothing at all."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or _Console(quiet=quiet)
        self._file: ProgressFile | None = None
        if not self.console.is_terminal:
            self.console.width = LINE

    def say(self, text: str, heading: str = "") -> None:
        """Print a line, which may hold what a model wrote: no markup in it counts."""
        self.console.print(Text.assemble((heading, "bold"), harmless(text)), soft_wrap=True)

    @contextmanager
    def telling(self, folder: Path, experiment: str) -> Iterator[None]:
        """While the block runs, keep its progress in a file of this folder, for other processes."""
        self._file = ProgressFile(folder / f"{PROGRESS}-{experiment}.json", experiment)
        try:
            yield
        finally:
            self._file.path.unlink(missing_ok=True)
            self._file = None

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Show a progress bar while the block runs; without a terminal, one line per minute."""
        with self._shown(label, total) as advance:
            if (told := self._file) is None:
                yield advance
                return
            told.begin(label, total)

            def both(count: int, note: str = "") -> None:
                advance(count, note)
                told.advance(count, note)

            yield both

    @contextmanager
    def _shown(self, label: str, total: int) -> Iterator[Advance]:
        if not self.console.is_terminal:
            yield self._lines(label, total)
            return
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TextColumn("{task.completed:>6}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with rich_progress.Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(label, total=total, note="")
            yield lambda count, note="": progress.update(task, advance=count, note=note)

    def _lines(self, label: str, total: int) -> Advance:
        done, said = 0, time.monotonic()

        def advance(count: int, note: str = "") -> None:
            nonlocal done, said
            done += count
            if time.monotonic() - said > LINE_EVERY:
                said = time.monotonic()
                self.say(f"{label}: {done} of {total}{', ' if note else ''}{note}")

        return advance

    def generation(self, warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
        """Print a generation's figures on one line."""
        if self.console.quiet:
            return
        line = line_of(warehouse, experiment, generation)
        self.say(f": {line}", heading=f"generation {generation}")


def line_of(warehouse: Warehouse, experiment: Experiment, generation: int) -> str:
    """A generation's figures on one line."""
    for one in summary(warehouse, experiment.id):
        if one.generation == generation:
            return one.line(experiment)
    return "no trace of its evaluation is judged"


class ProgressFile:
    """A run's progress in a file, which is written whole and at most once a second."""

    def __init__(self, path: Path, experiment: str) -> None:
        self.path, self.experiment = path, experiment
        self._label, self._done, self._total, self._note = "", 0, 0, ""
        self._began = self._last = 0.0

    def begin(self, label: str, total: int) -> None:
        self._label, self._done, self._total, self._note = label, 0, total, ""
        self._began = time.time()
        self._write()

    def advance(self, count: int, note: str) -> None:
        self._done, self._note = self._done + count, note
        if time.monotonic() - self._last > WRITE_EVERY:
            self._write()

    def _write(self) -> None:
        self._last = time.monotonic()  # the clock may be put back
        now = Working(
            self.experiment, self._label, self._done, self._total, self._note, self._began,
            time.time(),
        )  # fmt: skip
        partial = self.path.with_suffix(".partial")
        with suppress(OSError):  # a run does not fail because nobody can watch it
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(asdict(now)), "utf-8")
            partial.replace(self.path)


@dataclass(frozen=True, slots=True)
class Working:
    """A run at the time `at`: `done` of `total` since the time `began`, in seconds
    since 1970.
    """

    experiment: str
    label: str
    done: int
    total: int
    note: str
    began: float
    at: float


def at_work(folder: Path) -> list[Working]:
    """The runs that keep their progress in this folder."""
    found = []
    for path in sorted(folder.glob(f"{PROGRESS}-*.json")):
        with suppress(OSError, ValueError, TypeError):  # a run that ended meanwhile, or no run
            found.append(Working(**json.loads(path.read_text("utf-8"))))
    return found


@dataclass(frozen=True, slots=True)
class Progress:
    """A generation's figures: shares of tasks solved, its longest valid plan in evaluation (in
    actions), and how many tasks it was the first to solve. A split without tasks has None.
    """

    generation: int
    coverage: float | None
    unanimous: float | None
    heldout: float | None
    larger: float | None
    longest: int
    new_solved: int

    def figures(self, samples: int) -> dict[str, str]:
        """The figures as text, by heading."""
        return {title.format(samples=samples): cell(getattr(self, key)) for key, title in HEADINGS}

    def line(self, experiment: Experiment) -> str:
        """The figures on one line, without the generation's number."""
        told = list(self.figures(experiment.evaluate.samples).items())[1:]
        return ", ".join(f"{heading} {value}" for heading, value in told)


def summary(warehouse: Warehouse, experiment: str) -> list[Progress]:
    """The figures of every generation that was evaluated, in order."""
    found = warehouse.query("progress_of", experiment=experiment)
    plain = found.astype(object).where(found.notna(), None)
    return [Progress(*row) for row in plain.itertuples(index=False, name=None)]


def cell(value: float | int | None) -> str:
    """A share as a percentage, a count as it is."""
    if value is None or value != value:  # a split without tasks; NaN in a frame
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def summary_table(warehouse: Warehouse, experiment: str, samples: int) -> Table:
    """A table with one row per generation of an experiment."""
    caption = (
        f"evaluation traces only, {samples} a task: of the training tasks, but for held-out and "
        "larger; longest plan: of all tasks"
    )
    table = Table(title=experiment, title_justify="left", caption=caption, caption_justify="left")
    for _, title in HEADINGS:
        table.add_column(title.format(samples=samples), justify="right")
    for row in summary(warehouse, experiment):
        table.add_row(*row.figures(samples).values())
    return table


def opened_when_free(place: Path | str, watch: Watch) -> Warehouse:
    """The warehouse to write to, as soon as nobody else has it open."""
    told = False
    while True:
        try:
            return Warehouse(place)
        except Busy as error:
            if not told:
                holder = str(error).partition(";")[0]
                watch.say(f"{holder}; waiting until it is free")
            told = True
            time.sleep(LOOK_EVERY)
