"""Erases what a user sent and was answered, and says which generations learned from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.deployment.loading import load_requests
from planners.errors import InvalidInput
from planners.records import content_hash
from warehouse.findings import Forgotten
from warehouse.records import Request, utc
from warehouse.store import Warehouse


@dataclass(frozen=True, slots=True)
class Erased:
    """How many traces were erased; each generation that learned from any, or whose weights descend
    from one that did, with the number it learned; and files that still hold what was erased.
    """

    traces: int
    tainted: list[tuple[str, int, int]]
    left: list[Path]


def forget(
    warehouse: Warehouse, *, user: str | None = None, session: str | None = None,
    trace: str | None = None,
) -> Erased:  # fmt: skip
    """Erase the traces of a user or session (as a keyed hash), or one of them by its id: texts,
    tokens, prompts, plans, comments, and tasks that nobody else has. Corrections go with the
    answers that they correct.

    Raises InvalidInput where there is none.
    """
    load_requests(warehouse)
    asked = warehouse.every(Request)
    named = {
        one.trace
        for one in asked
        if (user is not None and one.user_hash == user)
        or (session is not None and one.session_hash == session)
        or one.trace == trace
    }
    named |= {one.trace for one in asked if one.corrects in named}
    if not named:
        raise InvalidInput(
            "no answer is theirs; users are known by the hash that POSTERITY_USER_KEY gives them, "
            "so it must be the key that the gateway had"
        )
    return _erase(warehouse, sorted(named))


def _erase(warehouse: Warehouse, named: Sequence[str]) -> Erased:
    now = utc(datetime.now(UTC))
    found = [
        Forgotten(one.id, one.experiment, one.generation, one.task, content_hash(one.text), now)
        for id in named
        for one in warehouse.traces_beginning(id, 1)
    ]
    warehouse.forget(found)
    tainted = warehouse.frame("FROM tainted ORDER BY experiment, generation")
    warehouse.rewrite()
    return Erased(
        len(found),
        [(row.experiment, row.generation, row.forgotten) for row in tainted.itertuples()],
        warehouse.place.backups(),
    )
