"""An experiment: everything that determines a run, frozen, checked and hashed.

Read from a preset or a TOML file, changed with `--set table.key=value`. Unknown keys and mistyped
values are refused with their path.
"""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curation.curators import CURATORS
from planners.domains import DOMAINS
from planners.domains.folder import SPLITS, read_folder
from planners.errors import InvalidInput
from planners.pddl import read_domain
from planners.prompts import PROMPTS
from planners.records import Sampling, content_hash
from planners.referees import REFEREES

PRESETS = ("quickstart", "blocksworld", "control", "tiny")
Positive = Annotated[int, Field(gt=0)]
Range = Annotated[tuple[Positive, Positive], Field(strict=False)]
"""Lowest and highest, both included."""


def _one_of(value: str, known: Any, what: str) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(sorted(known))}")


class Table(BaseModel):
    """A table of the configuration: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Split(Table):
    """A set of tasks: how many, and the ranges their sizes and horizons are drawn from."""

    count: Positive
    sizes: Range
    horizons: Range

    @model_validator(mode="after")
    def _ordered(self) -> Split:
        for name in ("sizes", "horizons"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(
                    f"{name} runs from {low} to {high}: the first must not exceed the second"
                )
        return self


class Grades(Table):
    """What is generated of one domain. `train` is deployed and learned from; the others only
    measure.
    """

    train: Split | None = None
    heldout: Split | None = None
    larger: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """What is generated for each split."""
        found = {name: getattr(self, name) for name in SPLITS}
        return {name: split for name, split in found.items() if split is not None}

    @model_validator(mode="after")
    def _larger_is_larger(self) -> Grades:
        if self.train and self.larger and self.larger.sizes[0] <= self.train.sizes[1]:
            raise ValueError(
                f"larger.sizes must begin above the largest trained size, {self.train.sizes[1]}"
            )
        return self


class Tasks(Grades):
    """The tasks of a run: of one `domain` of ours, of several (`domains.NAME.train` and so on), or
    of a `folder` with a domain and problems (`planners.domains.folder`), whose `contents` are then
    part of the experiment; `domain` is what that file calls itself.
    """

    domain: str | None = None
    domains: dict[str, Grades] | None = None
    folder: str | None = None
    contents: str | None = None

    @property
    def grades(self) -> dict[str, Grades]:
        """What is generated of each domain."""
        return self.domains or {self.domain or "": self}

    @model_validator(mode="after")
    def _known(self) -> Tasks:
        if self.folder is not None:
            return self
        if self.domains and (self.domain is not None or self.splits):
            raise ValueError(
                "tasks are of one domain with its splits, or of domains.NAME, not both"
            )
        for domain, grades in self.grades.items():
            if not domain or grades.train is None:
                raise ValueError(
                    "name a domain and a train split, domains.NAME.train, or a folder with tasks "
                    "of your own"
                )
            _one_of(domain, DOMAINS, "domain")
        return self


class Model(Table):
    """What plans: the embedded base or a checkpoint folder, its prompt format, and how it is
    run.
    """

    base: str = "embedded"
    prompt: str = "compact"
    batch: Positive = 256
    threads: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _known(self) -> Model:
        _one_of(self.prompt, PROMPTS, "prompt")
        return self


class Drawing(Table):
    """How completions are drawn, and how many a task."""

    samples: Positive
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Positive = 128

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, self.samples, seed)


class Curation(Table):
    """What is kept. `match`: keep as many traces as the same experiment did under that curator;
    `error_rate` is for the curator noisy, `taste` (a word) for preference.
    """

    curator: str = "shortest"
    replay: Literal["all", "last"] | Positive = "all"
    match: str | None = None
    error_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    taste: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _known(self) -> Curation:
        for name in (self.curator, self.match or self.curator):
            _one_of(name, CURATORS, "curator")
            needs = CURATORS[name].needs
            if needs is not None and getattr(self, needs) is None:
                raise ValueError(f"curator {name!r} needs curation.{needs}")
        return self


class Judging(Table):
    """Second opinions: which referees see the first `traces` plans of each deployment."""

    referees: tuple[str, ...] = Field(default=(), strict=False)
    traces: Positive = 200

    @model_validator(mode="after")
    def _known(self) -> Judging:
        for name in self.referees:
            _one_of(name, REFEREES, "referee")
        return self


class Training(Table):
    """How the next generation is made. `rename` and `shuffle` augment objects and facts."""

    start: Literal["base", "parent"] = "base"
    steps: Positive = 300
    batch: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    rename: bool = True
    shuffle: bool = True


class Audit(Table):
    """What `posterity audit` asks besides: more `traits`, each a SQL expression over a trace."""

    traits: dict[str, str] = {}


class Experiment(Table):
    """One run. `generations` says how far it goes; it is no part of the identity."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    seed: Annotated[int, Field(ge=0)] = 0
    generations: Positive = 5
    tasks: Tasks
    model: Model = Model()
    deploy: Drawing
    evaluate: Drawing
    judging: Judging = Judging()
    curation: Curation = Curation()
    training: Training = Training()
    audit: Audit = Audit()

    @property
    def hash(self) -> str:
        """Hash of all that determines the run's contents: not its name, nor how far it goes."""
        return content_hash(self.canonical(), length=12)

    @property
    def id(self) -> str:
        """Name and hash: what the warehouse calls this experiment."""
        return f"{self.name}-{self.hash}"

    def canonical(self) -> str:
        """The configuration as canonical JSON, without name, number of generations, audit and what
        is not set: a setting that is new and off leaves older experiments their hash.
        """
        content = self.model_dump(
            mode="json", exclude={"name", "generations", "audit"}, exclude_none=True
        )
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    def twin(self) -> Experiment | None:
        """The experiment whose number of traces this one matches, None where it matches none."""
        if self.curation.match is None:
            return None
        curation = self.curation.model_copy(update={"curator": self.curation.match, "match": None})
        return self.model_copy(update={"curation": curation})


