"""Judges traces made elsewhere and adds them to the warehouse. Adding them again changes nothing.

The input is JSON Lines, one object per line: `completion` and either `task` (a warehouse key) or
`problem` with `domain` (PDDL, or a built-in domain's name). Optional: `model`, `finish_reason`,
`logprob`, `sampling_logprob`, `feedback` ("accept" or "reject"; of one trace the last line's
counts) and `time` (ISO 8601). Or it is what another tool exports (`flows.importing.formats`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO

from pydantic import ValidationError
from pydantic_core import from_json

from flows.generations.identity import CODE_VERSION, INGESTED_FORMAT, ingested_id
from flows.generations.judging import READING, judgement
from flows.generations.tasks import brought
from flows.importing.formats import FORMATS, Read, imported
from flows.importing.line import Line
from planners.checking.checker import checker_for
from planners.domains import pddl_of
from planners.errors import InvalidInput, problem, require_one_of
from planners.prompts.extraction import split_reasoning
from planners.records import IDENTITY, INGESTED
from warehouse import records, schema
from warehouse.records import NO_SETTINGS, Feedback, Record, Trace, utc
from warehouse.store import Warehouse
from warehouse.verdicts import Unjudged

LONGEST = 8 * 2**20
"""Bytes of the longest line that is read."""
BATCH = 2000
"""Lines per transaction."""
OWN_FORM = "posterity"
"""The name of our own format."""


@dataclass(slots=True)
class Report:
    """How many traces were new and how many known, how many lines held no answer of a model, why
    the checker gave no verdict on a trace that was kept all the same, and why each refused line was
    refused.
    """

    new: int = 0
    known: int = 0
    others: int = 0
    unjudged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def ingest(warehouse: Warehouse, stream: BinaryIO, source: str, form: str = OWN_FORM) -> Report:
    """Judge and write every line of a stream that can be; each refusal names its line and reason.

    `form`: how the lines are written, ours or one of `FORMATS`. Raises InvalidInput where `source`
    is not a valid name, or names an experiment, or there is no such format.
    """
    _require_source(warehouse, source)
    require_one_of("format", form, (OWN_FORM, *FORMATS))
    report, batch = Report(), _Batch(warehouse, source)
    for number, line in enumerate(_lines(stream), 1):
        if not line.strip():
            continue
        try:
            found = _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, form)
            for one in found:
                _take(batch, one, report, number)
            report.others += not found
        except InvalidInput as error:
            report.refused.append(f"line {number}: {error}")
        if batch.taken >= BATCH:
            batch.write(report)
    batch.write(report)
    return report


def _take(batch: _Batch, one: Read, report: Report, line: int) -> None:
    """Keep a trace of a line, or count why it is none."""
    if isinstance(one, Line):
        try:
            batch.take(one, report)
        except InvalidInput as error:
            report.refused.append(f"line {line}: {error}")
    elif one is None:
        report.others += 1
    else:
        report.refused.append(f"line {line}: {one}")


def _require_source(warehouse: Warehouse, source: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", source):
        raise InvalidInput(
            f"invalid source name {source[:120]!r}; use up to 100 letters, digits, and _ . -, the "
            "first no dot or dash"
        )
    known = warehouse.experiment(source)
    is_number = source.rpartition("-")[2].isdecimal()  # a day and time, say
    if known is None and IDENTITY.fullmatch(source) and not is_number:
        raise InvalidInput(
            f"--source {source}: an experiment may have such an id; name the traces otherwise"
        )
    if known is not None and known.config != NO_SETTINGS:
        raise InvalidInput(f"{source} is an experiment; give the traces another --source")


def _lines(stream: BinaryIO) -> Iterable[bytes]:
    """Lines without their line ends, empty ones too; only the start of one that is too long."""
    while line := stream.readline(LONGEST + 1):
        rest = line
        # Skip the rest of a line that is too long, so that the next one begins where it should.
        while not rest.endswith(b"\n") and (rest := stream.readline(LONGEST)):
            pass
        # One that is too long keeps its extra byte, by which `_parse` refuses it.
        yield line.rstrip(b"\r\n") if len(line) <= LONGEST else line


def _parse(line: bytes, form: str) -> Sequence[Read]:
    if len(line) > LONGEST:
        raise InvalidInput(f"longer than {LONGEST // 2**20} MiB")
    if form != OWN_FORM:
        try:
            found = from_json(line)
        except ValueError as error:
            raise InvalidInput(f"Invalid JSON: {error}") from error
        return imported(form, found)
    try:
        return [Line.model_validate_json(line)]
    except ValidationError as error:
        first = error.errors()[0]
        hint = "; is it of another --format?" if first["type"] == "extra_forbidden" else ""
        raise InvalidInput(problem(first) + hint) from error


class _Batch:
    """Records that wait to be written in one transaction."""

    def __init__(self, warehouse: Warehouse, source: str) -> None:
        self.warehouse, self.source = warehouse, source
        self.taken = 0
        self.records: list[Record] = []
        self.said: dict[str, Feedback] = {}
        """A user's last word on each trace: who changes their mind says so in a later line."""

    def take(self, line: Line, report: Report) -> None:
        """Judge a trace and keep its records. Raises InvalidInput where it cannot be judged."""
        domain_text, problem = self._pddl(line)
        checker = checker_for(domain_text, problem)
        task = checker.task
        trace = _trace(self.source, task.key, line)
        judged = judgement(checker, trace, READING)
        if isinstance(judged, Unjudged):
            report.unjudged.append(f"{trace.id}: {judged.reason}")
        self.records += [
            *brought(domain_text, task, problem),
            trace,
            judged,
        ]
        if line.feedback is not None:
            self.said[trace.id] = Feedback(trace.id, line.feedback == "accept")
        self.taken += 1

    def _pddl(self, line: Line) -> tuple[str, str]:
        """PDDL of the domain and of the problem. Raises InvalidInput where a line names neither."""
        if line.task is not None and line.problem is None and line.domain is None:
            found = self.warehouse.task(line.task)
            if found is None:
                raise InvalidInput(f"task {line.task!r} is not in {self.warehouse.place}")
            return found.domain_pddl, found.pddl
        if line.domain is None or line.problem is None or line.task is not None:
            raise InvalidInput("needs either `task`, or `domain` and `problem`")
        return pddl_of(line.domain), line.problem

    def write(self, report: Report) -> None:
        """Write the waiting records, and add to the report how many traces were new and known."""
        if self.taken:
            # A source is recorded as an experiment without settings.
            source = records.Experiment(self.source, "", self.source, 0, NO_SETTINGS, CODE_VERSION)
            self.records.append(source)
        new = self.warehouse.write(self.records).get(schema.traces, 0)
        if self.said:
            self.warehouse.hear(list(self.said.values()), ())
        report.new += new
        report.known += self.taken - new
        self.taken, self.records, self.said = 0, [], {}


def _trace(source: str, task: str, line: Line) -> Trace:
    reasoning, answer = split_reasoning(line.completion)
    return Trace(
        id=ingested_id(source, task, line.model, line.completion),
        experiment=source,
        generation=INGESTED,
        purpose="ingest",
        task=task,
        sample=0,
        seed=0,
        prompt_format=INGESTED_FORMAT,
        prompt_hash="",
        text=line.completion,
        token_ids=(),
        reasoning_tokens=len(reasoning.split()),  # words, since its tokenizer is unknown
        plan_tokens=len(answer.split()),
        finish_reason=line.finish_reason,
        logprob=line.logprob,
        sampling_logprob=line.sampling_logprob,
        policy=line.model,
        code_version=CODE_VERSION,
        written_at=line.time and _utc(line.time),
    )


def _utc(time: datetime) -> datetime:
    """The time in UTC. Raises InvalidInput where that is out of range."""
    try:
        return utc(time)
    except OverflowError as error:
        raise InvalidInput(f"time: {time.isoformat()} is no year from 1 to 9999 in UTC") from error
