"""`posterity report`: one page that shows what a warehouse holds, with the SQL of every figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pandas as pd

from flows.generations.identity import CODE_VERSION, NO_SETTINGS
from flows.progress import HEADINGS, cell
from flows.report.audit_page import audit_sections
from flows.report.figures import (
    PALETTE,
    below,
    by_generation,
    drawing,
    heat,
    lines,
    percent,
    stacked,
    whole_generations,
)  # fmt: skip
from flows.report.section import Section
from planners.errors import InvalidInput
from warehouse.store import Warehouse

SPLITS = {"train": "deployed tasks", "heldout": "held-out tasks", "larger": "larger than trained"}
MEASURES = {"coverage": "-", "unanimous": "--", "pass_at_1": ":"}
"""What a figure of coverage shows, and how it is drawn."""


Runs = dict[str, list[str]]
"""Experiments that differ by their seed alone, under their common name."""


def report(warehouse: Warehouse, out: Path) -> int:
    """Write the page, whole or not at all; returns how many sections it has.

    Raises InvalidInput where nothing is evaluated yet, or the file cannot be written.
    """
    from jinja2 import Environment

    runs = runs_of(warehouse)
    sections = [section for make in SECTIONS for section in make(warehouse, runs)]
    if not sections:
        raise InvalidInput(
            f"nothing in {warehouse.place} is evaluated yet; `posterity run` comes first"
        )
    template = Environment(autoescape=True).from_string(
        files("flows.report").joinpath("report.html").read_text("utf-8")
    )
    page = template.render(
        title=", ".join(runs), place=warehouse.place, version=CODE_VERSION, sections=sections
    )
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, "utf-8")
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InvalidInput(
            f"the report cannot be written to {out}: {error.strerror}; name another with --out"
        ) from error
    return len(sections)


def runs_of(warehouse: Warehouse) -> Runs:
    """The experiments of a warehouse, seeds together."""
    found = warehouse.frame(
        "SELECT experiment, name, config FROM experiments WHERE config <> :nothing "
        "ORDER BY name, seed, experiment",
        nothing=NO_SETTINGS,
    )
    alike: dict[tuple[str, str], list[str]] = {}
    for row in found.itertuples():
        settings = json.loads(row.config)
        settings.pop("seed", None)
        alike.setdefault((row.name, json.dumps(settings)), []).append(row.experiment)
    names = [name for name, _ in alike]
    return {
        name if names.count(name) == 1 else ids[0]: ids for (name, _), ids in alike.items()
    }  # fmt: skip


PROGRESS = "SELECT * FROM progress ORDER BY experiment, generation"


def progress(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The figures of the last table of a run, for every experiment."""
    found = warehouse.frame(PROGRESS)
    if found.empty:
        return
    shown = found[["experiment", *(key for key, _ in HEADINGS)]].copy()
    for key in shown.columns[1:]:
        shown[key] = found[key].astype(object).map(cell)
    shown.columns = ["experiment", *(title.format(samples="n") for _, title in HEADINGS)]
    yield Section("Every generation", PROGRESS, table=shown)


COVERAGE = """SELECT experiment, generation, split,
    sum(solved) / sum(tasks) AS coverage,
    sum(unanimous) / sum(tasks) AS unanimous,
    sum(pass_at_1 * tasks) / sum(tasks) AS pass_at_1
FROM coverage
GROUP BY ALL
ORDER BY ALL"""


