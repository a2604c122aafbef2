"""Reading experiments: a preset or a TOML file, changed with `--set table.key=value`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from curation.curators import CURATORS
from curation.own import code_of, curator_named, rehearse
from flows.experiments.experiment import Experiment
from flows.experiments.tables import Tasks
from planners.domains.folder import read_folder
from planners.errors import InvalidInput, nearest
from planners.models.hub import is_on_hub
from planners.pddl import read_domain

DEEPEST = 8
"""Names in the path of a setting, at most."""
OF_A_FOLDER = {"fresh", "curriculum"}
"""Settings of tasks that may stand beside a folder of them; the others come from it."""
PRESETS = (
    "quickstart", "blocksworld", "rovers", "sokoban", "ten-domains", "control", "reinforce", "tiny",
    "deployed", "smollm2", "smollm2-control", "qwen3-0.6b", "paper", "validate",
)  # fmt: skip


def load_experiment(
    source: str, changes: list[str] | None = None, *settings: Mapping[str, object]
) -> Experiment:
    """An experiment from a preset's name or a TOML file, with `settings` laid over its tables one
    after the other, and then `table.key=value` changes. Raises InvalidInput with the path of the
    wrong setting.
    """
    content = _read(source)
    if "arms" in content:
        raise InvalidInput(f"{source} is a study: run it with `posterity study {source}`")
    for laid in settings:
        content = _merge(content, dict(laid))
    for change in changes or []:
        _apply(content, change)
    # A user's files become part of the settings by their hashes, so a change is a new experiment.
    _pin_folder(content, changes or [])
    _pin_curator(content)
    try:
        found = Experiment.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"experiment {source!r}: {explained(error)}") from error
    except RecursionError:
        raise InvalidInput(f"experiment {source!r}: its tables are too deep") from None
    _require_used(source, found)
    return found


def _require_used(source: str, experiment: Experiment) -> None:
    """Raise InvalidInput where a setting has no effect beside the others: it would make another
    experiment of the same. So would a trait that takes the place of one of ours.
    """
    from warehouse.pool import TRAITS

    if experiment.audit.traits and (taken := TRAITS.keys() & experiment.audit.traits.keys()):
        raise InvalidInput(
            f"experiment {source!r}: audit.traits.{min(taken)} is a trait of ours: name yours "
            "otherwise"
        )
    for name, beside in _unused(experiment):
        raise InvalidInput(
            f"experiment {source!r}: {name} changes nothing with {beside}: leave it out"
        )


def _unused(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Settings that nothing reads, each with the one beside it that leaves it unread."""
    curation, model = experiment.curation, experiment.model
    those = {curation.curator, curation.match or curation.curator}
    for name in ("error_rate", "taste"):
        read = any(":" in one or CURATORS[one].needs == name for one in those)
        if getattr(curation, name) is not None and not read:
            yield f"curation.{name}", f"the curator {curation.curator!r}"
    if model.seconds is not None and model.policy != "planner":
        yield "model.seconds", f"the policy {model.policy!r}"


def _pin_folder(content: dict[str, Any], changes: Sequence[str]) -> None:
    """If tasks come from a folder, put it and the hash of its contents in place of splits."""
    tasks = content.get("tasks")
    if isinstance(tasks, dict) and isinstance(folder := tasks.get("folder"), str):
        found = read_folder(Path(folder))
        domain = read_domain(found.domain).name
        given_apart = Tasks.model_fields.keys() - OF_A_FOLDER
        for change in changes:
            table, _, name = change.partition("=")[0].partition(".")
            if table == "tasks" and name.partition(".")[0] in given_apart - {"folder"}:
                raise InvalidInput(f"--set {change}: the tasks are those of the folder {folder}")
        others = {key: value for key, value in tasks.items() if key not in given_apart}
        content["tasks"] = {
            "folder": folder, "domain": domain, "contents": found.contents, **others
        }  # fmt: skip


