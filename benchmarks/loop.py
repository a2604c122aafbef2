"""The whole loop against a plain script; what Prefect takes of it; what a second worker brings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.harness import Row, Scale, Taken, both_rows, compared, say, taken
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.experiments.tables import Workers
from flows.iterate import Stages, iterate
from flows.loop import learn
from flows.loop.executors import shares, spread
from flows.loop.judge import judge_range
from flows.loop.prepare import prepare
from flows.progress import Watch, summary
from flows.schedule.orchestrate import prefect_stages
from flows.schedule.server import prefect_server, quiet
from flows.schedule.workers import workers_of
from planners.domains import blocksworld
from planners.domains.folder import SPLITS
from planners.models.embedded import embedded_base
from planners.pddl import Task
from planners.policies.local import LocalPolicy
from warehouse.landing import landing
from warehouse.records import Trace
from warehouse.store import Warehouse

SMALL = (
    "generations=1", "tasks.train.count=112", "tasks.heldout.count=20", "tasks.larger.count=10",
    "training.steps=16",
)  # fmt: skip
"""The quickstart's work on each task, of so few tasks that the peer does it in minutes."""
LONG = (
    "generations=2", "tasks.train.count=584", "tasks.heldout.count=100", "tasks.larger.count=50",
    "training.steps=83",
)  # fmt: skip
"""A third of the quickstart's work a generation, and two generations."""
TIMES = 5
"""Generations with nothing to do, in a row: what each takes is small."""
TINY = ("generations=1", "deploy.samples=4", "training.steps=20")


def loops(scale: Scale) -> list[Row]:
    """Everything from tasks to the last generation's coverage, over three seeds."""
    preset, changes = (("tiny", TINY), ("quickstart", SMALL), ("quickstart", LONG))[scale]
    experiments = [
        load_experiment(preset, [*changes, f"seed={seed}"]) for seed in range(scale.of(1, 3, 3))
    ]
    results = [_both(experiment) for experiment in experiments]
    name, peer = f"loop, generations={experiments[0].generations}", "TRL, VAL and JSON Lines"
    ours, theirs = zip(*[(r.ours_unsolved, r.peer_unsolved) for r in results], strict=True)
    outside = [r.outside for r in results]
    return [
        *both_rows(f"{name} / {peer}", [r.pair for r in results]),
        compared(f"{name}, tasks left unsolved / {peer}", "share", ours, theirs),
        compared(f"{name}, outside the model / 10%", "share", outside, [0.1] * len(results)),
    ]


class Result(NamedTuple):
    """What ours and the peer's loop took, the share of training tasks that the last generation of
    each does not solve, and the share of ours that was neither sampling nor training.
    """

    pair: tuple[Taken, Taken]
    ours_unsolved: float
    peer_unsolved: float
    outside: float


def _both(experiment: Experiment) -> Result:
    """Ours, and the peer's on the same tasks."""
    from benchmarks import peer_loop

    base = embedded_base(["blocksworld"])
    with TemporaryDirectory() as scratch:
        folder, coverage = Path(scratch), list[float]()
        path = folder / "w.duckdb"
        say(f"loop, seed {experiment.seed}")
        with _inside_the_model() as inside:
            ours = taken(lambda: _run(path, experiment))
        tasks = _tasks(path, experiment)
        theirs = taken(lambda: coverage.append(peer_loop.run(experiment, base, tasks, folder)))
        with Warehouse(path, read_only=True) as store:
            mine = summary(store, experiment.id)[-1].coverage or 0.0
    say(
        f"ours {ours.wall:.0f} s and {mine:.3f} of the tasks, the script {theirs.wall:.0f} s and "
        f"{coverage[0]:.3f}"
    )
    return Result((ours, theirs), 1 - mine, 1 - coverage[0], 1 - sum(inside) / ours.wall)


