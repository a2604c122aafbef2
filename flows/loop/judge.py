"""The stage judge: a verdict for every trace, then a check of the checker before curation.

Canaries are plans broken on purpose, which the checker must reject. Referees are other plan
checkers, whose opinions are recorded and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import nsmallest
from pathlib import Path
from random import Random

from flows.deployment.loading import NEVER_JUDGED
from flows.experiments.experiment import Experiment
from flows.experiments.tables import Workers
from flows.generations.identity import canary_id
from flows.generations.judging import (
    READING,
    VERSION,
    Again,
    CheckerOf,
    checkers,
    reading_of,
    verdict_of,
)
from flows.generations.tasks import is_whole
from flows.loop.executors import shares, spread
from flows.progress import Advance, Watch
from planners.checking.canaries import canaries
from planners.checking.checker import CHECKER
from planners.checking.holes import TASKS, exploits
from planners.checking.referees import REFEREES
from planners.errors import CanaryAccepted, CheckerDisputed, ComponentFailure, NotJudged
from planners.prompts.formats import PROMPTS
from planners.records import Outcome, derive_seed
from warehouse.landing import land, landing, take
from warehouse.records import Answer, Mark, Task
from warehouse.store import Warehouse
from warehouse.verdicts import Canary, Judgement, Opinion, Unjudged

CANARY_PLANS = 20
"""Valid plans of a generation from which canaries are made."""


def judge(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    watch: Watch,
    checker_of: CheckerOf | None = None,
) -> None:
    """Give every trace of a generation a verdict; after deployment, check the checker.

    A trace that cannot be judged in time is recorded as that, and the run goes on. `checker_of` is
    by default the checker that the experiment's settings describe.

    Raises CanaryAccepted where the checker accepts a broken plan, CheckerDisputed where a plan that
    it calls valid is not by the naive replay, and ComponentFailure where workers leave a trace
    unjudged.
    """
    # 1. Judge the traces that have no verdict of the present checker. Workers' verdicts are written
    # as they land, so that only the mark is left to write.
    checker_of = checker_of or checkers(experiment.judging.timeout)
    waiting = unjudged(warehouse, experiment, generation)
    verdicts: list[Judgement | Unjudged] = []
    with watch.bar(f"generation {generation}: judge", len(waiting)) as advance:
        if experiment.workers and waiting:
            _by_workers(warehouse, experiment, experiment.workers, generation, waiting, advance)
            _require_judged(warehouse, experiment, generation, len(waiting))
        else:
            verdicts = _judged(warehouse, experiment, waiting, checker_of, advance)
    warehouse.write(verdicts, Mark(experiment.id, generation, "judge"))
    _tell_unjudged(warehouse, experiment, waiting, watch)
    # 2. Check the checker before curation. The last generation is only evaluated, never curated.
    alone = experiment.users_alone
    if alone or is_whole(warehouse, experiment, "deploy", generation):
        _search_holes(warehouse, experiment, watch, checker_of)
        _replay_plans(warehouse, experiment, generation)
        _judge_canaries(warehouse, experiment, generation, checker_of)
        _ask_referees(warehouse, experiment, generation, watch)


def unjudged(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    tasks: tuple[str, str] | None = None,
) -> list[Answer]:
    """Traces that the present checker has not seen, grouped by task.

    `tasks` limits them to the tasks from one key to another, both included.
    """
    return warehouse.unjudged(experiment.id, generation, CHECKER, VERSION, tasks)


def _require_judged(
    warehouse: Warehouse, experiment: Experiment, generation: int, asked: int
) -> None:
    if left := unjudged(warehouse, experiment, generation):
        raise ComponentFailure(
            f"workers left {len(left)} of {asked} traces without a verdict; run again to have "
            "them judged"
        )


def _tell_unjudged(
    warehouse: Warehouse, experiment: Experiment, asked: Sequence[Answer], watch: Watch
) -> None:
    """Say how many of these traces have no verdict, and why one of them has none."""
    known = {trace.id for trace in asked}
    refused = [
        one
        for one in warehouse.every(
            Unjudged, experiment=experiment.id, checker=CHECKER, checker_version=VERSION
        )
        if one.trace in known
    ]
    if refused:
        watch.say(
            f"{len(refused)} of {len(asked)} traces are not judged, which is not invalid: "
            f'{refused[0].reason}; `posterity query "FROM unjudged"` lists them'
        )


def _judged(
    warehouse: Warehouse,
    experiment: Experiment,
    waiting: Sequence[Answer],
    checker_of: CheckerOf,
    advance: Advance = lambda count: None,
) -> list[Judgement | Unjudged]:
    """Verdicts on traces, which must come grouped by task. What no checker can judge, another
    version of it cannot either.
    """
    tasks = {task.key: task for task in warehouse.tasks_of_traces(experiment.id)}
    before = warehouse.every(Unjudged, experiment=experiment.id)
    never = {one.trace: one for one in before if one.reason in NEVER_JUDGED}
    judge_one = Again(tasks, PROMPTS[experiment.model.prompt], checker_of)
    verdicts: list[Judgement | Unjudged] = []
    for trace in waiting:
        known = never.get(trace.id)
        verdicts.append(replace(known, checker_version=VERSION) if known else judge_one(trace))
        advance(1)
    return verdicts


def _by_workers(
    warehouse: Warehouse, experiment: Experiment, workers: Workers, generation: int,
    waiting: Sequence[Answer], advance: Advance,
) -> None:  # fmt: skip
    """Let workers judge, one range of tasks per call, and write the verdicts that they land."""
    tasks = sorted({trace.task for trace in waiting})
    with landing(warehouse, f"{experiment.id}-{generation}-judge") as folder:
        where = str(warehouse.place.published), experiment.model_dump_json(), generation
        calls = [(*where, (share[0], share[-1]), str(folder)) for share in shares(tasks, workers)]

        def write_down(landed: list[str]) -> None:
            for file in landed:
                advance(take(warehouse, Path(file)))

        spread(workers, judge_range, calls, write_down)


def judge_range(
    warehouse: str, experiment: str, generation: int, tasks: tuple[str, str], folder: str
) -> list[str]:
    """On a worker: judge a range of tasks' waiting traces, land the verdicts, return the files."""
    settings = Experiment.model_validate_json(experiment)
    with Warehouse(warehouse, read_only=True) as store:
        waiting = unjudged(store, settings, generation, tasks)
        found = _judged(store, settings, waiting, checkers(settings.judging.timeout))
    return [
        str(land(Path(folder), kind, records))
        for kind in (Judgement, Unjudged)
        if (records := [one for one in found if isinstance(one, kind)])
    ]


