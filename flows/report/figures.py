"""Figures of the report as SVG; axes and words take the colour of the page's text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from curation.tasks import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0a7bc2", "#d1690a", "#0a8f62", "#b0569b", "#8a7a00", "#5f6b7a")
"""Colours that colour-blind readers can tell apart (after Okabe and Ito), with at least 3 to 1
of contrast on light and on dark pages.
"""
DARK = 0.71
"""Share above which a heat map's cell is so dark that white text is easier to read."""
INK = "#010203"
"""Placeholder, replaced by the colour of the page's text."""
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may have dollars
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
}


class Drawing:
    """A figure being drawn: its `axes`, and its `svg` once it is done."""

    def __init__(self, figure: Figure, axes: Sequence[Axes]) -> None:
        self.figure, self.axes, self.svg = figure, axes, ""


@contextmanager
def drawing(
    name: str, columns: int = 1, height: float = 3.0, share: bool = False
) -> Iterator[Drawing]:
    """Axes side by side, and once more below each other for narrow screens; the same figure gives
    the same bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, height))
        axes = figure.subplots(1, columns, sharey=share, squeeze=False)[0]
        drawn = Drawing(figure, axes)
        yield drawn
        wide = _svg(figure, name, "wide")
        _narrow(figure, axes, height)
        drawn.svg = wide + _svg(figure, name, "narrow")


def _narrow(figure: Figure, axes: Sequence[Axes], height: float) -> None:
    """Lay a figure out anew: axes below each other, legends below them."""
    figure.set_size_inches(4.2, height * len(axes))
    grid = figure.add_gridspec(len(axes), 1)
    handles = dict[str, Any]()
    for place, one in enumerate(axes):
        one.set_subplotspec(grid[place])
        one.tick_params(labelleft=True)  # which axes that share them hide
        if (own := one.get_legend()) is not None:
            told = one.get_legend_handles_labels()
            handles |= dict(zip(told[1], told[0], strict=True))
            own.remove()
    for legend in list(figure.legends):
        told = axes[0].get_legend_handles_labels()
        handles |= dict(zip(told[1], told[0], strict=True))
        legend.remove()
    if handles:
        figure.set_figheight(figure.get_figheight() + 0.1 * len(handles))
        below: Any = {"loc": "outside lower center", "ncols": 2, "fontsize": 7}
        figure.legend(handles.values(), handles.keys(), **below)


def _svg(figure: Figure, name: str, width: str) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    # Matplotlib's ids are random without a salt, and its metadata holds the date.
    with mpl.rc_context({"svg.hashsalt": f"{name} {width}"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Its one rule of style is the page's: pages allow no style sheets within them.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.S)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'class="plot {width}"', text, count=1)


def lines(axes: Axes, frame: pd.DataFrame, label: str, colour: str, dashes: str = "-") -> None:
    """Plot the mean over seeds by generation, and a band from their lowest to their highest value.

    Columns `generation`, `value`. With one seed, and a column `tasks`, the value is a share of so
    many tasks, and the band is its 95% interval (Wilson).
    """
    by = frame.groupby("generation")["value"]
    mean, low, high = by.mean(), by.min(), by.max()
    axes.plot(mean.index, mean, dashes, marker="o", markersize=3.5, color=colour, label=label)
    if by.size().max() == 1 and "tasks" in frame:
        tasks = frame.groupby("generation")["tasks"].first()
        low, high = wilson(mean * tasks, tasks)
    axes.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)


def beside(axes: Axes) -> None:
    """Put the legend to the right of the axes, where it hides nothing."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def below(drawn: Drawing, columns: int) -> None:
    """Put one legend for all axes below them."""
    told = drawn.axes[0].get_legend_handles_labels()
    drawn.figure.legend(*told, loc="outside lower center", ncols=columns)


def by_generation(axes: Axes, boxes: pd.DataFrame) -> None:
    """Draw one box per generation (the index); columns `whislo`, `q1`, `med`, `q3`, `whishi`."""
    ink = {"color": INK}
    axes.bxp(
        [{str(k): v for k, v in row.items()} for row in boxes.to_dict("records")],
        positions=list(boxes.index), showfliers=False, manage_ticks=False, boxprops=ink,
        whiskerprops=ink, capprops=ink, medianprops={"color": PALETTE[1], "linewidth": 2},
    )  # fmt: skip
    axes.set_ylim(bottom=0)


def whole_generations(axes: Axes) -> None:
    """Label the horizontal axis as generations, with ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("generation")


def percent(axes: Axes) -> None:
    """Show the vertical axis in percent, from 0."""
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(bottom=0)


def stacked(
    axes: Axes, table: pd.DataFrame, names: Mapping[object, str] | None = None,
    order: Sequence[object] = (), legend: bool = True,
) -> None:  # fmt: skip
    """Draw stacked bars: one bar per row, one part per column.

    A column's colour is that of its place in `order`, so that it is the same in every figure.
    """
    below = np.zeros(len(table))
    places = list(order) or list(table.columns)
    for column in table.columns:
        number = places.index(column)
        label = (names or {}).get(column, str(column))
        colour = PALETTE[number % len(PALETTE)]
        # Hatches tell apart the columns that share a colour.
        hatch = ("", "///", "...", "xxx")[number // len(PALETTE) % 4]
        axes.bar(
            table.index, table[column], bottom=below, label=label, color=colour, hatch=hatch,
            edgecolor=INK, linewidth=0.4,
        )  # fmt: skip
        below += table[column].to_numpy(dtype=float)
    if legend:
        beside(axes)


def heat(axes: Axes, table: pd.DataFrame, title: str, down: str) -> None:
    """Draw shares as darkness, with the number in each cell; generations run along, rows up."""
    values = table.to_numpy(dtype=float)
    axes.imshow(values, aspect="auto", origin="lower", cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(table.columns)), [str(c) for c in table.columns])
    axes.set_yticks(range(len(table.index)), [str(i) for i in table.index])
    axes.set_title(title)
    axes.set_xlabel("generation")
    axes.set_ylabel(down)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > DARK else "black"
            axes.text(
                column, row, f"{value:.0%}", ha="center", va="center", fontsize=8, color=colour
            )


def odds(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw odds ratios with their intervals on a logarithmic scale.

    Columns `name`, `odds_ratio`, `low`, `high`, `declared`.
    """
    rows = frame.iloc[::-1].reset_index(drop=True)
    for place, row in rows.iterrows():
        colour = PALETTE[0] if row["declared"] else PALETTE[1]
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot([row["odds_ratio"]], [place], "o" if row["declared"] else "D", color=colour)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    low, high = float(rows["low"].min()), float(rows["high"].max())
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if low / 1.5 <= tick <= high * 1.5]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), list(rows["name"]))
    axes.set_xlabel("odds of being kept, times")
