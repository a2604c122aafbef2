"""Loads what users were answered into the warehouse, judged, each line exactly once."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from flows.deployment.answered import Answered, Told, of_line
from flows.deployment.log import complete_segments, lines_of
from flows.experiments.experiment import Experiment
from flows.experiments.reading import recorded_settings
from flows.generations.identity import CODE_VERSION
from flows.generations.judging import VERSION, judgement, reading_of
from flows.generations.lineage import ancestors
from planners.checking.checker import CHECKER, PLAN_SECONDS, checker_for
from planners.errors import Busy, PosterityError, Waiting
from planners.records import content_hash
from warehouse.findings import Forgotten
from warehouse.places.connect import Place, for_a_moment, place_of
from warehouse.records import Domain, Feedback, Landed, Record, Request, Task, Trace, utc
from warehouse.store import Warehouse
from warehouse.verdicts import Unjudged

TEXT = (
    """(define (domain text) (:requirements :strips) (:predicates (answered))
  (:action wait :parameters () :precondition (answered) :effect (answered)))
""",
    "(define (problem text) (:domain text) (:init) (:goal (answered)))\n",
)
"""The task of prompts that hold no planning task; no plan reaches its goal, not even none."""
REQUESTS = "requests"
"""The folder of the log, in that where rows are landed."""
UNREADABLE = "unreadable.jsonl"
"""The file beside that folder that keeps lines which this version cannot read."""
OWN_PURPOSE = ("correction", "shadow")
"""Endpoints whose traces have a purpose of the same name; of all others it is request."""
NO_TASK = "its prompt holds no planning task"
OTHER_NAMES = "its prompt gave the objects other names than the task has in the warehouse"
NEVER_JUDGED = (NO_TASK, OTHER_NAMES)
First = Callable[[Task], Task]
"""Gives a task as it was first written: with its objects and facts in another order, perhaps."""


def requests_folder(place: Place) -> Path:
    """Where the answers to users are written down before they are in the warehouse."""
    return place.landing / REQUESTS


def load_requests(warehouse: Warehouse) -> int:
    """Load every segment of the log that nobody writes to any more, then delete it. Its rows and
    the record that it was loaded are written in one transaction. What is said of a trace that was
    forgotten, or stands beside one, is dropped. Returns how many lines could not be read.
    """
    unreadable, folder = 0, requests_folder(warehouse.place)
    if not folder.is_dir():
        return unreadable
    segments = complete_segments(folder)
    known = {one.file for one in warehouse.every(Landed, file=[one.name for one in segments])}
    for segment in segments:
        if segment.name not in known:
            unreadable += _load(warehouse, segment)
        segment.unlink(missing_ok=True)
    return unreadable


def _load(warehouse: Warehouse, segment: Path) -> int:
    rows, told, gone = list[Record](), list[Told](), set(warehouse.forgotten())
    answers, unreadable = 0, list[bytes]()
    seen: dict[str, Task] = {}
    patience: dict[str, float] = {}

    def seconds(experiment: str) -> float:
        """The time that an experiment gives the checker for a plan."""
        if experiment not in patience:
            stored = warehouse.experiment(experiment)
            settings = recorded_settings(stored.config) if stored else {}
            patience[experiment] = settings.get("judging", {}).get("timeout", PLAN_SECONDS)
        return patience[experiment]

    def first(task: Task) -> Task:
        if task.key not in seen:
            stored = warehouse.task(task.key)
            seen[task.key] = task if stored is None or not stored.pddl else stored
        return seen[task.key]

    for line in lines_of(segment):
        try:
            read = of_line(line)
            if isinstance(read, Told):
                if read.trace not in gone:
                    told.append(read)
            elif read.corrects not in gone:
                # All of them, or none where one is refused.
                rows += [*records_of(read, first, seconds(read.experiment))]
                answers += 1
            else:  # nor is what corrects it known, or judged, from now on
                gone.add(read.trace)
                rows.append(
                    Forgotten(
                        read.trace, read.experiment, read.generation, "", content_hash(read.text),
                        utc(datetime.now(UTC)),
                    )
                )  # fmt: skip
        except PosterityError:  # of another version, perhaps: kept beside the log, for that one
            unreadable.append(line)
    feedback = [
        Feedback(one.trace, one.accepted, one.score, one.comment, one.user, utc(one.given))
        for one in told
        if one.trace not in gone
    ]
    if unreadable:  # first: after the rows, the segment is never read again, and may go
        with (segment.parent.parent / UNREADABLE).open("a+b") as kept:
            kept.seek(0)
            known = set(kept)  # of a try before this one
            kept.writelines(line for line in unreadable if line not in known)
            kept.flush()
            os.fsync(kept.fileno())
    warehouse.hear(feedback, [*rows, Landed(segment.name, answers + len(feedback))])
    return len(unreadable)


def records_of(answer: Answered, first: First, seconds: float = PLAN_SECONDS) -> Iterable[Record]:
    """The records of an answer: its task, trace, request and verdict, or why it has none, where the
    checker has so many seconds.
    """
    domain, task = _task(answer)
    trace = Trace(
        id=answer.trace,
        experiment=answer.experiment,
        generation=answer.generation,
        purpose=answer.endpoint if answer.endpoint in OWN_PURPOSE else "request",
        task=task.key,
        sample=0,
        seed=answer.seed,
        prompt_format=answer.prompt_format,
        prompt_hash=content_hash(answer.prompt),
        text=answer.text,
        token_ids=answer.token_ids,
        reasoning_tokens=answer.reasoning_tokens,
        plan_tokens=answer.plan_tokens,
        finish_reason=answer.finish_reason,
        logprob=answer.logprob,
        sampling_logprob=answer.sampling_logprob,
        policy=answer.policy,
        code_version=CODE_VERSION,
        written_at=utc(answer.received),
        turn_characters=answer.turn_characters,
        turn_tokens=answer.turn_tokens,
    )
    yield domain
    yield task
    yield trace
    yield Request(
        trace=trace.id,
        nonce=answer.nonce,
        endpoint=answer.endpoint,
        received_at=utc(answer.received),
        latency_ms=answer.latency_ms,
        weights_hash=answer.weights,
        prompt=answer.prompt,
        settings=_json(answer.settings) or "{}",
        user_hash=answer.user,
        session_hash=answer.session,
        metadata=_json(answer.metadata),
        corrects=answer.corrects,
    )
    if answer.problem is None:
        yield Unjudged(trace.id, CHECKER, VERSION, NO_TASK, trace.experiment)
        return
    written, kept = reading_of(answer.prompt_format), first(task)
    if kept.pddl != task.pddl and written.names(kept.parsed) != written.names(task.parsed):
        # Read with the stored task's names it would be another plan.
        yield Unjudged(trace.id, CHECKER, VERSION, OTHER_NAMES, trace.experiment)
    else:
        checker = checker_for(task.domain_pddl, task.pddl, timeout=seconds)
        yield judgement(checker, trace, written)


def _task(answer: Answered) -> tuple[Domain, Task]:
    """The task that an answer's prompt holds, or one that stands for a text without any."""
    text, problem = TEXT
    if answer.domain is not None and answer.problem is not None:
        text, problem = answer.domain, answer.problem
    task = checker_for(text, problem).task
    domain = Domain.of(task.domain.name, text)
    return domain, Task.of(domain, task.key, len(task.problem.objects), None, problem)