def _search_holes(
    warehouse: Warehouse, experiment: Experiment, watch: Watch, checker_of: CheckerOf
) -> None:
    """Judge plans that only a checker with a hole accepts, once for each version of the checker.

    They are searched on the smallest training tasks of each domain. Raises CanaryAccepted, before
    anything is curated, if the checker accepts one.
    """
    stage = f"holes {VERSION}"
    if warehouse.done(experiment.id, 0, stage):
        return
    by_domain: dict[str, list[Task]] = {}
    for task in warehouse.tasks(experiment.id, "train"):
        by_domain.setdefault(task.domain_hash, []).append(task)
    judged = []
    with watch.bar("plans that only a checker with a hole accepts", len(by_domain)) as advance:
        for tasks in by_domain.values():
            small = nsmallest(
                TASKS, tasks, key=lambda one: (len(one.parsed.problem.objects), one.key)
            )
            known = {one.key: one for one in small}
            for exploit in exploits([one.parsed for one in small]):
                task = known[exploit.task.key]
                verdict = checker_of(task.domain_pddl, task.pddl).check(exploit.plan)
                kind, text = f"hole: {exploit.hole}", str(exploit.plan)
                id = canary_id(experiment.id, 0, task.key, kind, text)
                outcome = verdict.outcome.value
                judged.append(Canary(id, experiment.id, 0, task.key, kind, text, outcome))
            advance(1)
    _require_rejected(warehouse, judged)
    warehouse.write(judged, Mark(experiment.id, 0, stage))


def _require_rejected(warehouse: Warehouse, judged: Sequence[Canary]) -> None:
    """Raise CanaryAccepted if the checker accepted one of these plans."""
    accepted = [canary for canary in judged if canary.outcome == Outcome.VALID.value]
    if accepted:
        warehouse.write(judged)  # to look at; without the mark, so that the next run asks again
        raise CanaryAccepted(
            f"the checker accepted {len(accepted)} of {len(judged)} plans broken on purpose, for "
            f"example {accepted[0].kind!r} on task {accepted[0].task}; nothing was curated: look "
            "at them with `posterity query \"FROM canaries WHERE outcome = 'VALID'\"`"
        )


