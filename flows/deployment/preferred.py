"""Whether users prefer a candidate to the generation that is deployed, looked at as often as one
likes.

Both answer at the same time, each its share of sessions, drawn at random. Of every session the
first word counts; an answer without a session says nothing, since only sessions are drawn. A
session of the candidate is compared with those of the other generation just before it.
The evidence is a product of bets whose expectation is at most 1 unless the candidate is better
(Turner, Ly and Grünwald 2021, arXiv 2106.02693, section 2; for one side, since a factor falls with
the candidate's rate). It passes 1 / ERROR in at most ERROR of all cases where it is not better,
whenever one stops (Ville's inequality).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from flows.deployment.loading import load_requests
from flows.experiments.experiment import Experiment
from planners.errors import Waiting
from warehouse.store import Warehouse

ERROR = 0.05
"""Share, at most, of candidates that are no better and yet promoted; likewise of those refused."""
BLOCK = 8
"""Sessions of the deployed generation beside one of the candidate, at most."""


@dataclass(slots=True)
class Arm:
    """A generation's sessions, and how many of them accepted."""

    told: int = 0
    accepted: int = 0

    def count(self, outcomes: Iterable[bool]) -> None:
        for one in outcomes:
            self.told += 1
            self.accepted += one

    @property
    def rate(self) -> float:
        """The acceptance that is expected of the next session."""
        return (self.accepted + 0.5) / (self.told + 1)

    def __str__(self) -> str:
        return f"{self.accepted} of {self.told}" + (
            f" ({self.accepted / self.told:.1%})" if self.told else ""
        )


@dataclass(slots=True)
class Preference:
    """Evidence that a candidate is accepted more often, or less often: the largest it ever was."""

    current: Arm = field(default_factory=Arm)
    candidate: Arm = field(default_factory=Arm)
    better: float = 1.0
    worse: float = 1.0


def preference(outcomes: Iterable[tuple[bool, bool]], share: float) -> Preference:
    """The evidence in sessions, in the order in which users spoke: whether it was the candidate's,
    and whether it was accepted. `share`: of sessions that the candidate answers.
    """
    found, better, worse = Preference(), 1.0, 1.0
    candidate, current = Arm(), Arm()
    most = min(BLOCK, max(1, round((1 - share) / share)))
    # Only the latest of each are kept to be compared: users may be easier to please on some days.
    waiting = {True: deque[bool](maxlen=1), False: deque[bool](maxlen=most)}
    for is_candidate, accepted in outcomes:
        waiting[is_candidate].append(accepted)
        arm = found.candidate if is_candidate else found.current
        arm.count([accepted])
        if len(waiting[False]) < most or not waiting[True]:
            continue
        one, many = list(waiting[True]), list(waiting[False])
        for queue in waiting.values():
            queue.clear()
        better *= _bet(candidate.rate, current.rate, one, many)
        worse *= _bet(1 - candidate.rate, 1 - current.rate, _not(one), _not(many))
        found.better, found.worse = max(found.better, better), max(found.worse, worse)
        candidate.count(one)  # only what was compared, and only now: a bet looks back alone
        current.count(many)
    return found


def _not(outcomes: list[bool]) -> list[bool]:
    return [not one for one in outcomes]


def _bet(first: float, second: float, one: list[bool], many: list[bool]) -> float:
    """How much likelier a block is if the rates are these than if both were their mean; 1 unless
    the first is the larger, which is what is bet on.
    """
    if first <= second:
        return 1.0
    mean = (first * len(one) + second * len(many)) / (len(one) + len(many))
    value = 1.0
    for rate, outcomes in ((first, one), (second, many)):
        for accepted in outcomes:
            value *= rate / mean if accepted else (1 - rate) / (1 - mean)
    return value


def is_preferred(
    warehouse: Warehouse, experiment: Experiment, generation: int, parent: int
) -> tuple[bool, str]:
    """Whether users prefer a generation to its parent, and why. Raises Waiting while they have not
    said enough; the generation is published first, so that the gateway lets it answer.
    """
    assert experiment.deployment is not None  # the settings ask for it
    load_requests(warehouse)
    rows = warehouse.query(
        "sessions_told", experiment=experiment.id, candidate=generation, parent=parent
    )
    outcomes = [(row.generation == generation, bool(row.accepted)) for row in rows.itertuples()]
    found = preference(outcomes, experiment.deployment.candidate)
    told = (
        f"users accepted {found.candidate} sessions of generation {generation}, {found.current} of "
        f"generation {parent}; evidence that it is better {found.better:.3g}, worse "
        f"{found.worse:.3g}, and {1 / ERROR:g} decides"
    )
    if found.better >= 1 / ERROR or found.worse >= 1 / ERROR:
        return found.better > found.worse, told
    if found.candidate.told >= experiment.deployment.patience:
        return False, f"{told}; no difference in {experiment.deployment.patience} sessions"
    warehouse.publish()
    raise Waiting(
        f"generation {generation} of {experiment.id} waits for users to compare it: {told}. "
        "`posterity deploy` lets it answer its share of sessions (deployment.candidate)"
    )