# ---------------------------------------------------------------- reading


def load_experiment(source: str, changes: list[str] | None = None) -> Experiment:
    """An experiment from a preset's name or a TOML file, with `table.key=value` changes."""
    content = _read(source)
    for change in changes or []:
        _apply(content, change)
    _pin_folder(content)
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"experiment {source!r}: {_explain(error)}") from error


def _pin_folder(content: dict[str, Any]) -> None:
    """Where tasks come from a folder: it takes the place of domain and splits, by its contents."""
    tasks = content.get("tasks")
    folder = tasks.get("folder") if isinstance(tasks, dict) else None
    if isinstance(folder, str):
        found = read_folder(Path(folder))
        domain = read_domain(found.domain).name
        content["tasks"] = {"folder": folder, "domain": domain, "contents": found.contents}


def preset_text(name: str) -> str:
    """The TOML of a preset."""
    return files("flows").joinpath("presets", f"{name}.toml").read_text("utf-8")


def _read(source: str, depth: int = 0) -> dict[str, Any]:
    """The TOML of a source, laid over the one that it `extends`."""
    path = Path(source)
    if source in PRESETS:
        text, default_name = preset_text(source), source
    elif path.suffix == ".toml":
        text, default_name = _file_text(path), path.stem
    else:
        raise InvalidInput(
            f"unknown experiment {source!r}: it is neither a preset ({', '.join(PRESETS)}) nor "
            "a .toml file"
        )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"experiment file {source}: not TOML: {error}") from error
    parent = content.pop("extends", None)
    if parent is not None:
        if depth > 8 or not isinstance(parent, str):
            raise InvalidInput(
                f"experiment {source!r}: `extends` must name a preset or file, and end somewhere"
            )
        inherited = _read(parent, depth + 1)
        inherited.pop("name", None)
        tasks = content.get("tasks")
        if isinstance(tasks, dict) and "domains" in tasks:
            inherited.pop("tasks", None)
        content = _merge(inherited, content)
    return {"name": default_name, **content}


def _file_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the experiment file {path} cannot be read: {error}") from error


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _apply(content: dict[str, Any], change: str) -> None:
    """Apply one `table.key=value`; the value is TOML, or a bare word."""
    path, equals, text = change.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise InvalidInput(
            f"--set {change!r}: expected table.key=value, for example training.steps=200"
        )
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = content
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InvalidInput(f"--set {change!r}: {key!r} is a value, not a table")
    table[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    """The first problems, each with its path and value."""
    lines = []
    for problem in error.errors()[:5]:
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown setting {path!r}")
        elif problem["type"] == "missing":
            lines.append(f"setting {path!r} is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(
                f"{path or 'settings'} = {problem['input']!r}: {message}" if path else message
            )
    return "; ".join(lines)
