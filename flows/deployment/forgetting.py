"""Erases what a user sent and was answered, and says which generations learned from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from flows.deployment.loading import UNREADABLE, load_requests, requests_folder
from flows.deployment.log import OPEN, complete_segments
from planners.errors import InvalidInput
from planners.records import content_hash
from warehouse.findings import Forgotten
from warehouse.places.connect import Place
from warehouse.records import Feedback, Request, utc
from warehouse.store import Warehouse

BEGUN = "forgetting"
"""The file beside the folder of the log that is there from before rows are erased until the files
are written anew.
"""
UNFINISHED = (
    "a `posterity forget` was killed, and the files may still hold what it erased: give that "
    "command once more"
)
ROUNDS = 3
"""Times that it looks for answers that were given while it erased those before, at most."""
LONGEST = 10.0
"""Seconds to wait for a gateway to close what it is writing, at most."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many traces were erased; each generation that learned from any, or whose weights descend
    from one that did, with the number it learned; files that still hold what was erased; and
    whether a gateway is at work, which may be writing another answer of theirs.
    """

    traces: int
    tainted: list[tuple[str, int, int]]
    left: list[Path]
    at_work: bool


def forget(
    warehouse: Warehouse, *, user: Collection[str] = (), session: Collection[str] = (),
    trace: str | None = None,
) -> Erased:  # fmt: skip
    """Erase the traces of a user or session (as keyed hashes), or one of them by its id: texts,
    tokens, prompts, plans, comments, also on others' answers, and tasks that nobody else has.
    Corrections go with the answers that they correct.

    Raises InvalidInput where there is none. Killed, it may have left bytes of what it erased in the
    files, which `is_unfinished` tells; asked again, it erases these, whatever is still to be found.
    """
    named, said = _theirs(warehouse, user, session, trace)
    gone = warehouse.forgotten()
    if not named and not said:
        if gone:
            _write_anew(warehouse)
        raise InvalidInput(
            f"the answer {trace} was forgotten already"
            if trace in gone
            else "no answer here belongs to this user, session or trace, or it was forgotten "
            "already; for --user and --session, POSTERITY_USER_KEY must be the gateway's key"
        )
    erased = _erase(warehouse, named, said)
    for _ in range(ROUNDS):
        late, said = _theirs(warehouse, user, session, trace)
        if not late and not said:
            break
        more = _erase(warehouse, late, said)  # they were answered meanwhile, or spoke
        erased = replace(more, traces=erased.traces + more.traces)
    return erased


def _theirs(
    warehouse: Warehouse, user: Collection[str], session: Collection[str], trace: str | None
) -> tuple[list[str], list[str]]:
    """The traces that are theirs, sorted, and all that they gave feedback on."""
    _wait_for_the_last_answers(warehouse)
    load_requests(warehouse)
    gone = warehouse.forgotten()
    named = {
        one.trace
        for asked in ({"user_hash": [*user]}, {"session_hash": [*session]}, {"trace": trace})
        for one in warehouse.every(Request, **asked)
    } - gone
    more = named
    while more := {o.trace for o in warehouse.every(Request, corrects=[*more])} - named - gone:
        named |= more  # corrections can be corrected
    return sorted(named), [one.trace for one in warehouse.every(Feedback, user_hash=[*user])]


def is_unfinished(place: Place) -> bool:
    """Whether rows were erased here, and the files not written anew since."""
    return _begun(place).exists()


def _begun(place: Place) -> Path:
    return place.landing / BEGUN


def _write_anew(warehouse: Warehouse) -> None:
    warehouse.rewrite()
    _begun(warehouse.place).unlink(missing_ok=True)


def _wait_for_the_last_answers(warehouse: Warehouse) -> None:
    """A gateway closes a segment of its log after two seconds; then what is in it can be loaded."""
    opened, until = _being_written(warehouse), monotonic() + LONGEST
    while opened and monotonic() < until:
        complete_segments(requests_folder(warehouse.place))  # also those of a gateway that died
        opened = {path for path in opened if path.exists()}
        sleep(0.1)


def _being_written(warehouse: Warehouse) -> set[Path]:
    return set(requests_folder(warehouse.place).glob(f"*{OPEN}"))


def _erase(warehouse: Warehouse, named: Sequence[str], said: Sequence[str]) -> Erased:
    now = utc(datetime.now(UTC))
    found = [
        Forgotten(one.id, one.experiment, one.generation, one.task, content_hash(one.text), now)
        for id in named
        for one in warehouse.traces_beginning(id, 1)
    ]
    warehouse.place.landing.mkdir(parents=True, exist_ok=True)
    _begun(warehouse.place).touch()
    warehouse.forget(found, said)
    tainted = warehouse.frame("FROM tainted ORDER BY experiment, generation")
    _write_anew(warehouse)
    return Erased(
        len(found),
        [(row.experiment, row.generation, row.forgotten) for row in tainted.itertuples()],
        [*warehouse.place.backups(), *_unreadable(warehouse)],
        bool(_being_written(warehouse)),
    )


def _unreadable(warehouse: Warehouse) -> list[Path]:
    """Where lines are kept that could not be loaded, if there are any: they may be anybody's."""
    kept = requests_folder(warehouse.place).parent / UNREADABLE
    return [kept] if kept.exists() else []
