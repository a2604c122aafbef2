"""Which traces are kept, and why: pure functions over data frames."""

from typing import TYPE_CHECKING

from planners.fronts import exporting

if TYPE_CHECKING:
    from curation.curators import CURATORS, Curator, Options, Selection, curate, keep

__all__ = [
    "CURATORS",
    "Curator",
    "Options",
    "Selection",
    "curate",
    "keep",
]

__getattr__, __dir__ = exporting(
    __name__,
    {
        "curation.curators": "CURATORS Curator Options Selection curate keep",
    },
)
