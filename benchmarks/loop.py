"""The whole loop against a plain script; what Prefect takes of it; what a second worker brings."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.harness import Row, both_seconds, compared, say
from flows.experiment import Experiment
from flows.iterate import Stages, iterate
from flows.judge import judge_range
from flows.orchestrate import prefect_stages
from flows.prepare import prepare
from flows.progress import Watch, summary
from flows.server import prefect_server, quiet
from flows.settings import load_experiment
from flows.spread import shares, spread, workers_of
from flows.tables import Workers
from planners.base import embedded_base
from planners.domains import blocksworld
from planners.domains.folder import SPLITS
from planners.pddl import Task, read_task
from warehouse import schema
from warehouse.landing import landing
from warehouse.store import Warehouse

SMALL = (
    "generations=1", "tasks.train.count=150", "tasks.heldout.count=30", "tasks.larger.count=20",
    "deploy.samples=8", "training.steps=60",
)  # fmt: skip
"""The quickstart's work at a size that the peer does in minutes."""
TIMES = 5
"""Generations with nothing to do, in a row: what each takes is small."""
TINY = ("generations=1", "deploy.samples=4", "training.steps=20")


def loops(fast: bool) -> list[Row]:
    """Everything from tasks to the next generation's coverage, over three seeds."""
    seeds = range(1 if fast else 3)
    preset, changes = ("tiny", TINY) if fast else ("quickstart", SMALL)
    both = [_both(load_experiment(preset, [*changes, f"seed={seed}"])) for seed in seeds]
    ours, theirs = zip(*both, strict=True)
    name = "loop, a generation / TRL, VAL and JSON Lines"
    return [
        compared(f"{name}, CPU time", "CPU s", [r.cpu for r in ours], [r.cpu for r in theirs]),
        compared(name, "s", [r.wall for r in ours], [r.wall for r in theirs]),
        compared("loop, tasks left unsolved / TRL, VAL and JSON Lines", "share",
                 [r.unsolved for r in ours], [r.unsolved for r in theirs]),
    ]  # fmt: skip


class Result(NamedTuple):
    """What a loop took, and the share of training tasks that its last generation does not solve."""

    cpu: float
    wall: float
    unsolved: float


def _both(experiment: Experiment) -> tuple[Result, Result]:
    """Ours, and the peer's on the same tasks."""
    from benchmarks import peer_loop

    say(f"loop, seed {experiment.seed}")
    base = embedded_base(["blocksworld"])
    with TemporaryDirectory() as scratch:
        folder, coverage = Path(scratch), list[float]()
        path = folder / "w.duckdb"
        ours = both_seconds(lambda: _run(path, experiment))
        tasks = _tasks(path, experiment)
        theirs = both_seconds(
            lambda: coverage.append(peer_loop.run(experiment, base, tasks, folder))
        )
        with Warehouse(path, read_only=True) as store:
            mine = summary(store, experiment.id)[-1]["coverage"]
    return Result(*ours, 1 - mine), Result(*theirs, 1 - coverage[0])


def _run(path: Path, experiment: Experiment) -> None:
    with Warehouse(path) as store:
        iterate(store, experiment, Watch(quiet=True))


def _tasks(path: Path, experiment: Experiment) -> dict[str, list[Task]]:
    with Warehouse(path, read_only=True) as store:
        return {
            split: [
                read_task(task["domain_pddl"], task["pddl"])
                for task in store.tasks(experiment.id, split)
            ]
            for split in SPLITS
        }


def orchestrations(fast: bool) -> list[Row]:
    """Prefect's share of a generation: the same stages with nothing to do, as tasks of a flow on a
    server that runs, less as plain functions; over a generation of the quickstart that does it all.
    """
    quiet()
    import prefect

    name, changes = ("tiny", ()) if fast else ("quickstart", ("generations=0",))
    experiment, watch = load_experiment(name, list(changes)), Watch(quiet=True)
    with TemporaryDirectory() as scratch, prefect_server(watch, port=0):
        path = Path(scratch) / "w.duckdb"
        say("orchestration: a generation")
        generation = both_seconds(lambda: _run(path, experiment))[1]
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
            with_it = [both_seconds(lambda: flow(prefect_stages()))[1] for _ in range(3)]
            plain = [both_seconds(lambda: stages(Stages()))[1] for _ in range(3)]
    whole = TIMES * generation / generations
    taken = [(a - b) / whole for a, b in zip(with_it, plain, strict=True)]
    target = [0.03] * len(taken)
    return [compared("orchestration, share of wall time / 3%", "share", taken, target)]


def workers(fast: bool) -> list[Row]:
    """Judging by one worker and by two, that are there already; wall time until all is landed."""
    quiet()
    experiment, rows = load_experiment("tiny", ["generations=0"]), []
    with (
        TemporaryDirectory() as scratch,
        Warehouse(Path(scratch) / "w.duckdb") as store,
        prefect_server(Watch(quiet=True), port=0),
    ):
        waiting = _walks(store, experiment, 200 if fast else 5000)
        for runner in ("dask", "ray"):
            seconds: dict[int, list[float]] = {1: [], 2: []}
            for count in (1, 2) * 3:
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
    tasks = sorted(task["task"] for task in store.tasks(experiment.id))
    with workers_of(chosen, watch) as there, landing(store, "bench") as folder:
        assert there.workers is not None
        where = str(store.place.published), experiment.model_dump_json(), 0

        def judge_all(tasks: list[str]) -> None:
            calls = [(*where, (s[0], s[-1]), str(folder)) for s in shares(tasks, workers)]
            spread(there.workers, judge_range, calls, lambda file: None)

        judge_all(tasks[:4])  # workers import what they need
        # the better of two: Ray's own services take most of a core while they start
        return min(both_seconds(lambda: judge_all(tasks))[1] for _ in range(2))


def _walks(store: Warehouse, experiment: Experiment, each: int) -> int:
    """Give every task that many traces to be judged: legal walks of twenty actions."""
    prepare(store, experiment, Watch(quiet=True))
    rng, traces = Random(0), []
    for task in store.tasks(experiment.id):
        init = blocksworld.state_of(read_task(task["domain_pddl"], task["pddl"]).problem)
        for sample in range(each):
            plan = blocksworld.plan_of(init, blocksworld.walk(init, 10, rng)[1])
            traces.append(
                {
                    "trace": f"{task['task']}-{sample}", "experiment": experiment.id,
                    "generation": 0, "purpose": "evaluate", "task": task["task"],
                    "sample": sample, "seed": 0,
                    "prompt_format": "", "prompt_hash": "", "text": str(plan), "token_ids": [],
                    "reasoning_tokens": 0, "plan_tokens": 0, "finish_reason": "stop",
                    "policy": "walk", "code_version": "",
                }
            )  # fmt: skip
    store.record({schema.traces: traces})
    return len(traces)
