"""The implicit-reward audit: what is this loop really being rewarded for?

Each question is asked of every trained generation, and says what it cannot answer. Figures go to
the table `audits`, probabilities of kept traces to `rewards`; views make them readable.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from curation.curators import CURATORS
from curation.diversity import diversity, trend
from flows.audit.ledger import Audit, Trained
from flows.audit.questions import QUESTIONS
from flows.experiments.experiment import Experiment
from flows.generations.lineage import parent_of, start_of
from flows.generations.pool import pool_for, select
from flows.progress import Watch
from planners.errors import InvalidInput
from warehouse.pool import TRAITS, pool_traits, traits_of, written_texts
from warehouse.store import Warehouse


def audit(
    warehouse: Warehouse, experiment: Experiment, watch: Watch, only: Sequence[int] | None = None
) -> Audit:
    """Ask every question of an experiment's generations, or of `only` some; writes nothing.

    Open the warehouse read-only, since users' traits are SQL.
    """
    found = Audit(experiment, {**TRAITS, **experiment.audit.traits})
    reached = [one.index for one in warehouse.generations(experiment.id)]
    indices = [index for index in (reached if only is None else only) if index > 0]
    with watch.bar(f"audit {experiment.id}", len(indices) * len(QUESTIONS)) as advance:
        for index in indices:
            trained = _trained(warehouse, found, index)
            found.say(
                f"generation {index} learned {len(trained.kept)} of {len(trained.pool)} "
                f"traces with a plan ({int(trained.pool['valid'].sum())} valid), curator "
                f"{experiment.curation.curator}"
            )
            for question in QUESTIONS:
                question(trained, found)
                advance(1)
            found.require_asked(index)
    if only is None:
        _diversity(warehouse, found, reached)
    return found


def _trained(warehouse: Warehouse, found: Audit, index: int) -> Trained:
    experiment = found.experiment
    pool = pool_traits(warehouse, experiment.id, found.traits, index)
    own = experiment.curation.curator
    if experiment.training.method != "sft":  # ask about what was reinforced
        pool = pool.assign(kept=pool["weight"] > 0, weight=pool["weight"].clip(lower=0))
    choices = {own: pool.loc[pool["kept"].astype(bool), "trace"].tolist()}
    whole = pool_for(warehouse, experiment, index, text=True)
    for name, curator in CURATORS.items():
        if name != own and curator.needs is None and not curator.signed:
            try:
                choices[name] = select(warehouse, experiment, index, name, whole).kept
            except InvalidInput as error:
                found.note(index, "other-curator", name, {"both": None}, str(error))
    parent = parent_of(warehouse, experiment, index)
    start = start_of(warehouse, experiment, index)
    return Trained(warehouse, experiment, index, parent, start, pool, choices, whole)


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
        told = ("distinct_plans", "first_action_entropy", "gap", "compression")
        found.say(
            "over deployed generations: "
            + "; ".join(f"{n} {series[n][0]:.2f} to {series[n][-1]:.2f}" for n in told)
        )


def tell(found: Audit, watch: Watch) -> None:
    """Print the findings in words."""
    watch.say(
        f"[bold]{found.experiment.id}[/], from the deployed and ingested traces that generations "
        "could learn from; evaluation traces only where it says so"
    )
    for line in (*found.lines, *found.broken):
        watch.say(escape(line))
