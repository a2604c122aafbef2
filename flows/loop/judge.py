"""The stage judge: a verdict for every trace, and canaries before anything is curated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from random import Random

from flows.experiments.experiment import Experiment
from flows.experiments.tables import Workers
from flows.generations.identity import canary_id
from flows.generations.judging import VERSION, judgement, verdict_of
from flows.loop.executors import shares, spread
from flows.progress import Advance, Watch
from planners.checking.canaries import canaries
from planners.checking.checker import CHECKER, Checker, checker_for
from planners.checking.referees import REFEREES
from planners.errors import CanaryAccepted, ComponentFailure
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS
from planners.records import Outcome, derive_seed
from warehouse import schema
from warehouse.landing import land, landing, take
from warehouse.store import Row, Warehouse

CheckerOf = Callable[[str, str], Checker]
"""Domain and problem text to the checker that judges."""
CANARY_PLANS = 20
"""Valid plans of a generation that canaries are made of."""


def judge(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    watch: Watch,
    checker_of: CheckerOf = checker_for,
) -> None:
    """Give every trace of a generation its verdict, and its canaries theirs."""
    waiting = unjudged(warehouse, experiment, generation)
    verdicts: list[Row] = []
    with watch.bar(f"generation {generation}: judge", len(waiting)) as advance:
        if experiment.workers and waiting:
            _by_workers(warehouse, experiment, experiment.workers, generation, waiting, advance)
            if left := unjudged(warehouse, experiment, generation):
                raise ComponentFailure(
                    f"workers left {len(left)} of {len(waiting)} traces without a verdict; run "
                    "again to have them judged"
                )
        else:
            verdicts = _judged(warehouse, experiment, waiting, checker_of, advance)
    warehouse.record({schema.judgements: verdicts}, (experiment.id, generation, "judge", 0))
    if warehouse.done(experiment.id, generation, "deploy"):  # the last generation is only evaluated
        _judge_canaries(warehouse, experiment, generation, checker_of)
        _ask_referees(warehouse, experiment, generation, watch)


def unjudged(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    tasks: tuple[str, str] | None = None,
) -> list[Row]:
    """Traces without a verdict of the present checker; of a range of tasks, where one is given."""
    return warehouse.unjudged(experiment.id, generation, CHECKER, VERSION, tasks)


def _judged(
    warehouse: Warehouse,
    experiment: Experiment,
    waiting: Sequence[Row],
    checker_of: CheckerOf = checker_for,
    advance: Advance = lambda count: None,
) -> list[Row]:
    """Verdicts on traces that are grouped by task."""
    tasks = {task["task"]: task for task in warehouse.tasks(experiment.id)}
    prompt = PROMPTS[experiment.model.prompt]
    verdicts: list[Row] = []
    for key, traces in groupby(waiting, key=lambda trace: trace["task"]):
        checker = checker_of(tasks[key]["domain_pddl"], tasks[key]["pddl"])
        for trace in traces:
            verdicts.append(judgement(checker, trace, prompt))
            advance(1)
    return verdicts


def _by_workers(
    warehouse: Warehouse, experiment: Experiment, workers: Workers, generation: int,
    waiting: Sequence[Row], advance: Advance,
) -> None:  # fmt: skip
    """Let workers judge, each call a range of tasks; what they land is written down."""
    tasks = sorted({trace["task"] for trace in waiting})
    with landing(warehouse, f"{experiment.id}-{generation}-judge") as folder:
        where = str(warehouse.place.published), experiment.model_dump_json(), generation
        calls = [(*where, (share[0], share[-1]), str(folder)) for share in shares(tasks, workers)]
        spread(workers, judge_range, calls, lambda file: advance(take(warehouse, Path(file))))


def judge_range(
    warehouse: str, experiment: str, generation: int, tasks: tuple[str, str], folder: str
) -> str:
    """On a worker: judge what waits of a range of tasks, and land the verdicts; gives the file."""
    settings = Experiment.model_validate_json(experiment)
    with Warehouse(warehouse, read_only=True) as store:
        verdicts = _judged(store, settings, unjudged(store, settings, generation, tasks))
    return str(land(Path(folder), schema.judgements, verdicts))


def _judge_canaries(
    warehouse: Warehouse, experiment: Experiment, generation: int, checker_of: CheckerOf
) -> None:
    """Judge plans broken on purpose; one that is accepted stops the loop before curation."""
    if warehouse.done(experiment.id, generation, "canaries"):
        return
    tasks = {task["task"]: task for task in warehouse.tasks(experiment.id, "train")}
    prompt = PROMPTS[experiment.model.prompt]
    rows: list[Row] = []
    for trace in warehouse.judged(experiment.id, generation, "VALID", CANARY_PLANS):
        task = tasks[trace["task"]]
        checker = checker_of(task["domain_pddl"], task["pddl"])
        plan = prompt.read(checker.task, trace["text"]).plan
        rng = Random(derive_seed(experiment.seed, generation, "canaries", trace["task"]))
        for canary in canaries(checker.task, plan, rng) if plan else ():
            judged = verdict_of(checker, canary.text, "stop", prompt)
            rows.append(
                {
                    "canary": canary_id(
                        experiment.id, generation, trace["task"], canary.kind, canary.text
                    ),
                    "experiment": experiment.id,
                    "generation": generation,
                    "task": trace["task"],
                    "kind": canary.kind,
                    "text": canary.text,
                    "outcome": judged["outcome"],
                }
            )
    accepted = [row for row in rows if row["outcome"] == Outcome.VALID.value]
    if accepted:
        warehouse.record({schema.canaries: rows})
        raise CanaryAccepted(
            f"the checker accepted {len(accepted)} of {len(rows)} plans broken on purpose, for "
            "example "
            f"{accepted[0]['kind']!r} on task {accepted[0]['task']}; nothing was curated: look "
            "at them "
            "with `posterity query \"SELECT * FROM canaries WHERE outcome = 'VALID'\"`"
        )
    warehouse.record({schema.canaries: rows}, (experiment.id, generation, "canaries", 0))


def _ask_referees(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch
) -> None:
    """Record what the experiment's referees say of the first plans; they decide nothing."""
    settings = experiment.judging
    if not settings.referees or warehouse.done(experiment.id, generation, "referees"):
        return
    tasks = {task["task"]: task for task in warehouse.tasks(experiment.id, "train")}
    prompt = PROMPTS[experiment.model.prompt]
    traces = warehouse.judged(experiment.id, generation, "%", settings.traces)
    rows: list[Row] = []
    with watch.bar(f"generation {generation}: referees", len(traces)) as advance:
        for trace in traces:
            task = tasks[trace["task"]]
            plan = prompt.read(read_task(task["domain_pddl"], task["pddl"]), trace["text"]).plan
            assert plan is not None  # `judged` chose traces that hold one
            for referee in settings.referees:
                [opinion] = REFEREES[referee](task["domain_pddl"], task["pddl"], [plan])
                rows.append({"trace": trace["trace"], "referee": referee, **asdict(opinion)})
            advance(1)
    warehouse.record({schema.opinions: rows}, (experiment.id, generation, "referees", 0))
