"""`posterity report`: one page about a warehouse, with the SQL of every figure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import comb
from pathlib import Path

import pandas as pd

from flows.experiments.reading import recorded_settings
from flows.generations.identity import CODE_VERSION
from flows.progress import HEADINGS, cell
from flows.report.audit_page import audit_sections
from flows.report.figures import (
    PALETTE,
    below,
    beside,
    by_generation,
    drawing,
    heat,
    lines,
    percent,
    stacked,
    whole_generations,
)  # fmt: skip
from flows.report.history import Runs, forecasts, lineage, losses, promotions, settings
from flows.report.parts import Section, first_of
from flows.report.studies import studies
from flows.report.users import users
from planners.errors import InvalidInput
from planners.records import Outcome
from warehouse.reading import query_sql
from warehouse.records import NO_SETTINGS, Experiment
from warehouse.store import Warehouse

SPLITS = {"train": "deployed tasks", "heldout": "held-out tasks", "larger": "larger than trained"}
MEASURES = {"coverage": "-", "unanimous": "--", "pass_at_1": ":"}
"""Measures in the figure of coverage, and the line style of each."""
OUTCOMES = [outcome.value for outcome in Outcome]
"""Outcomes in the order of their colours."""


def report(warehouse: Warehouse, out: Path) -> int:
    """Write the page, whole or not at all; return its number of sections.

    Raises InvalidInput where nothing is evaluated yet, or the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader

    if out.is_dir():
        raise InvalidInput(
            f"the report cannot be written to {out}: it is a folder; name a file, as in --out "
            f"{out / 'report.html'}"
        )
    if out.is_file() and not _is_page(out):
        raise InvalidInput(
            f"the report would take the place of {out}, which is no page; name another file with "
            "--out"
        )
    runs = runs_of(warehouse)
    sections = [section for make in SECTIONS for section in make(warehouse, runs)]
    if not sections:
        raise InvalidInput(
            f"nothing in {warehouse.place} is evaluated yet; `posterity run` comes first"
        )
    environment = Environment(loader=PackageLoader("flows.report", "."), autoescape=True)
    page = environment.get_template("report.html").render(
        title=", ".join(runs), place=warehouse.place, version=CODE_VERSION, sections=sections,
        written=warehouse.place.written,
    )  # fmt: skip
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, "utf-8")
        partial.replace(out)
    except OSError as error:
        with suppress(OSError):  # as where the folder is none
            partial.unlink(missing_ok=True)
        raise InvalidInput(
            f"the report cannot be written to {out}: {error.strerror}; name another with --out"
        ) from error
    return len(sections)


def runs_of(warehouse: Warehouse) -> Runs:
    """The experiments of a warehouse, grouped where they differ only in their seed."""
    begun = [one for one in warehouse.every(Experiment) if one.config != NO_SETTINGS]
    alike: dict[tuple[str, str], list[str]] = {}
    for one in sorted(begun, key=lambda one: (one.name, one.seed, one.id)):
        settings = {
            name: value for name, value in recorded_settings(one.config).items() if name != "seed"
        }
        alike.setdefault((one.name, json.dumps(settings)), []).append(one.id)
    # Groups that share a name but not their settings go by their first experiment's id.
    names = [name for name, _ in alike]
    return {
        name if names.count(name) == 1 else ids[0]: ids for (name, _), ids in alike.items()
    }  # fmt: skip


