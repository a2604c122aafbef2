"""How far an experiment is, and the command that goes on, in one line."""

from __future__ import annotations

import json
import shlex

from flows.audit.known import the_one
from flows.commands.terminal import DEFAULT
from flows.deployment.loading import new_answers
from flows.experiments.experiment import Experiment
from flows.experiments.reading import PRESETS, load_experiment
from flows.generations.begun import differences
from flows.generations.lineage import BY_HAND, unfinished
from planners.errors import InvalidInput
from warehouse import records
from warehouse.places.file import SNAPSHOT
from warehouse.store import Warehouse

BESIDES = {
    "if-preferred": ", with the deployment.candidate that it had added, which nobody recorded",
    "if-audited": ", with the bounds of [audit] that it had added, which nobody recorded",
}
"""Settings that a way to promote needs, and that are no part of what an experiment is."""
MOST_CHANGES = 6
"""Settings that a command names; an experiment that differs in more is named by its id."""


def left_to_do(warehouse: Warehouse, experiment: records.Experiment) -> str:
    """The last generation evaluated, a notable decision, and the command that goes on."""
    reached = {generation for generation, _ in warehouse.marks(experiment.id, "judge")}
    decisions = warehouse.promotions(experiment.id)
    last = decisions[-1] if decisions else None
    command, aim = resuming(warehouse, experiment)
    begun = unfinished(warehouse, experiment.id)
    if begun and begun[-1] > aim > 0:  # nor is how far it goes
        command += f" --set generations={begun[-1]}"
    by_rule = [one.decided_by for one in decisions if one.decided_by != BY_HAND]
    if by_rule and by_rule[-1] != "always":  # it is no part of what the experiment is
        command += f" --set promote={by_rule[-1]}"
    besides = BESIDES.get(by_rule[-1], "") if by_rule else ""
    newest = max(reached, default=-1)
    done = f"generation {newest} is the last evaluated" if reached else "nothing evaluated yet"
    left = f"`{command}` resumes{besides}"
    if last is not None and last.promoted and not begun:
        done = f"generation {newest} is the last" + ", and deployed" * (newest == last.generation)
        left = f"`{command} --set generations=N` goes on to generation N{besides}"
        if aim > newest:
            left = f"`{command}` goes on to generation {aim}{besides}"
    done += _heard(warehouse, experiment, newest)
    # That a generation was promoted by rule is no news.
    if last is not None and (not last.promoted or last.decided_by == BY_HAND):
        verb = "deployed" if last.promoted else "not promoted"
        done += f"; generation {last.generation} is {verb}: {last.reason}"
    if last is not None and not last.promoted:  # nothing goes on by itself
        left = (
            f"`posterity promote {last.generation} {experiment.id}` deploys it anyway, then {left}"
        )
    return f"{done}; {left}"


def _heard(warehouse: Warehouse, experiment: records.Experiment, newest: int) -> str:
    """How many answers users were given that are not learned yet. For how many the next generation
    waits is no part of what an experiment is, and not recorded.
    """
    try:
        named = the_one(warehouse, experiment.id)
    except InvalidInput:  # its settings are of another version
        return ""
    if named.deployment is None or newest < 0 or unfinished(warehouse, experiment.id):
        return ""
    new = new_answers(warehouse, named, newest + 1)
    return f"; the next waits for deployment.fewest new answers to users, and {new} are there"


def resuming(warehouse: Warehouse, experiment: records.Experiment) -> tuple[str, int]:
    """The command that resumes an experiment, and the generation that it aims for, 0 if unknown.

    It has every setting that differs from the preset of this name, or from the quickstart. If these
    are many, or lead nowhere, the experiment is named by its id, beside the file that it was begun
    with if it is none of a preset: nobody recorded how far it goes.
    """
    known = experiment.name in PRESETS
    preset = load_experiment(experiment.name if known else "quickstart")
    aim = preset.generations
    changes = changes_to(preset, experiment)
    parts = ["posterity", "run", preset.name]
    if changes is None or len(changes) > MOST_CHANGES:
        file = preset.name if known else "FILE.toml"
        parts, changes = ["posterity", "run", file, "--continue-as", experiment.id], []
        aim = aim if known else 0
    for change in changes:
        parts += ["--set", change]
    if (place := str(warehouse.place).removesuffix(SNAPSHOT)) != DEFAULT:
        parts += ["--warehouse", place]
    return shlex.join(parts), aim


def changes_to(preset: Experiment, experiment: records.Experiment) -> list[str] | None:
    """The `--set` values that lead from a preset to an experiment; None if none do."""
    derived = {"curation.code"}  # it follows from the curator, and tasks from their folder
    if json.loads(experiment.config).get("tasks", {}).get("folder"):
        derived |= {"tasks.contents", "tasks.domain"}
    changes = [] if experiment.name == preset.name else [f"name={experiment.name}"]
    changes += [
        f"{one.name}={one.after}"
        for one in differences(preset.canonical(), experiment.config)
        if one.after is not None and one.name not in derived
    ]
    try:
        found = load_experiment(preset.name, changes)
    except InvalidInput:
        return None
    return changes if found.id == experiment.id else None


def ingested(warehouse: Warehouse, source: str) -> str:
    """How many traces a source brought, how many are valid, and what users said of them."""
    found = warehouse.query("ingested_summary", source=source)
    traces, valid, accepted, rejected = found.to_numpy()[0]
    return (
        f"{traces} ingested traces, {valid} valid; users accepted {accepted}, rejected {rejected}"
    )
