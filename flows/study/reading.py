"""Reading a study: a TOML file of arms and seeds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from planners.errors import InvalidInput, problem

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
STUDIES = ("paper", "error", "taste", "shrinkage", "fresh", "crossing")
"""The studies that come with Posterity."""
SHARED = ("tasks", "evaluate", "generations")
"""Settings that all arms must share, or their figures cannot be compared."""
DEPLOYED: Any = {"tasks": {"fresh", "curriculum"}}
"""Those of them that decide what is put to work, and not what is measured."""


class StudyFile(BaseModel):
    """The file: arms lay their settings over `settings`, and those over what it `extends`."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    extends: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    settings: dict[str, Any] = {}
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]


@dataclass(frozen=True, slots=True)
class Run:
    """One arm at one seed. `position` is the arm's place; the first is what others differ from."""

    arm: str
    position: int
    experiment: Experiment


@dataclass(frozen=True, slots=True)
class Study:
    """A study: its name and its runs, seed by seed."""

    name: str
    runs: tuple[Run, ...]

    def chains(self) -> Iterator[list[Run]]:
        """Runs that need one warehouse: an arm, then the controls that keep as many traces as it
        did; and runs that learn each other's traces.
        """
        by_hash = {run.experiment.hash: run for run in self.runs}
        follows: dict[str, list[Run]] = {}
        for run in self.runs:
            first = _before(run.experiment)
            if first is not None and first.hash in by_hash:
                follows.setdefault(first.hash, []).append(run)
        later = {run.experiment.hash for runs in follows.values() for run in runs}
        for run in self.runs:
            if run.experiment.hash not in later:
                yield [run, *follows.get(run.experiment.hash, ())]


def _before(experiment: Experiment) -> Experiment | None:
    """The experiment in whose warehouse this one is run, after it; None where it has its own."""
    matched = experiment.matched()
    if matched is not None:
        return _before(matched) or matched
    first = min(experiment.crossed(), key=lambda other: other.seed, default=experiment)
    return first if first.seed < experiment.seed else None


def read_study(named: str) -> Study:
    """A study of ours by its name, or the one that a TOML file describes. Raises InvalidInput on
    wrong settings, before anything is run: also where two arms are the same, or cannot be compared.
    """
    if named not in STUDIES and not named.endswith(".toml"):
        raise InvalidInput(
            f"unknown study {named!r}: it is neither one of ours ({', '.join(STUDIES)}) nor a "
            ".toml file"
        )
    ours = Path(str(files("flows.study").joinpath("studies", f"{named}.toml")))
    path = ours if named in STUDIES else Path(named)
    try:
        told = StudyFile.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"the study {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise InvalidInput(f"the study {path}: {problem(error.errors()[0])}") from error
    if len(set(told.seeds)) < len(told.seeds):
        raise InvalidInput(f"the study {path}: a seed stands twice in {told.seeds}")
    runs = tuple(
        Run(arm, position, _experiment(path, told, arm, seed))
        for seed in told.seeds
        for position, arm in enumerate(told.arms)
    )
    _require_comparable(path, runs)
    return Study(told.name, runs)


def _experiment(path: Path, told: StudyFile, arm: str, seed: int) -> Experiment:
    # Runs go side by side, each with one thread, unless the study says otherwise.
    below = {"model": {"threads": 1}}
    own = {"name": f"{told.name}-{arm}", "seed": seed, "workers": None}
    if twice := sorted(own.keys() & {*told.settings, *told.arms[arm]}):
        raise InvalidInput(
            f"the study {path}, arm {arm!r}: {', '.join(twice)} of its runs follow from the study "
            "(`seeds`, the names of the arms, and --runner); leave them out"
        )
    try:
        return load_experiment(told.extends, None, below, told.settings, told.arms[arm], own)
    except InvalidInput as error:
        raise InvalidInput(f"the study {path}, arm {arm!r}: {error}") from error


def _require_comparable(path: Path, runs: tuple[Run, ...]) -> None:
    first, hashes = runs[0], dict[str, str]()
    measured = first.experiment.model_dump(include=set(SHARED), exclude=DEPLOYED)
    for run in runs:
        own = run.experiment.model_dump(include=set(SHARED), exclude=DEPLOYED)
        for name in SHARED:
            if own[name] != measured[name]:
                raise InvalidInput(
                    f"the study {path}: arms {first.arm!r} and {run.arm!r} differ in {name!r}, so "
                    f"that their figures cannot be compared; set {name} in [settings] for all"
                )
        if run.experiment.deployment is not None:
            raise InvalidInput(f"the study {path}: arm {run.arm!r} waits for users; leave it out")
        other = hashes.setdefault(run.experiment.hash, run.arm)
        if other != run.arm:
            raise InvalidInput(f"the study {path}: arms {other!r} and {run.arm!r} are the same")
