"""The picture of the README: `python -m tools.coverage_picture WAREHOUSE` writes docs/pictures.

The warehouse holds the quickstart and its control, with as many seeds as there are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from flows.report.figures import PALETTE, lines, percent, whole_generations
from flows.report.page import runs_of
from warehouse import Warehouse

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "coverage.png"
NAMES = {
    "quickstart": "curated: valid plans, the shortest of each task",
    "control": "control: as many, at random",
}


def main(file: str) -> None:
    """Draw coverage of the training tasks: the mean over seeds, and all that lies between them."""
    figure = Figure(figsize=(7.2, 3.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    with Warehouse(file, read_only=True) as store:
        found = store.query("report_coverage")
        for number, (name, ids) in enumerate(runs_of(store).items()):
            chosen = found[found["experiment"].isin(ids) & (found["split"] == "train")]
            told = chosen[["generation", "coverage"]].rename(columns={"coverage": "value"})
            lines(axes, told, f"{NAMES[name]} ({len(ids)} seeds)", PALETTE[number])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    whole_generations(axes)
    percent(axes)
    axes.set_ylabel("training tasks solved")
    axes.legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1])
