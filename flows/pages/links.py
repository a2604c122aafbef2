"""The address of every page and of every state of it, and rows as pages show them."""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import pandas as pd

Row: TypeAlias = dict[str, Any]
"""A row of a table by its columns, for a template."""


def link(*words: object, **query: object) -> str:
    """The address `/words/...?query`; what is None or empty is left out of the query."""
    path = "/" + "/".join(quote(str(word), safe="") for word in words)
    kept = {key: value for key, value in query.items() if value not in (None, "", ())}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame; missing values are None."""
    plain = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(column): value for column, value in row.items()} for row in plain]