def _replay_plans(warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
    """Replay plans that the checker calls valid. Raises CheckerDisputed, before curation, if one
    is not: the naive replay shares no code with the checker, so that one of them is wrong.
    """
    if warehouse.done(experiment.id, generation, "canaries"):
        return
    asked = _with_plans(warehouse, experiment, generation, experiment.judging.traces, "VALID")
    opinions = [
        opinion
        for task, trace in asked
        for opinion in _opinions(experiment, task, trace, ["replay"])
    ]
    warehouse.write(opinions)
    if disputed := [one for one in opinions if one.valid is False]:
        raise CheckerDisputed(
            f"{len(disputed)} of {len(opinions)} plans that the checker calls valid are not by our "
            f"naive replay, for example that of trace {disputed[0].trace}; nothing was curated: "
            'look at them with `posterity query "FROM disagreements"`'
        )


def _judge_canaries(
    warehouse: Warehouse, experiment: Experiment, generation: int, checker_of: CheckerOf
) -> None:
    """Judge plans broken on purpose. Raises CanaryAccepted, before curation, if one is accepted."""
    if warehouse.done(experiment.id, generation, "canaries"):
        return
    judged = [
        canary
        for task, trace in _with_plans(warehouse, experiment, generation, CANARY_PLANS, "VALID")
        for canary in _canaries(experiment, generation, task, trace, checker_of)
    ]
    _require_rejected(warehouse, judged)
    warehouse.write(judged, Mark(experiment.id, generation, "canaries"))


def _canaries(
    experiment: Experiment, generation: int, task: Task, trace: Answer, checker_of: CheckerOf
) -> Iterator[Canary]:
    """Canaries made from a valid trace, each with its verdict."""
    prompt = PROMPTS[experiment.model.prompt]
    checker = checker_of(task.domain_pddl, task.pddl)
    plan = reading_of(trace.prompt_format, prompt).read(checker.task, trace.text).plan
    rng = Random(derive_seed(experiment.seed, generation, "canaries", task.key))
    for canary in canaries(checker.task, plan, rng) if plan else ():
        try:
            # In the task's own names, which the prompt's format may read as nobody's.
            _, verdict = verdict_of(checker, canary.text, "stop", READING)
        except NotJudged:
            continue  # no verdict tells nothing about the checker
        yield Canary(
            canary_id(experiment.id, generation, task.key, canary.kind, canary.text),
            experiment.id,
            generation,
            task.key,
            canary.kind,
            canary.text,
            verdict.outcome.value,
        )


def _with_plans(
    warehouse: Warehouse, experiment: Experiment, generation: int, count: int,
    outcome: str | None = None,
) -> list[tuple[Task, Answer]]:  # fmt: skip
    """The first deployed traces that hold a plan, of one outcome if given, each with its task; of
    an experiment that puts none of our tasks to work, the first evaluated ones.
    """
    alone = experiment.users_alone
    tasks = {task.key: task for task in warehouse.tasks(experiment.id)}
    purpose = "evaluate" if alone else "deploy"
    found = warehouse.with_plans(experiment.id, generation, count, purpose, outcome)
    return [(tasks[trace.task], trace) for trace in found]


def _ask_referees(
    warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch
) -> None:
    """Record the referees' opinions on the first plans; they change no verdict."""
    settings = experiment.judging
    if not settings.referees or warehouse.done(experiment.id, generation, "referees"):
        return
    asked = _with_plans(warehouse, experiment, generation, settings.traces)
    opinions: list[Opinion] = []
    with watch.bar(f"generation {generation}: referees", len(asked)) as advance:
        for task, trace in asked:
            opinions += _opinions(experiment, task, trace, settings.referees)
            advance(1)
    warehouse.write(opinions, Mark(experiment.id, generation, "referees"))


def _opinions(
    experiment: Experiment, task: Task, trace: Answer, referees: Sequence[str]
) -> Iterator[Opinion]:
    """The opinions of some referees on the plan of a trace, which must hold one."""
    prompt = reading_of(trace.prompt_format, PROMPTS[experiment.model.prompt])
    plan = prompt.read(task.parsed, trace.text).plan
    assert plan is not None
    for referee in referees:
        [said] = REFEREES[referee](task.domain_pddl, task.pddl, [plan])
        yield Opinion(trace.id, referee, said.valid, said.note)
