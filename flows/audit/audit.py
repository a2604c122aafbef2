"""The implicit-reward audit: what is this loop really being rewarded for?

Each question is asked of every trained generation, and says what it cannot answer. Figures go to
the table `audits`, probabilities of kept traces to `rewards`; views make them readable.
"""

from __future__ import annotations

from collections.abc import Sequence

from curation.diversity import diversity, trend
from flows.audit.generation import asked, empty
from flows.audit.ledger import Audit
from flows.audit.processes import side_by_side
from flows.audit.questions import PARTS
from flows.audit.weights import valid_counts
from flows.experiments.experiment import Experiment
from flows.progress import Watch
from planners.models.hardware import cores, hardware, use_hardware
from warehouse.pool import TRAITS, traits_of, written_texts
from warehouse.store import Warehouse

TOLD = ("coverage", "plan_length")
"""Traits whose forecasts are told in words; the view `forecasts` has them all."""
DIVERSITY = {
    "distinct_plans": "different valid plans of a solved task",
    "first_action_entropy": "bits of a plan's first action",
    "gap": "pass@k of all samples minus pass@1",
    "compression": "texts compress by a factor of",
}
"""Figures of diversity that are told, and the words for them."""
WORTH = 50_000
"""Deployed traces of an experiment from which its generations are asked about side by side."""


def audit(
    warehouse: Warehouse, experiment: Experiment, watch: Watch, only: Sequence[int] | None = None
) -> Audit:
    """Ask every question of an experiment's generations, or of `only` some; writes nothing.

    Open the warehouse read-only, since users' traits are SQL.
    """
    found = empty(experiment)
    reached = [one.index for one in warehouse.generations(experiment.id)]
    indices = [index for index in (reached if only is None else only) if index > 0]
    with watch.bar(f"audit {experiment.id}", len(indices) * sum(map(len, PARTS))) as advance:
        if (processes := _processes(warehouse, experiment, len(indices))) > 1:
            each = side_by_side(warehouse.place, experiment, indices, processes, advance)
        else:
            each = [
                asked(warehouse, experiment, index, questions, advance)
                for index in indices
                for questions in PARTS
            ]
    for one in each:
        found.add(one)
    for index in indices:
        found.require_asked(index)
    if only is None:
        _diversity(warehouse, found, reached)
        _forecasts(warehouse, found, reached)
    return found


def _processes(warehouse: Warehouse, experiment: Experiment, generations: int) -> int:
    """The number of processes that ask side by side; each loads torch, which takes seconds."""
    use_hardware(experiment.model.device, experiment.model.dtype)
    traces = sum(deployed for _, deployed in valid_counts(warehouse, experiment.id).values())
    if not warehouse.read_only or traces < WORTH or hardware().device != "cpu":
        return 1
    return min(generations * len(PARTS), cores(experiment.model.threads))


def _diversity(warehouse: Warehouse, found: Audit, reached: list[int]) -> None:
    """Is the loop collapsing? Note figures per deployed generation, and their trend over all."""
    series: dict[str, list[float]] = {}
    last = -1
    for generation in reached:
        first_action = {"first_action": TRAITS["first_action"]}
        written = written_texts(warehouse, found.experiment.id, first_action, generation)
        if written.empty:
            continue
        last = generation
        frame = written.assign(first_action=traits_of(written)["first_action"])
        measured = diversity(frame)
        found.note(generation, "diversity", "", measured)
        for name, value in measured.items():
            series.setdefault(name, []).append(value)
    for name, values in series.items():
        found.note(last, "diversity", "trend", {name: trend(values)})
    if last >= 0:
        found.say(
            "over deployed generations: "
            + "; ".join(
                f"{words} {series[name][0]:.2f} to {series[name][-1]:.2f}"
                for name, words in DIVERSITY.items()
            )
        )


def _forecasts(warehouse: Warehouse, found: Audit, reached: list[int]) -> None:
    """Note how good the forecasts were that were made before each generation was trained."""
    scores = warehouse.query("forecast_scores", experiment=found.experiment.id)
    for row in scores.to_dict("records"):
        measures = {m: row[m] for m in ("told", "error", "persistence", "inside")}
        found.note(reached[-1], "forecast", row["trait"], measures)
    said = [
        f"{row.trait} off by {row.error:.3g} (persistence: {row.persistence:.3g}), "
        f"{row.inside:.0%} of {row.told} inside"
        for row in scores.itertuples()
        if row.trait in TOLD
    ]
    if said:
        found.say(f"forecasts made before training: {'; '.join(said)}")


def tell(found: Audit, watch: Watch) -> None:
    """Print the findings in words."""
    watch.say(
        f"{found.experiment.id}, from the deployed and ingested traces that generations "
        "could learn from; evaluation traces only where it says so"
    )
    for line in (*found.lines, *found.broken):
        watch.say(line)