def _pin_curator(content: dict[str, Any]) -> None:
    """If the curator is a user's function, add the hash of its file to the settings."""
    curation = content.get("curation")
    if isinstance(curation, dict) and isinstance(name := curation.get("curator"), str):
        curation.pop("code", None)
        if ":" in name:
            users = bool(curation.get("sources") or content.get("deployment"))
            rehearse(curator_named(name), users)
            curation["code"] = code_of(name)


def preset_text(name: str) -> str:
    """The TOML of a preset."""
    return files("flows.experiments").joinpath("presets", f"{name}.toml").read_text("utf-8")


def _read(source: str, depth: int = 0) -> dict[str, Any]:
    """The settings of a source, laid over those that it `extends`."""
    path = Path(source)
    if source in PRESETS:
        text, default_name = preset_text(source), source
    elif path.suffix == ".toml":
        text, default_name = _file_text(path), path.stem
    else:
        raise InvalidInput(
            f"unknown experiment {source!r}: it is neither a preset ({', '.join(PRESETS)}) nor "
            f"a .toml file{nearest(source, PRESETS)}"
        )
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"experiment file {source}: not TOML: {error}") from error
    parent = content.pop("extends", None)
    if parent is not None:
        if depth > 8 or not isinstance(parent, str):
            raise InvalidInput(
                f"experiment {source!r}: `extends` must name a preset or file, without a cycle"
            )
        inherited = _read(parent, depth + 1)
        inherited.pop("name", None)
        tasks = content.get("tasks")
        if isinstance(tasks, dict) and "domains" in tasks:  # which excludes an inherited domain
            inherited.pop("tasks", None)
        content = _merge(inherited, content)
    return {"name": default_name, **content}


def _file_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidInput(
            f"the experiment file {path} cannot be read: {error.strerror}; name another, or one of "
            f"{', '.join(PRESETS)}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the experiment file {path} is not UTF-8 text ({error})") from error


def recorded_settings(config: str) -> Mapping[str, Any]:
    """The settings of an experiment as the warehouse has them. Raises InvalidInput if they are not
    settings any more.
    """
    try:
        found = json.loads(config)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(
            f"an experiment's settings are {config[:40]!r}, no JSON object: the warehouse was "
            "changed by other means than Posterity, and `posterity verify` says where"
        )
    return found


def without_places(experiment: Experiment) -> dict[str, object]:
    """The settings for others to see: of folders on this machine, the last name alone."""
    content = json.loads(experiment.canonical())
    for table, name in (("model", "base"), ("tasks", "folder")):
        if place := content.get(table, {}).get(name):
            hub = name == "base" and is_on_hub(place)
            content[table][name] = place if hub or ":" in place else Path(place).name
    return dict(content)


def leaves(settings: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting in nested tables by its dotted name, as `--set` takes it."""
    if isinstance(settings, dict):
        for name, value in sorted(settings.items()):
            yield from leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, settings


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
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise InvalidInput(
            f"--set {change!r}: expected table.key=value, for example training.steps=200"
        )
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except (ValueError, RecursionError):  # a number of thousands of digits is one, too
        value = text.strip()
    table = content
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InvalidInput(f"--set {change!r}: {key!r} is a value, not a table")
    table[keys[-1]] = value


def _settings() -> list[str]:
    """Every setting by its dotted name."""
    schema = Experiment.model_json_schema()
    return list(_names(schema, "", schema["$defs"]))


def _names(table: dict[str, Any], path: str, tables: dict[str, Any]) -> Iterator[str]:
    for name, about in table.get("properties", {}).items():
        yield path + name
        for one in (about, *about.get("anyOf", ())):
            if "$ref" in one:
                yield from _names(tables[one["$ref"].rpartition("/")[2]], f"{path}{name}.", tables)


def explained(error: ValidationError) -> str:
    """The first five problems, each with its path and value."""
    lines = []
    for problem in error.errors()[:5]:
        path = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"unknown setting {path!r}{nearest(path, _settings())}")
        elif problem["type"] == "missing":
            lines.append(
                f"setting {path!r} is missing: give it, or begin with extends = 'quickstart'"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            value = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
            lines.append(f"{path}{value}: {message}" if path else message)
    return "; ".join(lines)