def progress(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The table that ends a run, for all experiments together."""
    found = warehouse.query("report_progress")
    if found.empty:
        return
    shown = found[["experiment", *(key for key, _ in HEADINGS)]].copy()
    for key in shown.columns[1:]:
        shown[key] = found[key].map(cell)
    shown.columns = ["experiment", *(title.format(samples="n") for _, title in HEADINGS)]
    yield Section("Every generation", query_sql("report_progress"), table=shown)


def coverage(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Coverage by generation: the mean over seeds, and the range between them."""
    found = warehouse.query("report_coverage")
    seen = set(found["experiment"])  # a seed that is not evaluated yet hides no other
    runs = {name: own for name, ids in runs.items() if (own := [id for id in ids if id in seen])}
    found = found[found["experiment"].isin([id for ids in runs.values() for id in ids])]
    for ids in runs.values():  # a mean of only some seeds would mislead
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
                    told = chosen[["generation", measure, "tasks"]]
                    told = told.rename(columns={measure: "value"})
                    label = f"{name}: {measure.replace('_at_', '@')}"
                    lines(axes, told, label, PALETTE[number % len(PALETTE)], dashes)
            axes.set_title(SPLITS[split])
            whole_generations(axes)
        for axes in drawn.axes:  # last, since a limit of a shared axis holds for what comes later
            percent(axes)
        below(drawn, 3)
    words = [_from_to(found, name, ids) for name, ids in runs.items()]
    words.append(
        "Bands: the range of the seeds; with one seed, the 95% interval for the number of tasks."
    )
    yield Section(
        "Coverage by generation", query_sql("report_coverage"), [w for w in words if w], drawn.svg
    )


def _is_page(file: Path) -> bool:
    """Whether a file is a page, as a report of before is, or empty."""
    try:
        with file.open("rb") as stream:
            begins = stream.read(200).lstrip().lower()
    except OSError:
        return False
    return not begins or begins.startswith((b"<!doctype html", b"<html"))


def attempts(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """pass@k: the chance that one of k samples solves a training task."""
    found = warehouse.query("report_pass_at_k")
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if told.empty or told["samples"].max() < 2:
            continue
        with drawing(f"attempts {name}") as drawn:
            axes = drawn.axes[0]
            for number, (generation, rows) in enumerate(told.groupby("generation")):
                # Of tasks with as many judged samples, if most have: one that is judged in part
                # cuts no curve.
                most, every = int(rows["samples"].max()), rows["tasks"].sum()
                of = {k: rows[rows["samples"] >= k] for k in range(1, most + 1)}
                ks = [k for k, enough in of.items() if 2 * enough["tasks"].sum() > every]
                shares = [pass_at(k, of[k]) for k in ks]
                colour = PALETTE[number % len(PALETTE)]
                axes.plot(ks, shares, "o-", color=colour, label=f"generation {generation}")
            axes.set_xticks(range(1, int(told["samples"].max()) + 1))
            axes.set_xlabel("k, samples of a task")
            axes.set_ylabel("pass@k")
            percent(axes)
            beside(axes)
        yield Section(f"{name}: pass@k", query_sql("report_pass_at_k"), figure=drawn.svg)


def pass_at(k: int, rows: pd.DataFrame) -> float:
    """The unbiased estimate of pass@k (Chen et al. 2021, arXiv 2107.03374, equation 1).

    `rows` has how many `tasks` have `valid` ones among so many `samples`.
    """
    missed = [comb(n - c, k) / comb(n, k) for n, c in rows[["samples", "valid"]].to_numpy()]
    return float(((1 - pd.Series(missed, rows.index)) * rows["tasks"]).sum() / rows["tasks"].sum())


def _from_to(found: pd.DataFrame, name: str, ids: list[str]) -> str:
    """A sentence on the first generation and the last, in means over seeds; empty if none."""
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


GRADES = ("horizon", "size")


def grades(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Coverage of deployed tasks by horizon and by size."""
    frames = {by: warehouse.query(f"report_by_{by}") for by in GRADES}
    for name, ids in runs.items():
        told = {by: frame[frame["experiment"].isin(ids)] for by, frame in frames.items()}
        told = {by: frame for by, frame in told.items() if len(frame)}
        if not told:
            continue
        with drawing(f"grades {name}", len(told), height=3.6) as drawn:
            for axes, (by, frame) in zip(drawn.axes, told.items(), strict=True):
                sums = frame.groupby([by, "generation"])[["solved", "tasks"]].sum()
                heat(axes, (sums["solved"] / sums["tasks"]).unstack(), f"coverage by {by}", by)
        yield Section(
            f"{name}: what is solved",
            "\n\n".join(query_sql(f"report_by_{by}") for by in GRADES),
            figure=drawn.svg,
        )


def lengths(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The lengths of valid plans, and the longest plan of each generation."""
    found, longest = warehouse.query("report_lengths"), warehouse.query("report_longest")
    texts = warehouse.query("report_texts")
    for name, ids in runs.items():
        id = first_of(found, ids)
        boxes = {
            "actions of valid plans": found[found["experiment"] == id],
            "tokens of completions": texts[texts["experiment"] == id],
        }
        if boxes["actions of valid plans"].empty:
            continue
        with drawing(f"lengths {name}", 2) as drawn:
            for axes, (label, frame) in zip(drawn.axes, boxes.items(), strict=True):
                by_generation(axes, frame.set_index("generation").drop(columns="experiment"))
                whole_generations(axes)
                axes.set_ylabel(label)
        folded = [
            (f"The longest valid plan of generation {row.generation}: {row.plan_length} actions "
             f"({row.domain}, size {row.size})", row.text)
            for row in longest[longest["experiment"] == id].itertuples()
        ]  # fmt: skip
        words = [f"Of {id}. Boxes hold the middle half, whiskers all of it."]
        sql = "\n\n".join(map(query_sql, ("report_lengths", "report_texts", "report_longest")))
        yield Section(f"{name}: length of plans and texts", sql, words, drawn.svg, folded=folded)


def reasoning(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Mean reasoning tokens by generation, for models that reason before they plan."""
    found = warehouse.query("report_reasoning")
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if told.empty or told["tokens"].max() < 1:  # a stray mark is no reasoning
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
            beside(axes)
        yield Section(f"{name}: reasoning tokens", query_sql("report_reasoning"), figure=drawn.svg)


def outcomes(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The share of each outcome among the traces of a generation."""
    found = warehouse.query("report_verdicts")
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if told.empty:
            continue
        table = told.pivot_table("traces", "generation", "outcome", "sum", fill_value=0)
        shares = table.div(table.sum(axis=1), axis=0)
        with drawing(f"outcomes {name}") as drawn:
            stacked(drawn.axes[0], shares[[o for o in OUTCOMES if o in shares]], order=OUTCOMES)
            whole_generations(drawn.axes[0])
            percent(drawn.axes[0])
        yield Section(f"{name}: verdicts", query_sql("report_verdicts"), figure=drawn.svg)


def sources(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """How many traces each generation learned, by the generation that wrote them."""
    found = warehouse.query("report_sources")
    for name, ids in runs.items():
        id = first_of(found, ids)
        told = found[found["experiment"] == id]
        if told.empty:
            continue
        table = told.pivot_table("traces", "generation", "from_generation", "sum", fill_value=0)
        names: dict[object, str] = {c: f"by generation {c}" for c in table.columns}
        names[-1] = "made elsewhere"
        with drawing(f"sources {name}", 2) as drawn:
            learned, stays = drawn.axes
            for number, column in enumerate(table.columns):
                kept = table.loc[table.index > column, column]
                kept = kept[kept.cumsum() > 0]  # from when the first of them was learned
                share = kept / kept.cummax()  # answers of users may come later
                colour = PALETTE[number % len(PALETTE)]
                stays.plot(share.index, share, "o-", color=colour, markersize=3.5)
            stays.set_title("still learned, of those learned first")
            learned.set_title("traces learned")
            for axes in drawn.axes:
                whole_generations(axes)
            percent(stays)
            stacked(learned, table, names, legend=False)
            below(drawn, 4)
        title = f"{name}: what was curated from which generation, and how long it stays"
        yield Section(title, query_sql("report_sources"), [f"Of {id}."], drawn.svg)


def audits(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The sections of every experiment that was audited."""
    for ids in runs.values():
        for experiment in ids:
            yield from audit_sections(warehouse, experiment)


SECTIONS: tuple[Callable[[Warehouse, Runs], Iterator[Section]], ...] = (
    coverage, progress, studies, attempts, users, grades, lengths, reasoning, outcomes, sources,
    losses, lineage, promotions, forecasts, settings, audits,
)  # fmt: skip
