"""Loads what users were answered into the warehouse, judged, each line exactly once."""

from __future__ import annotations

import json
import os
import select
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from flows.deployment.answered import Answered, Told, of_line
from flows.deployment.log import complete_segments, lines_of
from flows.experiments.experiment import Experiment
from flows.generations.identity import CODE_VERSION
from flows.generations.judging import VERSION, judgement, reading_of, seconds_for
from flows.generations.lineage import ancestors
from flows.generations.tasks import brought
from planners.checking.checker import CHECKER, checker_for
from planners.errors import Busy, PosterityError, Waiting
from planners.prompts.formats import PromptFormat
from planners.records import content_hash
from warehouse.findings import Forgotten
from warehouse.places.connect import Place, for_a_moment, place_of
from warehouse.records import Domain, Feedback, Landed, Record, Request, Task, Trace, utc
from warehouse.store import Warehouse
from warehouse.verdicts import Judgement, Unjudged

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
SLOW = 0.1
"""Seconds from which a verdict is remembered, and not found again."""
PASS = 60.0
"""Seconds of judging after which what is judged is loaded."""
Slow = dict[str, Judgement | Unjudged]
"""Verdicts that took long, by their trace."""


def requests_folder(place: Place) -> Path:
    """Where the answers to users are written down before they are in the warehouse."""
    return place.landing / REQUESTS


def load_requests(
    warehouse: Warehouse, segments: Sequence[Path] | None = None, slow: Slow | None = None
) -> int:
    """Load every segment of the log that nobody writes to any more, or these, then delete it. Its
    rows and the record that it was loaded are written in one transaction. What is said of a trace
    that was forgotten, or stands beside one, is dropped. Returns how many lines could not be read.
    """
    unreadable, folder = 0, requests_folder(warehouse.place)
    if not folder.is_dir():
        return unreadable
    segments = complete_segments(folder) if segments is None else segments
    reader = Reader(warehouse, {} if slow is None else slow)
    known = {one.file for one in warehouse.every(Landed, file=[one.name for one in segments])}
    for segment in segments:
        if segment.name not in known:
            unreadable += _load(warehouse, segment, reader)
        segment.unlink(missing_ok=True)
    return unreadable


def judge_beforehand(
    place: Place, segments: Iterable[Path], slow: Slow, seconds: float = PASS
) -> Iterator[Path]:
    """Find the verdicts of these segments' answers that take long, as the warehouse was published:
    who loads them keeps everybody else waiting. Yields those that are ready to be loaded, for about
    so many seconds; what `slow` has by then is found no more.
    """
    if place.published.is_new:
        yield from segments
        return
    with Warehouse(place.published, read_only=True) as store:
        reader, begun = Reader(store, slow), monotonic()
        for segment in segments:
            with suppress(FileNotFoundError):  # a run, or another gateway's loader, was faster
                for line in lines_of(segment):
                    if monotonic() - begun > seconds:
                        return
                    with suppress(PosterityError):
                        if isinstance(read := of_line(line), Answered):
                            deque(reader.records(read), maxlen=0)
            yield segment


def _load(warehouse: Warehouse, segment: Path, reader: Reader) -> int:
    rows, told, gone = list[Record](), list[Told](), set(warehouse.forgotten())
    answers, unreadable = 0, list[bytes]()
    for line in lines_of(segment):
        try:
            read = of_line(line)
            if isinstance(read, Told):
                if read.trace not in gone:
                    told.append(read)
            elif read.corrects not in gone:
                rows += [*reader.records(read)]  # all of them, or none where one is refused
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


@dataclass(slots=True)
class Reader:
    """Makes records of answers. `slow` has the verdicts that took long: nothing changes them."""

    warehouse: Warehouse
    slow: Slow
    tasks: dict[str, Task] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def records(self, answer: Answered) -> Iterable[Record]:
        """The records of an answer: its task, trace, request and verdict, or why it has none."""
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
        written, kept = reading_of(answer.prompt_format), self._first(task)
        if kept.pddl != task.pddl and written.names(kept.parsed) != written.names(task.parsed):
            # Read with the stored task's names it would be another plan.
            yield Unjudged(trace.id, CHECKER, VERSION, OTHER_NAMES, trace.experiment)
        else:
            yield self._judged(task, trace, written)

    def _first(self, task: Task) -> Task:
        """The task as it was first written, perhaps with its objects and facts in another order."""
        if task.key not in self.tasks:
            stored = self.warehouse.task(task.key)
            self.tasks[task.key] = task if stored is None or not stored.pddl else stored
        return self.tasks[task.key]

    def _judged(self, task: Task, trace: Trace, written: PromptFormat) -> Judgement | Unjudged:
        """The verdict, in the time that the experiment gives the checker for a plan."""
        if trace.experiment not in self.seconds:
            self.seconds[trace.experiment] = seconds_for(self.warehouse, trace.experiment)
        if (known := self.slow.get(trace.id)) is not None:
            return known
        begun, seconds = monotonic(), self.seconds[trace.experiment]
        checker = checker_for(task.domain_pddl, task.pddl, timeout=seconds)
        found = judgement(checker, trace, written)
        if monotonic() - begun > SLOW:
            self.slow[trace.id] = found
        return found


def _task(answer: Answered) -> tuple[Domain, Task]:
    """The task that an answer's prompt holds, or one that stands for a text without any."""
    text, problem = TEXT
    if answer.domain is not None and answer.problem is not None:
        text, problem = answer.domain, answer.problem
    return brought(text, checker_for(text, problem).task, problem)


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
    seen, slow = set[Path](), Slow()
    while not ends:
        ends = bool(select.select([sys.stdin], [], [], seconds)[0])
        segments = complete_segments(folder) if folder.is_dir() else []
        if not segments:
            continue
        try:
            new = [one for one in segments if one not in seen]
            last = PASS / 4 if ends else PASS  # the gateway waits for the last ones
            seen = {*seen, *judge_beforehand(place, new, slow, last)} & set(segments)
            ready = [one for one in segments if one in seen]
            with for_a_moment(place), Warehouse(place) as store:
                unreadable = load_requests(store, ready, slow)
                store.publish()
            if len(ready) == len(segments):  # else the rest goes on from what is found by now
                slow = Slow()
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
