"""Artifacts for Prefect's pages: a run's progress, its generations, and where to look further."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from shlex import quote
from typing import Any
from uuid import UUID

from flows.experiments.experiment import Experiment
from flows.progress import Advance, Progress, Watch, summary
from warehouse.store import Warehouse

EVERY = 5.0
"""Seconds between updates of a progress artifact."""
PAGE = """\
# {id}

| | |
|---|---|
| pages | `posterity view --warehouse {warehouse}`, then http://127.0.0.1:8081/experiments/{id} |
| report | `posterity report --warehouse {warehouse}` |
| audit | `posterity audit --warehouse {warehouse}` |
| what is left to do | `posterity status --warehouse {warehouse}` |
| what generation {generation} learned | `posterity query --warehouse {warehouse} "FROM curated \
WHERE generation = {generation}"` |

![coverage by generation](data:image/png;base64,{picture})
"""


class Told(Watch):
    """Shows a run as another watch does, and sends the same to the Prefect server as artifacts.

    An artifact that the server does not take is left out: no run should fail over its own picture.
    """

    def __init__(self, watch: Watch, name: str) -> None:
        super().__init__(watch.console)
        self.name = key_of(name)

    def say(self, text: str, heading: str = "") -> None:
        """Print a line, and add it to the log of the run in Prefect's pages."""
        super().say(text, heading)
        _log(heading + text)

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """Show a bar, and a progress artifact that follows it."""
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        begun = time.monotonic()
        _log(f"{label}: {total} to do")
        with super().bar(label, total) as advance:
            artifact = _try(
                lambda: create_progress_artifact(
                    0.0, key=f"{self.name}-{key_of(label)}", description=label
                )
            )
            done, last, said = 0, "", time.monotonic()

            def follow(count: int, note: str = "") -> None:
                nonlocal done, last, said
                advance(count, note)
                done, last = done + count, note
                if artifact and total and (time.monotonic() - said > EVERY or done == total):
                    said = time.monotonic()
                    _try(lambda: update_progress_artifact(artifact, 100 * min(1, done / total)))

            yield follow
        rate = f", {done / seconds:.0f} a second" if (seconds := time.monotonic() - begun) else ""
        _log(f"{label}: {done} done in {seconds:.1f} s{rate}{last and ', '}{last}")

    def generation(self, warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
        """Print the generation's line; send a table of all so far, and a page with a figure."""
        from prefect.artifacts import create_markdown_artifact, create_table_artifact

        super().generation(warehouse, experiment, generation)
        rows = summary(warehouse, experiment.id)
        table = [row.figures(experiment.evaluate.samples) for row in rows]
        _try(lambda: create_table_artifact(table, f"{self.name}-generations", experiment.id))
        where = {
            "id": experiment.id,
            "warehouse": quote(str(warehouse.place)),
            "generation": generation,
        }
        _try(
            lambda: create_markdown_artifact(
                PAGE.format(picture=_plot(rows), **where), f"{self.name}-look-further"
            )
        )


def log_to_pages() -> None:
    """Let log lines of flows and tasks reach Prefect's server, and not the terminal as well; where
    the server does not answer they are lost.
    """
    logging.raiseExceptions = False  # Prefect would print each line that it could not send
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def name_run(run: UUID | str, name: str) -> None:
    """Name a flow run in Prefect's pages."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(run)), name=name)


def _log(line: str) -> None:
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    with suppress(MissingContextError):
        get_run_logger().info(line)


def key_of(label: str) -> str:
    """A label as the key of an artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _try(call: Callable[[], Any]) -> Any:
    with suppress(Exception):  # whatever the server, or the way to it, may raise
        return call()
    return None


def _plot(rows: list[Progress]) -> str:
    """Coverage by generation as a PNG, in base64."""
    import base64
    from io import BytesIO

    from matplotlib.figure import Figure

    from flows.report.figures import PALETTE, percent, whole_generations

    figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    generations = [row.generation for row in rows]
    keys = ("coverage", "unanimous", "heldout", "larger")
    for key, colour in zip(keys, PALETTE, strict=False):
        axes.plot(generations, [getattr(row, key) for row in rows], "o-", label=key, color=colour)
    whole_generations(axes)
    percent(axes)
    axes.legend()
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode()
