"""The parts of the report."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: words, a figure (SVG) or a table, titled texts to unfold, its SQL."""

    title: str
    sql: str
    words: list[str] = field(default_factory=list)
    figure: str = ""
    table: pd.DataFrame | None = None
    folded: list[tuple[str, str]] = field(default_factory=list)
