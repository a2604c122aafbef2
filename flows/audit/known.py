"""The experiments of a warehouse that this version knows, and what a check of rows has found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from flows.deployment.forgetting import UNFINISHED, is_unfinished
from flows.experiments.experiment import Experiment
from flows.experiments.reading import recorded_settings
from planners.errors import Busy, InvalidInput, PosterityError
from planners.records import content_hash
from warehouse import records
from warehouse.records import NO_SETTINGS
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement

SINCE_SCHEMA = ("redundant", "plan")
"""Fields that older verdicts lack."""


@dataclass(slots=True)
class Check:
    """The result of one check: how many rows were compared, how many could not be and `why`, how
    many have no verdict because the checker refused them, as it does again, and what disagrees.
    """

    name: str
    looked_at: int = 0
    skipped: int = 0
    why: str = "by another version"
    unjudged: int = 0
    wrong: list[str] = field(default_factory=list)

    def expect(self, same: bool, what: str) -> None:
        """Count one comparison, and note `what` is wrong unless it found the `same`."""
        self.looked_at += 1
        if not same:
            self.wrong.append(what)


@contextmanager
def told(check: Check, about: str = "") -> Iterator[None]:
    """Note what the block raises on a damaged warehouse as one more disagreement, and go on."""
    try:
        yield
    except Busy:
        raise
    except (PosterityError, LookupError, TypeError, ValueError, AssertionError,
            RecursionError) as error:  # fmt: skip
        kind = "" if isinstance(error, PosterityError) else f"{type(error).__name__}: "
        check.wrong.append(f"{about}could not be checked: {kind}{error}")


def differences(told: Judgement, again: Judgement) -> str:
    """The fields in which a verdict differs from that on the same trace judged again."""
    before, after = asdict(told), asdict(again)
    return "; ".join(
        f"{name} is {value!r}, judged again {after[name]!r}"
        for name, value in before.items()
        if value != after[name]
        and name != "superseded"
        and not (value is None and name in SINCE_SCHEMA)
    )


def forgotten(warehouse: Warehouse, check: Check) -> None:
    """Check that what was erased is out of the files too."""
    check.looked_at += len(warehouse.forgotten())
    if is_unfinished(warehouse.place):
        check.wrong.append(UNFINISHED)


def experiments(warehouse: Warehouse) -> tuple[list[Experiment], Check]:
    """The experiments whose settings this version knows, and a check of all of their hashes."""
    found, check = [], Check("experiments")
    for one in sorted(warehouse.every(records.Experiment), key=lambda one: one.id):
        if one.config == NO_SETTINGS:
            continue
        same = content_hash(one.config, length=12) == one.hash
        check.expect(
            same and one.id == f"{one.name}-{one.hash}",
            f"experiment {one.id}: its settings do not have the hash {one.hash}",
        )
        try:
            settings = {"name": one.name, "generations": 0, **recorded_settings(one.config)}
            experiment = Experiment.model_validate_json(json.dumps(settings))
        except (ValueError, InvalidInput):
            experiment = None
        if experiment is not None and experiment.id == one.id:
            found.append(experiment)
        else:
            check.skipped += 1  # settings of another version: its rows cannot be derived again
    return found, check


def chosen_from(
    warehouse: Warehouse, named: Experiment | str | None
) -> tuple[list[Experiment], int]:
    """The experiment that is named, by its settings or its id, or all of a warehouse, and its
    number of those by other versions.

    Raises InvalidInput if there is none, or the named one is missing.
    """
    known, check = experiments(warehouse)
    ids = {one.id: one for one in known}
    if named is None and not known:
        raise InvalidInput(f"{warehouse.place} holds no experiment; `posterity run` makes one")
    if named is None:
        return known, check.skipped
    id = named if isinstance(named, str) else named.id
    if id not in ids:
        there = ", ".join(ids)
        hint = f"it holds {there}: name one by its id" if there else "it holds none"
        raise InvalidInput(f"{id} is not in {warehouse.place}; {hint}, or run it")
    return [ids[id] if isinstance(named, str) else named], check.skipped


def the_one(warehouse: Warehouse, named: Experiment | str | None) -> Experiment:
    """The named experiment, or the only one of a warehouse. Raises InvalidInput where there is
    none, or more than one.
    """
    chosen, _ = chosen_from(warehouse, named)
    if len(chosen) > 1:
        names = ", ".join(one.id for one in chosen)
        raise InvalidInput(f"{warehouse.place} holds {names}; say which EXPERIMENT is meant")
    return chosen[0]
