"""Runs a study side by side: each chain of runs in a warehouse of its own, which is taken into the
study's warehouse when it is finished. Killed anywhere, the same command goes on.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from flows.experiments.experiment import Experiment
from flows.experiments.tables import Workers
from flows.front import run as run_experiment
from flows.generations.lineage import BY_HAND, next_generation
from flows.generations.policies import require_first
from flows.iterate import finished, iterate
from flows.loop.plan import require_fit
from flows.progress import Watch, at_work, opened_when_free, summary
from flows.schedule.workers import Submit, calling, require_installed
from flows.study.reading import Run, Study
from planners.domains.folder import SPLITS
from planners.errors import ComponentFailure, InvalidInput, PosterityError
from planners.processes import end_with_parent
from warehouse.findings import Member
from warehouse.landing import take_in
from warehouse.store import Warehouse

TRIES = 3
"""Times that runs are begun whose process was killed."""
FEW = 3
"""Seeds, below which a study says how little they tell."""
LOOK_EVERY = 2.0
"""Seconds between looks at what the runs are doing."""


def run_study(
    study: Study, place: Path, at_once: int, watch: Watch, workers: Workers | None = None
) -> None:
    """Run what is missing of a study, `at_once` chains at a time in processes of this machine, or
    as many as there are `workers`, which need the warehouse's folder; record its members.

    Raises InvalidInput, before anything is run, where a base is missing or nothing would fit. Where
    a run fails, the others are run to their end, then its error is raised.
    """
    place = place.absolute()
    if workers is not None:
        require_installed(workers.runner)
    for run in {run.experiment.hash: run for run in study.runs}.values():
        try:
            require_first(run.experiment)
            require_fit(run.experiment)
        except InvalidInput as error:
            raise InvalidInput(f"the study {study.name}, arm {run.arm!r}: {error}") from error
    with Warehouse(place) as store:
        _require_same(store, study)
        for run in study.runs:
            made = next_generation(store, run.experiment) is None
            if made and not _is_done(store, run):  # an older checker judged it
                with store.working_on(run.experiment.id):
                    iterate(store, run.experiment, watch)
        done = {run.experiment.id for run in study.runs if _is_done(store, run)}
        _require_by_rule(store, study, done)
        store.write(_members(study, done))
    chains = [chain for chain in study.chains() if {r.experiment.id for r in chain} - done]
    watch.say(f"{study.name}: {len(study.runs)} runs, {len(done)} of them finished before")
    # No other folder beside a warehouse has such a name, whatever the study is called.
    parts = place.with_name(f"{place.name}.study-{study.name}")
    earlier = place.with_name(f"{place.name}.{study.name}")  # as an older version called it
    begun = any((earlier / f"{run.experiment.id}.duckdb").exists() for run in study.runs)
    if begun and not parts.exists():
        earlier.rename(parts)
    parts.mkdir(parents=True, exist_ok=True)
    failed = _run_chains(study, chains, place, parts, partial(_elsewhere, at_once, workers), watch)
    if failed:
        raise failed[0]
    shutil.rmtree(parts, ignore_errors=True)
    _tell_effects(study, place, watch)


def _run_chains(
    study: Study, chains: list[list[Run]], place: Path, parts: Path,
    elsewhere: Callable[[], AbstractContextManager[Submit]], watch: Watch,
) -> list[PosterityError]:  # fmt: skip
    """Run each chain in a part of its own, and take in what is finished. One whose process was
    killed is begun again, TRIES times in all. Returns the errors of the others.
    """
    failed: list[PosterityError] = []
    with watch.bar("runs", sum(map(len, chains))) as advance:
        for left in reversed(range(TRIES)):
            for told in parts.glob("*.checkpoints/progress-*.json"):
                told.unlink(missing_ok=True)  # of runs that were killed
            with elsewhere() as submit:
                waiting = _submitted(chains, parts, submit)
                chains = [chain for chain in chains if chain not in waiting.values()]
                while waiting:
                    ready, _ = wait(waiting, LOOK_EVERY, FIRST_COMPLETED)
                    for future in ready:
                        chain = waiting.pop(future)
                        try:
                            _end(future, chain, _part(parts, chain))
                            _take(study, chain, place, _part(parts, chain), watch)
                        except BrokenExecutor:
                            chains.append(chain)
                            continue
                        except PosterityError as error:  # the others go on to their end
                            watch.say(str(error))
                            failed.append(error)
                        advance(len(chain))
                    advance(0, _now(parts))
            if not chains:
                return failed
            if left:
                watch.say("a process was killed, perhaps as memory ran out; what is left goes on")
    killed = ComponentFailure(
        f"processes of the study were killed {TRIES} times: run fewer side by side "
        "with --at-once; what is finished is kept, and the same command goes on"
    )
    return [*failed, killed]


def _submitted(
    chains: list[list[Run]], parts: Path, submit: Submit
) -> dict[Future[None], list[Run]]:
    """The chains that could be handed over: all, unless a process was killed meanwhile."""
    waiting: dict[Future[None], list[Run]] = {}
    with suppress(BrokenExecutor):
        for chain in chains:
            experiments = [run.experiment for run in chain]
            waiting[submit(_run_chain, experiments, _part(parts, chain))] = chain
    return waiting


def _part(parts: Path, chain: list[Run]) -> Path:
    return parts / f"{chain[0].experiment.id}.duckdb"


def _run_chain(experiments: list[Experiment], part: Path) -> None:
    """Run experiments after each other in one warehouse, in a process of a pool."""
    for experiment in experiments:
        run_experiment(experiment, warehouse=part, watch=Watch(quiet=True)).close()


def _end(future: Future[None], chain: list[Run], part: Path) -> None:
    names = ", ".join(f"{run.arm} at seed {run.experiment.seed}" for run in chain)
    try:
        future.result()
    except BrokenExecutor:  # a process was killed: this one, or one beside it
        raise
    except Exception as error:  # of ours, Ray's copy of one, or what a lost worker leaves
        cause = getattr(error, "cause", error)
        if isinstance(cause, PosterityError):
            raise type(cause)(f"{names}, in the warehouse {part}: {cause}") from None
        raise ComponentFailure(
            f"{names} failed: {type(error).__name__}: {error}; what is finished is kept: the same "
            "command goes on"
        ) from error


def _take(study: Study, chain: list[Run], place: Path, part: Path, watch: Watch) -> None:
    """Take a finished part into the study's warehouse, with its weights, and delete it."""
    with opened_when_free(place, watch) as store:
        try:
            take_in(store, part)
        except OSError as error:
            raise ComponentFailure(
                f"{part} cannot be taken into {place}: {error.strerror or error}; free some space "
                "there, and run the same command again"
            ) from error
        store.write(_members(study, {run.experiment.id for run in chain}))
        for run in chain:
            told = summary(store, run.experiment.id)
            watch.say(
                f"{run.arm}, seed {run.experiment.seed}: coverage {told[0].coverage or 0:.1%} to "
                f"{told[-1].coverage or 0:.1%}, longest plan {told[0].longest} to "
                f"{told[-1].longest}"
            )
        store.publish()
    for path in part.parent.glob(f"{part.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _tell_effects(study: Study, place: Path, watch: Watch) -> None:
    """Say how far each arm is from the first at the last generation."""
    with Warehouse(place, read_only=True) as store:
        effects = store.query("report_effects")
    effects = effects[effects["study"] == study.name]
    for arm, rows in effects.groupby("arm", sort=False):
        rows = rows.sort_values("split", key=lambda splits: splits.map(SPLITS.index))
        told = [
            f"{row.split} {100 * row.effect:+.1f} points"
            # NaN, where there is one seed, is the only value unequal to itself.
            + (f" ({100 * row.low:+.1f} to {100 * row.high:+.1f})" if row.low == row.low else "")
            for row in rows.itertuples()
        ]
        watch.say(
            f"{arm} against {study.runs[0].arm}, coverage at the last generation: {', '.join(told)}"
        )
    seeds = len({run.experiment.seed for run in study.runs})
    if seeds < FEW:
        watch.say(
            f"{seeds} {'seeds tell' if seeds > 1 else 'seed tells'} very large effects only: the "
            "intervals are over seeds; add some to the file, and what is finished stays"
        )


def _members(study: Study, ids: set[str]) -> list[Member]:
    return [
        Member(study.name, run.arm, run.experiment.seed, run.position, run.experiment.id)
        for run in study.runs
        if run.experiment.id in ids
    ]


def _require_same(store: Warehouse, study: Study) -> None:
    """Raise InvalidInput where an arm that was run before is another one now."""
    before = {(one.arm, one.seed): one for one in store.every(Member, study=study.name)}
    for now in _members(study, {run.experiment.id for run in study.runs}):
        if before.get((now.arm, now.seed), now) != now:
            raise InvalidInput(
                f"the arm {now.arm!r} of the study {study.name} has other settings, or another "
                "place, than when it was run; give the changed study a name of its own"
            )


def _require_by_rule(store: Warehouse, study: Study, done: set[str]) -> None:
    """Raise InvalidInput where a person chose what an arm that is to go on descends from."""
    for run in study.runs:
        decisions = store.promotions(run.experiment.id) if run.experiment.id not in done else ()
        if by_hand := [one for one in decisions if one.decided_by == BY_HAND]:
            raise InvalidInput(
                f"the arm {run.arm!r} of the study {study.name} at seed {run.experiment.seed} was "
                f"put at generation {by_hand[-1].generation} by hand, so that going on would not "
                "give what the study asks for; use another warehouse"
            )


def _is_done(store: Warehouse, run: Run) -> bool:
    """Whether a run is in the warehouse, whole."""
    if store.experiment(run.experiment.id) is None:
        return False
    generations = range(run.experiment.generations + 1)
    return all(finished(store, run.experiment, index) for index in generations)


def _now(parts: Path) -> str:
    """The runs at work, in a few words."""
    told = [one for folder in sorted(parts.glob("*.checkpoints")) for one in at_work(folder)]
    return "; ".join(f"{one.experiment}: {one.label} {one.done}/{one.total}" for one in told)


@contextmanager
def _elsewhere(at_once: int, workers: Workers | None) -> Iterator[Submit]:
    """Call functions on workers, or in processes of this machine that end with the block, also on
    Ctrl-C: a run can go on later.
    """
    if workers is not None:
        with calling(workers) as submit:
            yield submit
        return
    pool = ProcessPoolExecutor(
        at_once, multiprocessing.get_context("spawn"), initializer=end_with_parent
    )
    try:
        yield pool.submit
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
