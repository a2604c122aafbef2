"""The parts of an audit side by side, in processes of their own."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from flows.audit.generation import asked
from flows.audit.ledger import Audit
from flows.audit.questions import PARTS
from flows.experiments.experiment import Experiment
from flows.progress import Advance
from planners.errors import ComponentFailure
from planners.models.hardware import share_with
from planners.processes import end_with_parent
from warehouse.places.connect import Place
from warehouse.store import Warehouse


def side_by_side(
    place: Place, experiment: Experiment, indices: Sequence[int], processes: int, advance: Advance
) -> list[Audit]:
    """The findings of each part on each generation, in order. Raises what a question raises, and
    ComponentFailure if a process dies.
    """
    made = get_context("spawn")  # a forked copy of this process's threads would hang
    parts = range(len(PARTS))
    found: dict[tuple[int, int], Audit] = {}
    try:
        with ProcessPoolExecutor(processes, made, _begin, (processes,)) as pool:
            # Weights take longest, and late generations have most traces: begun last, they would be
            # waited for alone.
            order = [(index, part) for part in parts for index in indices][::-1]
            futures = {pool.submit(_ask, place, experiment, *one): one for one in order}
            for done in as_completed(futures):
                found[futures[done]] = done.result()
                advance(len(PARTS[futures[done][1]]))
    except BrokenProcessPool as error:
        raise ComponentFailure(
            "a process of the audit died, perhaps for want of memory; nothing was written: set "
            "model.threads=1 to ask one generation after the other"
        ) from error
    return [found[index, part] for index in indices for part in parts]


def _begin(processes: int) -> None:
    """Prepare a process: it ends silently with Ctrl-C, and with its parent whatever ends that."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the audit waits for its pool at Ctrl-C
    share_with(processes)


def _ask(place: Place, experiment: Experiment, index: int, part: int) -> Audit:
    with Warehouse(place, read_only=True) as warehouse:
        return asked(warehouse, experiment, index, PARTS[part])
