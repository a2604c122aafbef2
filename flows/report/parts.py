"""What the report is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: words, a figure or a table, texts to unfold, and the SQL behind it."""

    title: str
    sql: str
    words: list[str] = field(default_factory=list)
    figure: str = ""
    table: pd.DataFrame | None = None
    folded: list[tuple[str, str]] = field(default_factory=list)
