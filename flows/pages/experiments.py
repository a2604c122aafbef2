"""The pages of experiments and of their generations."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from flows.experiments.reading import recorded_settings
from flows.pages.links import Row, rows_of
from flows.pages.shapes import family_tree
from flows.pages.source import Source
from flows.progress import Progress
from flows.report.history import Runs
from flows.report.page import SECTIONS, runs_of
from flows.report.parts import Section
from planners.errors import InvalidInput, redacted
from warehouse.records import NO_SETTINGS, Experiment, Generation, Promotion
from warehouse.store import Warehouse

PARTS = {make.__name__: make for make in SECTIONS}
"""The report's parts by name."""
OF_ONE = [name for name in PARTS if name not in ("progress", "studies")]
"""Those that an experiment's page shows."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An experiment or source in the list of all, with its newest figures if it has any."""

    id: str
    name: str
    seed: int
    generations: int
    tasks: int
    first: Progress | None
    last: Progress | None


def figures_of(source: Source) -> dict[str, list[Progress]]:
    """The figures of every generation that was evaluated, by experiment."""
    return source.kept("figures", _figures)


def _figures(warehouse: Warehouse) -> dict[str, list[Progress]]:
    found = warehouse.query("report_progress").drop(columns="tasks")
    plain = found.astype(object).where(found.notna(), None)
    by: dict[str, list[Progress]] = {}
    for experiment, *rest in plain.itertuples(index=False, name=None):
        by.setdefault(experiment, []).append(Progress(*rest))
    return by


def listed(source: Source, chosen: Collection[str] | None = None) -> dict[str, list[Listed]]:
    """Experiments, all or the chosen ones, by the name of the group whose members differ by their
    seed alone; sources under "traces made elsewhere".
    """
    with source.reading() as warehouse:
        known = {row.experiment: row for row in warehouse.query("page_experiments").itertuples()}
        runs = runs_of(warehouse)
    figures = figures_of(source)

    def one(id: str) -> Listed:
        row, told = known[id], figures.get(id)
        return Listed(
            id, row.name, row.seed, row.generations, row.tasks,
            told[0] if told else None, told[-1] if told else None,
        )  # fmt: skip

    sources = [id for id, row in known.items() if row.config == NO_SETTINGS]
    groups = {
        name: [one(id) for id in ids if chosen is None or id in chosen]
        for name, ids in [*runs.items(), ("traces made elsewhere", sources)]
    }
    return {name: members for name, members in groups.items() if members}


def require_experiment(warehouse: Warehouse, id: str) -> Experiment:
    """An experiment or source. Raises InvalidInput where there is none."""
    found = warehouse.experiment(id)
    if found is None:
        raise InvalidInput(f"there is no experiment {id!r} in this warehouse")
    return found


Only = frozenset[str] | None
"""The experiments that are shown, None for all."""


def group_of(warehouse: Warehouse, id: str, only: Only = None) -> Runs:
    """The experiment's group: those that differ from it by their seed alone."""
    for name, ids in runs_of(warehouse).items():
        if id in ids:
            return {name: [one for one in ids if only is None or one in only]}
    return {}


def part(warehouse: Warehouse, name: str, ids: list[str], only: Only = None) -> list[Section]:
    """A part of the report about these experiments. Raises InvalidInput on an unknown part."""
    if name not in PARTS:
        raise InvalidInput(f"there is no part {name!r}; there are {', '.join(PARTS)}")
    if len(ids) == 1:
        runs = group_of(warehouse, ids[0], only)
        if name in ("audits", "lineage", "sources", "lengths", "forecasts"):
            runs = dict.fromkeys(runs, ids)  # each of one experiment alone
    else:
        runs = {id: [id] for id in ids if group_of(warehouse, id)}
    return list(PARTS[name](warehouse, runs))


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    """An experiment as its page shows it, besides figures."""

    experiment: Experiment
    figures: list[Progress]
    samples: int
    lineage: Markup | None
    group: list[str]
    settings: str


def experiment_page(source: Source, id: str) -> ExperimentPage:
    """An experiment's page. Raises InvalidInput where there is none."""
    with source.reading() as warehouse:
        found = require_experiment(warehouse, id)
        made, decisions = warehouse.generations(id), warehouse.promotions(id)
        told = warehouse.query("tainted_of", experiment=id)
        [group] = group_of(warehouse, id, source.only).values() or [[id]]
    tainted = set(told["generation"])
    config = recorded_settings(found.config)
    return ExperimentPage(
        found, figures_of(source).get(id, []), config.get("evaluate", {}).get("samples", 0),
        family_tree(made, decisions, tainted) if made else None, group,
        redacted(json.dumps(config, indent=2)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GenerationPage:
    """A generation as its page shows it."""

    experiment: str
    made: Generation
    training: dict[str, Any]
    decisions: list[Promotion]
    figures: Progress | None
    findings: list[Row]
    others: list[int]


def generation_frames(source: Source, id: str) -> list[pd.DataFrame]:
    """Of every generation of an experiment: what it learned from whom, why traces were kept or
    dropped, and the outcomes of what it wrote.
    """
    return [
        source.kept((name, id), lambda warehouse, name=name: warehouse.query(name, experiment=id))  # type: ignore[misc]
        for name in ("page_taught", "page_reasons", "page_outcomes")
    ]


def generation_rows(source: Source, id: str, index: int) -> list[list[Row]]:
    """The same of one generation, as rows."""
    return [_of(frame, index) for frame in generation_frames(source, id)]


def generation_page(source: Source, id: str, index: int) -> GenerationPage:
    """A generation's page. Raises InvalidInput where there is none."""
    with source.reading() as warehouse:
        require_experiment(warehouse, id)
        made, decisions = warehouse.generations(id), warehouse.promotions(id)
        findings = warehouse.query("page_findings", experiment=id)
    chosen = next((one for one in made if one.index == index), None)
    if chosen is None:
        raise InvalidInput(f"{id} has no generation {index}")
    figures = figures_of(source).get(id, [])
    return GenerationPage(
        id, chosen, json.loads(chosen.training or "{}"),
        [one for one in decisions if one.generation == index],
        next((one for one in figures if one.generation == index), None),
        _of(findings, index), [one.index for one in made],
    )  # fmt: skip


def _of(frame: pd.DataFrame, generation: int) -> list[Row]:
    return rows_of(frame[frame["generation"] == generation].drop(columns="generation"))