def _json(content: object) -> str | None:
    return None if content is None else json.dumps(content, sort_keys=True)


def require_enough(warehouse: Warehouse, experiment: Experiment, generation: int) -> None:
    """Load what users were answered. Raises Waiting where the next generation would learn from
    fewer new traces of theirs than the experiment asks for.
    """
    load_requests(warehouse)
    if experiment.deployment is None or warehouse.done(experiment.id, generation, "curate"):
        return
    new, fewest = new_answers(warehouse, experiment, generation), experiment.deployment.fewest
    if new < fewest:
        raise Waiting(
            f"generation {generation} of {experiment.id} waits for users: {new} of at least "
            f"{fewest} new answers (deployment.fewest); `posterity deploy` puts the present one "
            "before them"
        )


def new_answers(warehouse: Warehouse, experiment: Experiment, generation: int) -> int:
    """How many answers that users were given a generation could learn, and none before it did."""
    lineage = ancestors(warehouse, experiment, generation)
    found = warehouse.query("requests_since", experiment=experiment.id, lineage=lineage)
    return int(found["requests"][0])


def main(warehouse: str, seconds: float) -> None:
    """Load what there is every few seconds, unless another process has the warehouse, and once more
    when standard input closes.
    """
    place = place_of(warehouse)
    folder, ends = requests_folder(place), False
    while not ends:
        ends = bool(select.select([sys.stdin], [], [], seconds)[0])
        if not (folder.is_dir() and complete_segments(folder)):
            continue
        try:
            with for_a_moment(place), Warehouse(place) as store:
                unreadable = load_requests(store)
                store.publish()
            if unreadable:
                print(
                    f"loading: {unreadable} lines cannot be read, and are kept in "
                    f"{place.landing / UNREADABLE}",
                    file=sys.stderr,
                    flush=True,
                )
        except Busy:
            pass  # a run has it, and loads what there is before its next generation
        except PosterityError as error:
            print(f"loading: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
