"""The loop, its experiments, audit, report and schedule, and the command line."""

from typing import TYPE_CHECKING

from planners.fronts import exporting

if TYPE_CHECKING:
    from flows.experiments.experiment import Experiment
    from flows.experiments.reading import load_experiment
    from flows.front import run

__all__ = [
    "Experiment",
    "load_experiment",
    "run",
]

__getattr__, __dir__ = exporting(
    __name__,
    {
        "flows.experiments.experiment": "Experiment",
        "flows.experiments.reading": "load_experiment",
        "flows.front": "run",
    },
)
