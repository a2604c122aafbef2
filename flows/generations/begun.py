"""Finds the experiment to go on with, and tells which settings have changed since it was begun."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from flows.experiments.experiment import Experiment
from flows.experiments.reading import leaves, recorded_settings
from planners.errors import InvalidInput, problem
from warehouse import records
from warehouse.store import Warehouse


def resolved(
    warehouse: Warehouse, experiment: Experiment, begun: str | None, changes: Sequence[str] = (),
    served: str | None = None,
) -> Experiment:  # fmt: skip
    """The experiment that a schedule goes on with: as given, or as begun under the id `begun`.

    Raises InvalidInput, with the differences, where this name was begun with other settings only,
    and where a schedule `served` another experiment than its file says now.
    """
    if begun is not None:
        return as_begun(warehouse, experiment, begun, changes)
    if served not in (None, experiment.id):
        recorded = warehouse.experiment(served)
        changed = [] if recorded is None else differences(recorded.config, experiment.canonical())
        told = "; ".join(map(str, changed)) or f"now they are those of {experiment.id}"
        raise InvalidInput(
            f"the settings have changed since {served} was served: {told}. Serve it again, as it "
            f"is now or with --continue-as {served}"
        )
    if (twin := near_twin(warehouse, experiment)) is None:
        return experiment
    raise InvalidInput(
        f"{experiment.name} has changed since {twin.id} was begun: {twin.told}. Go on with "
        f"it as it was with --continue-as {twin.id}, or begin a new experiment under another name, "
        f"for example with --set name={experiment.name}-2"
    )


@dataclass(frozen=True, slots=True)
class Twin:
    """An experiment of the same name that was begun with other settings, and how they differ."""

    id: str
    changed: list[Difference]

    @property
    def told(self) -> str:
        """The differences in one line."""
        return "; ".join(map(str, self.changed))


def near_twin(warehouse: Warehouse, experiment: Experiment) -> Twin | None:
    """The experiment of this name that is nearest to one that is new in the warehouse.

    None if the experiment itself was begun there, or none of its name was.
    """
    begun = {one.id: one for one in warehouse.every(records.Experiment, name=experiment.name)}
    if experiment.id in begun:
        return None
    now = experiment.canonical()
    twins = [Twin(id, differences(one.config, now)) for id, one in sorted(begun.items())]
    return min(twins, key=lambda twin: len(twin.changed), default=None)


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that two configurations have differently, as JSON; None where it is not set."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'not set'}, now {self.after or 'not set'}"


def differences(before: str, after: str) -> list[Difference]:
    """How two configurations, JSON objects both, differ."""
    old, new = (
        {name: json.dumps(value) for name, value in leaves(recorded_settings(text))}
        for text in (before, after)
    )
    return [
        Difference(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def as_begun(
    warehouse: Warehouse, experiment: Experiment, begun: str, changes: Sequence[str] = ()
) -> Experiment:
    """The experiment as it was begun under the id `begun`. Settings that do not determine contents
    (number of generations, promotion, audit, servers) are those of `experiment`.

    Raises InvalidInput where none was begun, the two do not go together, or one of the `changes`
    (each like training.steps=100) would change nothing.
    """
    old = warehouse.experiment(begun)
    if old is None:
        raise InvalidInput(
            f"{warehouse.place} has no experiment {begun}; `posterity status` names them"
        )
    content = {**experiment.besides(), **recorded_settings(old.config), "name": old.name}
    if experiment.deployment is not None and "deployment" in content:
        now = experiment.deployment.model_dump(exclude={"alone"})
        content["deployment"] = {**content["deployment"], **now}
    if experiment.model.server is not None and content["model"].get("policy") == "served":
        content["model"] = {**content["model"], "server": experiment.model.server.model_dump()}
    content["model"] = {**content["model"], "device": experiment.model.device}
    try:
        found = Experiment.model_validate_json(json.dumps(content))
    except ValidationError as error:
        problems = map(problem, error.errors())
        raise InvalidInput(
            f"{begun} cannot go on with what {experiment.name} asks for now: {'; '.join(problems)}"
        ) from error
    own, asked = (dict(leaves(one.model_dump(mode="json"))) for one in (found, experiment))
    names = [change.partition("=")[0].strip() for change in changes]
    lost = [
        name for name in names
        if any(own.get(leaf) != asked[leaf] for leaf in asked if f"{leaf}.".startswith(f"{name}."))
    ]  # fmt: skip
    if lost and lost != ["name"]:
        raise InvalidInput(
            f"{begun} goes on as it was begun, so --set {', '.join(lost)} would change nothing; "
            "leave it out, or begin a new experiment without --continue-as"
        )
    return found
