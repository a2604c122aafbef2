"""The address of every page and of every state of it."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def link(*words: object, **query: object) -> str:
    """The address `/words/...?query`; what is None or empty is left out of the query."""
    path = "/" + "/".join(quote(str(word), safe="") for word in words)
    kept = {key: value for key, value in query.items() if value not in (None, "", ())}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path