@contextmanager
def _inside_the_model() -> Iterator[list[float]]:
    """The wall seconds of every call that samples or trains, while the block runs."""
    seconds: list[float] = []

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*args, **options)
            finally:
                seconds.append(time.perf_counter() - start)

        return call

    def stepwise(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def call(*args: Any, **options: Any) -> Iterator[Any]:
            steps, step = work(*args, **options), timed(next)
            while (found := step(steps, None)) is not None:
                yield found

        return call

    with (
        # Each batch is a step of the generator that `stream` returns.
        mock.patch.object(LocalPolicy, "stream", stepwise(LocalPolicy.stream)),
        mock.patch.object(learn, "fine_tune", timed(learn.fine_tune)),
    ):
        yield seconds


def _run(path: Path, experiment: Experiment) -> None:
    with Warehouse(path) as store:
        iterate(store, experiment, Watch(quiet=True))


def _tasks(path: Path, experiment: Experiment) -> dict[str, list[Task]]:
    with Warehouse(path, read_only=True) as store:
        return {
            split: [task.parsed for task in store.tasks(experiment.id, split)] for split in SPLITS
        }


def orchestrations(scale: Scale) -> list[Row]:
    """Prefect's share of a generation: the same stages with nothing to do, as tasks of a flow on a
    server that runs, less as plain functions; over a generation of the quickstart that does it all.
    """
    quiet()
    import prefect

    name = "quickstart" if scale else "tiny"
    experiment, watch = load_experiment(name, ["generations=0"]), Watch(quiet=True)
    with TemporaryDirectory() as scratch, prefect_server(watch, port=0):
        path = Path(scratch) / "w.duckdb"
        say("orchestration: a generation")
        generation = taken(lambda: _run(path, experiment)).wall
        generations = experiment.generations + 1
        with Warehouse(path) as store:

            def stages(do: Stages) -> None:
                every = (do.evaluate, do.judge, do.promote, do.evaluate, do.judge, do.evaluate)
                for _ in range(TIMES):
                    do.prepare(store, experiment, watch)
                    for stage in every:
                        stage(store, experiment, 0, watch)

            flow = prefect.flow(name="overhead", persist_result=False, validate_parameters=False)(
                stages
            )
            flow(prefect_stages())
            with_it = [taken(lambda: flow(prefect_stages())).wall for _ in range(scale.runs)]
            plain = [taken(lambda: stages(Stages())).wall for _ in range(scale.runs)]
    whole = TIMES * generation / generations
    found = [(a - b) / whole for a, b in zip(with_it, plain, strict=True)]
    target = [0.03] * len(found)
    return [compared("orchestration, share of wall time / 3%", "share", found, target)]


def workers(scale: Scale) -> list[Row]:
    """Judging by one worker and by two, that are there already; wall time until all is landed."""
    quiet()
    experiment, rows = load_experiment("tiny", ["generations=0"]), []
    with (
        TemporaryDirectory() as scratch,
        Warehouse(Path(scratch) / "w.duckdb") as store,
        prefect_server(Watch(quiet=True), port=0),
    ):
        waiting = _walks(store, experiment, scale.of(100, 1000, 5000))
        for runner in ("dask", "ray")[: scale.of(1, 2, 2)]:
            seconds: dict[int, list[float]] = {1: [], 2: []}
            for count in (1, 2) * scale.of(1, 2, 3):
                say(f"workers: {count} of {runner} judge {waiting} plans")
                seconds[count].append(
                    _judged_by(store, experiment, Workers(runner=runner, count=count))
                )
            rows.append(
                compared(f"workers, judging, two / one of {runner}", "s", seconds[2], seconds[1])
            )
    return rows


def _judged_by(store: Warehouse, experiment: Experiment, workers: Workers) -> float:
    """Wall seconds until workers have judged and landed all that waits."""
    chosen, watch = experiment.model_copy(update={"workers": workers}), Watch(quiet=True)
    tasks = sorted(task.key for task in store.tasks(experiment.id))
    with workers_of(chosen, watch) as there, landing(store, "bench") as folder:
        assert there.workers is not None
        where = str(store.place.published), experiment.model_dump_json(), 0

        def judge_all(tasks: list[str]) -> None:
            calls = [(*where, (s[0], s[-1]), str(folder)) for s in shares(tasks, workers)]
            spread(there.workers, judge_range, calls, lambda file: None)

        judge_all(tasks[:4])  # workers import what they need
        # the better of two: Ray's own services take most of a core while they start
        return min(taken(lambda: judge_all(tasks)).wall for _ in range(2))


def _walks(store: Warehouse, experiment: Experiment, each: int) -> int:
    """Give every task that many traces to be judged: legal walks of twenty actions."""
    prepare(store, experiment, Watch(quiet=True))
    rng, traces = Random(0), []
    for task in store.tasks(experiment.id):
        init = blocksworld.state_of(task.parsed.problem)
        for sample in range(each):
            plan = blocksworld.plan_of(init, blocksworld.walk(init, 10, rng)[1])
            traces.append(
                Trace(
                    id=f"{task.key}-{sample}", experiment=experiment.id, generation=0,
                    purpose="evaluate", task=task.key, sample=sample, seed=0, prompt_format="",
                    prompt_hash="", text=str(plan), token_ids=(), reasoning_tokens=0,
                    plan_tokens=0, finish_reason="stop", logprob=None, sampling_logprob=None,
                    policy="walk", code_version="",
                )
            )  # fmt: skip
    store.write(traces)
    return len(traces)
