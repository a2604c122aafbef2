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


def first_of(found: pd.DataFrame, ids: list[str]) -> str:
    """The first run that a result has rows of: another seed may be begun and not evaluated yet."""
    there = set(found["experiment"])
    return next((id for id in ids if id in there), ids[0])
