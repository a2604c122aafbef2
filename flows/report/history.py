"""The report's part on how generations came about: training, lineage, promotions, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from flows.experiments.reading import leaves, recorded_settings
from flows.report.figures import PALETTE, beside, drawing, lines, whole_generations
from flows.report.parts import Section, first_of
from warehouse.reading import query_sql
from warehouse.store import Warehouse

Runs = dict[str, list[str]]
"""Ids of experiments that differ only in their seed, under their common name."""
LOSSES = {
    "first_loss": "training, first tenth", "last_loss": "training, last tenth",
    "validation_loss_before": "held back, before", "validation_loss_after": "held back, after",
}  # fmt: skip
"""Facts of a training run that are drawn, and their labels."""


def losses(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The loss at the beginning and the end of each training run."""
    found = warehouse.query("report_lineage").dropna(subset="training")
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if told.empty:
            continue
        facts = pd.DataFrame([json.loads(text) for text in told["training"]], told.index)
        with drawing(f"losses {name}") as drawn:
            axes = drawn.axes[0]
            for colour, (fact, label) in zip(PALETTE, LOSSES.items(), strict=False):
                if fact in facts:
                    frame = told[["generation"]].assign(value=facts[fact])
                    lines(axes, frame, label, colour)
            whole_generations(axes)
            axes.set_ylim(bottom=0)
            axes.set_ylabel("loss, nats a token")
            beside(axes)
        yield Section(f"{name}: training loss", query_sql("report_lineage"), figure=drawn.svg)


def lineage(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Each generation's parent, weights, and how much it learned."""
    found = warehouse.query("report_lineage").drop(columns="training")
    for name, ids in runs.items():
        id = first_of(found, ids)
        told = found[found["experiment"] == id].drop(columns="experiment")
        shown = told.assign(
            parent=["-" if pd.isna(parent) else int(parent) for parent in told["parent"]]
        )
        words = [f"Of {id}. The start is whose weights training began with."]
        if told["tainted"].any():
            words.append("A tainted generation rests on traces that were forgotten since.")
        else:
            shown = shown.drop(columns="tainted")
        yield Section(f"{name}: lineage", query_sql("report_lineage"), words, table=shown)


def promotions(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Who decided what on each generation, and why."""
    found = warehouse.query("report_promotions")
    for name, ids in runs.items():
        told = found[found["experiment"].isin(ids)]
        if set(told["decided_by"]) - {"always"}:  # that every generation is deployed is no news
            yield Section(f"{name}: promotions", query_sql("report_promotions"), table=told)


def forecasts(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Coverage as it was forecast before each training, with its interval, and as it came."""
    found = warehouse.query("report_forecasts")
    for ids in runs.values():
        for id in ids:
            mine = found[found["experiment"] == id]
            told = mine[mine["trait"] == "coverage"]
            if told.empty:
                continue
            with drawing(f"forecasts {id}") as drawn:
                axes, across = drawn.axes[0], told["generation"]
                error = [told["predicted"] - told["low"], told["high"] - told["predicted"]]
                axes.errorbar(
                    across, told["predicted"], error, fmt="o", color=PALETTE[1], label="forecast"
                )
                axes.plot(across, told["actual"], "D-", color=PALETTE[0], label="came")
                whole_generations(axes)
                axes.set_ylabel("coverage")
                beside(axes)
            last, others = told.iloc[-1], mine[mine["trait"] != "coverage"]
            words = [
                f"Before generation {last['generation']} was trained, its coverage was forecast as "
                f"{last['predicted']:.1%} (90% interval {last['low']:.1%} to {last['high']:.1%}); "
                f"it came to {last['actual']:.1%}. Its parent's was {last['persistence']:.1%}.",
                f"{mine['inside'].mean():.0%} of {len(mine)} forecasts were inside their "
                f"intervals, those of {others['trait'].nunique()} traits among them.",
            ]
            sql = query_sql("report_forecasts")
            yield Section(f"{id}: forecasts", sql, words, drawn.svg)


def settings(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The settings of every experiment, and those in which they differ."""
    found = warehouse.query("report_settings").itertuples()
    config = {
        row.experiment: {
            name: json.dumps(one) for name, one in leaves(recorded_settings(row.config))
        }
        for row in found
    }
    chosen = {id: config[id] for ids in runs.values() for id in ids if id in config}
    if not chosen:
        return
    frame = pd.DataFrame(chosen).fillna("-")
    frame.insert(0, "setting", frame.index)
    differ = frame[frame.drop(columns="setting").nunique(axis=1) > 1]
    folded = [
        (f"All settings of {id}", "\n".join(f"{key} = {value}" for key, value in told.items()))
        for id, told in chosen.items()
    ]
    yield Section(
        "Settings", query_sql("report_settings"),
        ["In these settings the experiments differ."] if len(differ) else [],
        table=differ if len(differ) else None, folded=folded,
    )  # fmt: skip
