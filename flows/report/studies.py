"""The report's part on studies: the arms' curves, and how far each is from the first."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from flows.report.figures import PALETTE, below, drawing, lines, percent, whole_generations
from flows.report.history import Runs
from flows.report.parts import Section
from planners.domains.folder import SPLITS
from warehouse.reading import query_sql
from warehouse.store import Warehouse

DASHES = ("-", "--", ":", "-.")


def studies(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """Coverage by generation of every arm of every study, and the effects at the end."""
    found, effects = warehouse.query("report_studies"), warehouse.query("report_effects")
    for study, told in found.groupby("study", sort=False):
        splits = [split for split in SPLITS if split in set(told["split"])]
        arms = list(dict.fromkeys(told["arm"]))
        with drawing(f"study {study}", len(splits), share=True) as drawn:
            for axes, split in zip(drawn.axes, splits, strict=True):
                for number, arm in enumerate(arms):
                    chosen = told[(told["split"] == split) & (told["arm"] == arm)]
                    frame = chosen.rename(columns={"coverage": "value"})
                    dashes = DASHES[number // len(PALETTE) % len(DASHES)]
                    lines(axes, frame, arm, PALETTE[number % len(PALETTE)], dashes)
                axes.set_title(split)
                whole_generations(axes)
            for axes in drawn.axes:
                percent(axes)
            below(drawn, 4)
        sql = "\n\n".join(query_sql(name) for name in ("report_studies", "report_effects"))
        own = effects[effects["study"] == study].drop(columns="study")
        seeds = told["seed"].nunique()
        words = [
            f"{len(arms)} arms at {seeds} {'seed' if seeds == 1 else 'seeds'}; bands: the range of "
            f"the seeds. The effect is the difference in coverage from {arms[0]}, over the same "
            "tasks at the same seeds, in points, with its 95% interval over seeds."
        ]
        yield Section(f"Study {study}", sql, words, drawn.svg, _shown(own))


def _shown(effects: pd.DataFrame) -> pd.DataFrame:
    shown = effects.copy()
    for name in ("coverage", "reference"):
        shown[name] = effects[name].map("{:.1%}".format)
    for name in ("effect", "low", "high", "unanimous_effect"):
        # NaN, where there is one seed, is the only value unequal to itself.
        shown[name] = [f"{100 * value:+.1f}" if value == value else "-" for value in effects[name]]
    return shown.rename(columns=lambda column: str(column).replace("_", " "))
