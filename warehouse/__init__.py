"""All traces, verdicts and decisions, in a DuckDB file or a lake that only this package opens."""

from typing import TYPE_CHECKING

from planners.fronts import exporting

if TYPE_CHECKING:
    from warehouse.sandbox.query import Limits, ask
    from warehouse.store import Warehouse

__all__ = [
    "Limits",
    "Warehouse",
    "ask",
]

__getattr__, __dir__ = exporting(
    __name__,
    {
        "warehouse.sandbox.query": "Limits ask",
        "warehouse.store": "Warehouse",
    },
)