def coverage(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Coverage by generation, the mean over seeds and what lies between them."""
    found = warehouse.frame(COVERAGE)
    for ids in runs.values():  # what not all seeds have reached has no mean over seeds
        reached = found[found["experiment"].isin(ids)].groupby("generation")["experiment"].nunique()
        late = found["generation"].isin(reached.index[reached < len(ids)])
        found = found[~(found["experiment"].isin(ids) & late)]
    splits = [split for split in SPLITS if split in set(found["split"])]
    if not splits:
        return
    with drawing("coverage", len(splits), share=True) as drawn:
        for axes, split in zip(drawn.axes, splits, strict=True):
            for number, (name, ids) in enumerate(runs.items()):
                chosen = found[found["experiment"].isin(ids) & (found["split"] == split)]
                for measure, dashes in MEASURES.items():
                    told = chosen[["generation", measure]].rename(columns={measure: "value"})
                    label = f"{name}: {measure.replace('_at_', '@')}"
                    lines(axes, told, label, PALETTE[number % len(PALETTE)], dashes)
            axes.set_title(SPLITS[split])
            whole_generations(axes)
            percent(axes)
        below(drawn, 3)
    words = [_from_to(found, name, ids) for name, ids in runs.items()]
    yield Section("Coverage by generation", COVERAGE, [w for w in words if w], drawn.svg)


def _from_to(found: pd.DataFrame, name: str, ids: list[str]) -> str:
    """From the first generation to the last, the mean over seeds."""
    told = found[found["experiment"].isin(ids) & (found["split"] == "train")]
    if told.empty:
        return ""
    by = told.groupby("generation")[list(MEASURES)].mean()
    first, last = by.iloc[0], by.iloc[-1]
    seeds = f", mean of {len(ids)} seeds" if len(ids) > 1 else ""
    change = {m: f"{first[m]:.1%} to {last[m]:.1%}" for m in MEASURES}
    return (
        f"{name}{seeds}: from generation {by.index[0]} to {by.index[-1]}, coverage of deployed "
        f"tasks {change['coverage']}, unanimous {change['unanimous']}."
    )


def _graded(by: str, view: str) -> str:
    return f"""SELECT experiment, generation, {by}, sum(solved) AS solved, sum(tasks) AS tasks
FROM {view}
WHERE split = 'train' AND {by} IS NOT NULL
GROUP BY ALL
ORDER BY ALL"""


GRADES = {"horizon": _graded("horizon", "coverage_by_horizon"), "size": _graded("size", "coverage")}


def grades(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Coverage of deployed tasks by horizon and by size."""
    frames = {by: warehouse.frame(sql) for by, sql in GRADES.items()}
    for name, ids in runs.items():
        told = {by: frame[frame["experiment"].isin(ids)] for by, frame in frames.items()}
        told = {by: frame for by, frame in told.items() if len(frame)}
        if not told:
            continue
        with drawing(f"grades {name}", len(told), height=3.6) as drawn:
            for axes, (by, frame) in zip(drawn.axes, told.items(), strict=True):
                sums = frame.groupby([by, "generation"])[["solved", "tasks"]].sum()
                heat(axes, (sums["solved"] / sums["tasks"]).unstack(), f"coverage by {by}", by)
        yield Section(f"{name}: what is solved", "\n\n".join(GRADES.values()), figure=drawn.svg)


LENGTHS = """SELECT experiment, generation,
    min(plan_length) AS whislo,
    quantile_cont(plan_length, 0.25) AS q1,
    median(plan_length) AS med,
    quantile_cont(plan_length, 0.75) AS q3,
    max(plan_length) AS whishi
FROM stg_verdicts
WHERE purpose = 'evaluate' AND outcome = 'VALID'
GROUP BY ALL
ORDER BY ALL"""
LONGEST = """SELECT v.experiment, v.generation, v.plan_length, k.domain, k.size, k.horizon, t.text
FROM stg_verdicts AS v
JOIN traces AS t ON t.trace = v.trace
JOIN tasks AS k ON k.task = v.task
WHERE v.purpose = 'evaluate' AND v.outcome = 'VALID'
QUALIFY row_number() OVER (
    PARTITION BY v.experiment, v.generation ORDER BY v.plan_length DESC, v.trace
) = 1
ORDER BY ALL"""


def lengths(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """How long valid plans are, and the longest of each generation."""
    found, longest = warehouse.frame(LENGTHS), warehouse.frame(LONGEST)
    for name, ids in runs.items():
        boxes = found[found["experiment"] == ids[0]].set_index("generation")
        if boxes.empty:
            continue
        with drawing(f"lengths {name}") as drawn:
            by_generation(drawn.axes[0], boxes.drop(columns="experiment"))
            whole_generations(drawn.axes[0])
            drawn.axes[0].set_ylabel("actions of valid plans")
        folded = [
            (f"The longest valid plan of generation {row.generation}: {row.plan_length} actions "
             f"({row.domain}, size {row.size})", row.text)
            for row in longest[longest["experiment"] == ids[0]].itertuples()
        ]  # fmt: skip
        words = [f"Of {ids[0]}. Boxes hold the middle half, whiskers all of it."]
        sql = f"{LENGTHS}\n\n{LONGEST}"
        yield Section(f"{name}: plan length", sql, words, drawn.svg, folded=folded)


REASONING = """SELECT t.experiment, t.generation, v.outcome = 'VALID' AS valid,
    avg(t.reasoning_tokens) AS tokens
FROM traces AS t
JOIN stg_verdicts AS v ON v.trace = t.trace
WHERE t.purpose = 'evaluate'
GROUP BY ALL
ORDER BY ALL"""


def reasoning(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """How long models think before they plan, where any does."""
    found = warehouse.frame(REASONING)
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if not told["tokens"].any():
            continue
        with drawing(f"reasoning {name}") as drawn:
            axes = drawn.axes[0]
            for valid, label, colour, dashes in (
                (True, "valid plans", PALETTE[2], "-"),
                (False, "all others", PALETTE[1], "--"),
            ):
                chosen = told[told["valid"] == valid][["generation", "tokens"]]
                lines(axes, chosen.rename(columns={"tokens": "value"}), label, colour, dashes)
            whole_generations(axes)
            axes.set_ylim(bottom=0)
            axes.set_ylabel("reasoning tokens, mean")
            axes.legend()
        yield Section(f"{name}: reasoning tokens", REASONING, figure=drawn.svg)


VERDICTS = "SELECT experiment, generation, outcome, traces FROM verdicts ORDER BY ALL"
SOURCES = """SELECT experiment, generation, from_generation, count(*) AS traces
FROM curated
GROUP BY ALL
ORDER BY ALL"""


def outcomes(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """What became of every trace."""
    found = warehouse.frame(VERDICTS)
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if told.empty:
            continue
        table = told.pivot_table("traces", "generation", "outcome", "sum", fill_value=0)
        shares = table.div(table.sum(axis=1), axis=0)
        with drawing(f"outcomes {name}") as drawn:
            stacked(drawn.axes[0], shares[shares.mean().sort_values(ascending=False).index])
            whole_generations(drawn.axes[0])
            percent(drawn.axes[0])
        yield Section(f"{name}: verdicts", VERDICTS, figure=drawn.svg)


def sources(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Whose traces taught each generation."""
    found = warehouse.frame(SOURCES)
    for name, ids in runs.items():
        told = found[found["experiment"] == ids[0]]
        if told.empty:
            continue
        table = told.pivot_table("traces", "generation", "from_generation", "sum", fill_value=0)
        names: dict[object, str] = {c: f"by generation {c}" for c in table.columns}
        with drawing(f"sources {name}") as drawn:
            stacked(drawn.axes[0], table, {**names, -1: "made elsewhere"})
            whole_generations(drawn.axes[0])
            drawn.axes[0].set_ylabel("traces learned")
        title = f"{name}: what was curated from which generation"
        yield Section(title, SOURCES, [f"Of {ids[0]}."], drawn.svg)


def audits(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The audit's page, where there was one."""
    for ids in runs.values():
        for experiment in ids:
            yield from audit_sections(warehouse, experiment)


SECTIONS: tuple[Callable[[Warehouse, Runs], Iterator[Section]], ...] = (
    coverage, progress, grades, lengths, reasoning, outcomes, sources, audits,
)  # fmt: skip
