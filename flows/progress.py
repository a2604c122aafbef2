"""What a person watches: bars on a terminal, plain lines elsewhere, one line a generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from flows.experiments.experiment import Experiment
from warehouse.store import Warehouse

Advance = Callable[..., None]
"""advance(how many, note)"""

LINE_EVERY = 60.0
"""Seconds between lines about the same work, where there is no terminal."""
LINE = 120
"""Columns of what is printed where there is no terminal."""
HEADINGS = (
    ("generation", "generation"),
    ("coverage", "coverage"),
    ("unanimous", "unanimous@{samples}"),
    ("heldout", "held-out"),
    ("larger", "larger"),
    ("longest", "longest plan"),
    ("new_solved", "new tasks solved"),
)


class Watch:
    """Shows a run. `quiet` shows nothing at all."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(quiet=quiet)
        if not self.console.is_terminal:
            self.console.width = LINE

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """A progress bar while the block runs; without a terminal a line a minute."""
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
        with Progress(*columns, console=self.console, transient=True) as progress:
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
        """One line: what this generation can do."""
        if self.console.quiet:
            return
        line = summary_line(summary(warehouse, experiment.id)[generation], experiment)
        self.say(f"[bold]generation {generation}[/]: {line}")


def summary(warehouse: Warehouse, experiment: str) -> list[dict[str, float]]:
    """One row a generation that was evaluated: the figures of `HEADINGS`."""
    return warehouse.frame(
        "SELECT * FROM progress WHERE experiment = :experiment ORDER BY generation",
        experiment=experiment,
    ).to_dict("records")


def figures(row: dict[str, float], samples: int) -> dict[str, str]:
    """A generation's figures as a person reads them, by their headings."""
    return {title.format(samples=samples): cell(row[key]) for key, title in HEADINGS}


def summary_line(row: dict[str, float], experiment: Experiment) -> str:
    """A generation's figures on one line, without its number."""
    told = list(figures(row, experiment.evaluate.samples).items())[1:]
    return ", ".join(f"{heading} {value}" for heading, value in told)


def cell(value: float | int) -> str:
    """Shares as percent, counts as they are."""
    if value is None or value != value:  # a split without tasks
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def summary_table(warehouse: Warehouse, experiment: str, samples: int) -> Table:
    """The generations of an experiment side by side."""
    table = Table(title=experiment, title_justify="left")
    for _, title in HEADINGS:
        table.add_column(title.format(samples=samples), justify="right")
    for row in summary(warehouse, experiment):
        table.add_row(*figures(row, samples).values())
    return table
