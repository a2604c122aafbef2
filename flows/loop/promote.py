"""The stage promote: decides whether a generation is deployed; a person may decide otherwise.

Decisions are added, never changed. Rolling back is a decision for an older generation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from flows.deployment.preferred import is_preferred
from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import checkpoint_of
from flows.generations.lineage import (
    BY_HAND,
    ancestors,
    decided,
    deployed,
    parent_of,
    unfinished,
)
from flows.progress import Watch
from planners.errors import InvalidInput, NotPromoted
from warehouse.records import Promotion
from warehouse.store import Warehouse

CONFIDENCE = 0.9
"""Confidence of the two-sided interval that must lie above 0 for a generation to be better."""
FORGOTTEN = "generation {} learned from what was forgotten since, or descends from one that did"

Decision = tuple[bool, str]
"""Whether a generation is promoted, and why."""


def promote(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Decide, once, whether a generation that is evaluated and judged is deployed."""
    if generation in decided(warehouse, experiment):
        return
    good, reason = (
        (True, "the base")
        if generation == 0
        else WAYS[experiment.promote](warehouse, experiment, generation, watch)
    )
    _decide(warehouse, experiment, generation, good, experiment.promote, reason)


def require_promoted(warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
    """Raise NotPromoted where the latest decision is about this generation and says no."""
    last = warehouse.promotions(experiment.id)[-1]
    if last.generation == generation and not last.promoted:
        which = f" of seed {experiment.seed}" if experiment.curation.crossing else ""
        raise NotPromoted(
            f"generation {generation}{which} is not promoted: {last.reason}; generation "
            f"{deployed(warehouse, experiment)} stays deployed. Look at it with `posterity audit`, "
            f"deploy it anyway with `posterity promote {generation} {experiment.id}`, or promote "
            "an older one and run again for another try"
        )


def promote_by_hand(
    warehouse: Warehouse, experiment: Experiment, generation: int, reason: str = ""
) -> bool:
    """Record a person's decision to deploy a generation, and publish it, since a gateway reads what
    is published; the next is made from it. Returns whether there was anything to decide: not where
    it is deployed and no reason is given.

    Raises InvalidInput where there is no such generation, its weights are lost or changed, or one
    is half made.
    """
    reached = [one.index for one in warehouse.generations(experiment.id)]
    if generation not in reached:
        known = f"{reached[0]} to {reached[-1]}" if reached else "none"
        raise InvalidInput(f"{experiment.id} has no generation {generation}; it has {known}")
    # A candidate that waits for its users' word keeps nobody from rolling back.
    waiting = _candidates(warehouse, experiment) if experiment.promote == "if-preferred" else []
    if half_made := sorted({*unfinished(warehouse, experiment.id)} - {*waiting}):
        raise InvalidInput(
            f"generation {half_made[0]} of {experiment.id} is unfinished; let `posterity run` "
            "finish it first"
        )
    if generation > 0:
        checkpoint_of(warehouse, experiment, generation)
    last = warehouse.promotions(experiment.id)[-1:]
    if (
        not reason
        and not waiting
        and last
        and last[0].promoted
        and last[0].generation == generation
    ):
        return False
    for other in waiting:
        if other != generation:
            told = f"generation {generation} was promoted by hand"
            _decide(warehouse, experiment, other, False, BY_HAND, told)
    _decide(warehouse, experiment, generation, True, BY_HAND, reason or "posterity promote")
    warehouse.publish()
    return True


def without_forgotten(
    warehouse: Warehouse, experiment: Experiment
) -> tuple[Experiment, int | None]:
    """Deploy the newest ancestor that learned nothing that was forgotten, if the deployed
    generation did; a candidate that did, or descends from one, is refused. Returns the experiment
    with the generations that then have to be made again, and the ancestor, None where nothing has
    to be rolled back.

    A generation learns from its ancestors' traces alone, so that nothing of it reaches the new
    ones. Where users alone teach, one is made at once; the next waits for users, as always.
    """
    tainted = set(warehouse.query("tainted_of", experiment=experiment.id)["generation"])
    if not tainted:
        return experiment, None
    now = deployed(warehouse, experiment)
    lineage = [*ancestors(warehouse, experiment, now), now] if now > 0 else [now]
    clean = list(takewhile(lambda one: one not in tainted, lineage))
    rolled_back = clean != lineage
    for candidate in _candidates(warehouse, experiment):
        if rolled_back or candidate in tainted:
            _decide(warehouse, experiment, candidate, False, BY_HAND, FORGOTTEN.format(candidate))
    if rolled_back:
        reason = FORGOTTEN.format(lineage[len(clean)])
        promote_by_hand(warehouse, experiment, clean[-1], reason)
    # As many as there were, where the command asks for fewer than were made.
    wanted = max(experiment.generations, len(lineage) - 1) - (len(clean) - 1)
    users = experiment.deployment
    # Killed in between, it was rolled back before, and what replaces it is not made yet.
    again = warehouse.promotions(experiment.id)[-1].decided_by == BY_HAND
    if users is not None and (rolled_back or again):
        wanted = min(wanted, 1) if users.alone else wanted
        users = users.model_copy(update={"fewest": 0})  # what is learned from is there already
    last = max(decided(warehouse, experiment), default=-1) + wanted
    longer = experiment.model_copy(update={"generations": last, "deployment": users})
    return longer, clean[-1] if rolled_back else None


def _candidates(warehouse: Warehouse, experiment: Experiment) -> list[int]:
    """The generations that are finished but for the decision, which waits for users."""
    judged = {generation for generation, _ in warehouse.marks(experiment.id, "judge")}
    return sorted(judged - decided(warehouse, experiment))


def _decide(
    warehouse: Warehouse, experiment: Experiment, generation: int, good: bool, by: str, reason: str
) -> None:
    warehouse.promote(
        Promotion(
            experiment=experiment.id, generation=generation, promoted=good, decided_by=by,
            reason=reason,
        )
    )  # fmt: skip


def _always(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch
) -> Decision:
    return True, "promote = always"


def _if_better(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch
) -> Decision:
    """Promote what beats its parent on held-out tasks, of those on which both were judged: paired t
    interval over evaluation seeds.
    """
    from scipy.stats import t

    parent = parent_of(warehouse, experiment, generation)
    asked = {"experiment": experiment.id, "generation": generation, "parent": parent}
    found = warehouse.query("heldout_by_sample", **asked)
    solved = found.pivot(index=["sample", "task"], columns="generation", values="solved")
    judged = solved.reindex(columns=[parent, generation]).dropna()
    both = judged.groupby("sample").mean()
    left = len(solved) - len(judged)
    besides = f"; {left} judged in one generation alone left out" if left else ""
    gain = (both[generation] - both[parent]).round(9)  # 0.5 - 0.4 is not 0.4 - 0.3
    if len(both) < 2 or gain.nunique() == 1:  # without any spread they tell nothing of chance
        return (
            False,
            f"{len(both)} evaluation samples of held-out tasks cannot tell whether it is better"
            + (f": each differs by {gain.iloc[0]:+.1%}" if len(both) > 1 else "")
            + besides,
        )
    half = t.ppf((1 + CONFIDENCE) / 2, len(gain) - 1) * gain.sem()
    low, high = gain.mean() - half, gain.mean() + half
    told = (
        f"held-out tasks solved by a sample {both[generation].mean():.1%}, of generation {parent} "
        f"{both[parent].mean():.1%}; {CONFIDENCE:.0%} interval of the difference over {len(gain)} "
        f"seeds: {low:+.1%} to {high:+.1%}{besides}"
    )
    return bool(low > 0), told


def _if_audited(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch
) -> Decision:
    """Promote if no bound of the audit is broken."""
    from flows.audit.audit import audit  # takes a second: no wait for a rollback

    # Users' traits are SQL, so the audit gets a read-only snapshot, as any reader does.
    warehouse.publish()
    with Warehouse(warehouse.place.published, read_only=True) as readers:
        found = audit(readers, experiment, watch, [generation])
    warehouse.replace_audit(experiment.id, found.records, generation)
    return not found.broken, "; ".join(found.broken) or "every bound of the audit held"


def _if_preferred(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch
) -> Decision:
    """Promote what users accept more often than its parent."""
    parent = parent_of(warehouse, experiment, generation)
    return is_preferred(warehouse, experiment, generation, parent)


WAYS: dict[str, Callable[[Warehouse, Experiment, int, Watch], Decision]] = {
    "always": _always,
    "if-better": _if_better,
    "if-audited": _if_audited,
    "if-preferred": _if_preferred,
}
