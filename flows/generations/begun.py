"""Finds the experiment that a schedule goes on with, and refuses settings that have changed."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from flows.experiments.experiment import Experiment
from planners.errors import InvalidInput
from warehouse import records
from warehouse.store import Warehouse


def resolved(warehouse: Warehouse, experiment: Experiment, begun: str | None) -> Experiment:
    """The experiment that a schedule goes on with: as given, or as begun under the id `begun`.

    Raises InvalidInput where the experiment has changed since it was begun.
    """
    if begun is not None:
        return as_begun(warehouse, experiment, begun)
    require_unchanged(warehouse, experiment)
    return experiment


def require_unchanged(warehouse: Warehouse, experiment: Experiment) -> None:
    """Raise InvalidInput, with the differences, where this name was begun with other settings only.

    A schedule goes on with what it began.
    """
    begun = {one.id: one for one in warehouse.every(records.Experiment, name=experiment.name)}
    if not begun or experiment.id in begun:
        return
    other = min(begun)
    changed = differences(begun[other].config, experiment.canonical())
    raise InvalidInput(
        f"{experiment.name} has changed since {other} was begun: {'; '.join(changed)}. Go on with "
        f"it as it was with --continue-as {other}, or begin a new experiment under another name, "
        f"for example with --set name={experiment.name}-2"
    )


def differences(before: str, after: str) -> list[str]:
    """How two configurations, JSON objects both, differ: a line per setting such as
    `training.steps: 300, now 400`.
    """
    old, new = _settings(json.loads(before)), _settings(json.loads(after))
    return [
        f"{name}: {old.get(name, 'null')}, now {new.get(name, 'null')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _settings(content: dict[str, Any], path: str = "") -> dict[str, str]:
    """Each setting in nested tables by its dotted name, as JSON."""
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= _settings(value, f"{path}{key}.")
        else:
            found[path + key] = json.dumps(value)
    return found


def as_begun(warehouse: Warehouse, experiment: Experiment, begun: str) -> Experiment:
    """The experiment as it was begun under the id `begun`. Settings that do not determine contents
    (number of generations, promotion, audit, servers) are those of `experiment`.

    Raises InvalidInput where none was begun, or the two do not go together.
    """
    recorded = warehouse.experiment(begun)
    if recorded is None:
        raise InvalidInput(
            f"{warehouse.place} has no experiment {begun}; `posterity status` names them"
        )
    content = {**experiment.besides(), **json.loads(recorded.config), "name": recorded.name}
    if experiment.model.server is not None and content["model"].get("policy") == "served":
        content["model"] = {**content["model"], "server": experiment.model.server.model_dump()}
    try:
        return Experiment.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise InvalidInput(
            f"{begun} cannot go on with what {experiment.name} asks for now: "
            f"{'; '.join(problem['msg'] for problem in error.errors())}"
        ) from error
