"""Formats of other tools: from what they export to traces. Each reads an object of JSON.

A prompt must hold its task, domain and problem in PDDL. What is no answer of a model, such as a
span of a database, gives nothing; what is one and cannot be read is refused with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from flows.importing.line import Line, task_in
from planners.errors import InvalidInput, NotJudged, problem

DEEPEST = 12
"""Levels of an object that are looked through for a text."""
TEXT_IN = ("content", "text", "parts", "message", "messages", "kwargs", "prompt", "completion",
           "input", "output", "answer")  # fmt: skip
"""Where an object may have its text, in the order in which they are tried."""
FIRST_OF = ("choices", "generations")
"""Where it may have several answers, of which the first counts."""
TOLD_BY = {"user-feedback", "user_feedback", "user-score", "user_score", "feedback", "thumbs"}
"""Names of scores that are a user's word; above 0 it accepts."""

Found = Mapping[str, Any]
"""An object of JSON."""
Read = Line | InvalidInput | None
"""A trace, why it cannot be read, or None for what is no answer of a model."""
ODD = (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError)
"""Errors of reading an object that is not as its tool writes it."""


def text_of(value: object, depth: int = 0) -> str:
    """The text of a prompt or an answer: a string, messages, parts of one, or objects with them."""
    if isinstance(value, str):
        return value
    if depth < DEEPEST and isinstance(value, list):
        return "\n\n".join(filter(None, (text_of(one, depth + 1) for one in value)))
    if depth < DEEPEST and isinstance(value, dict):
        for name in FIRST_OF:
            if isinstance(some := value.get(name), list) and some:
                return text_of(some[0], depth + 1)
        for name in TEXT_IN:
            if value.get(name) is not None:
                return text_of(value[name], depth + 1)
    return ""


def answer_of(value: object) -> str | None:
    """The text of an answer; None where there is none, as after a call that failed."""
    if isinstance(value, dict) and value.get("content") == "":
        return ""
    return value if isinstance(value, str) else text_of(value) or None


def chat(found: Found) -> Iterator[Read]:
    """`messages`, the last by the assistant; or `prompt` and `completion`, as of TRL."""
    messages = found.get("messages")
    if isinstance(messages, list) and messages:
        last = messages[-1]
        if isinstance(last, dict) and last.get("role", "assistant") != "assistant":
            return
        yield _line(messages[:-1], last, model=_text(found.get("model")))
    else:
        yield _line(found.get("prompt"), found.get("completion"), model=_text(found.get("model")))


def langfuse(found: Found) -> Iterator[Read]:
    """A trace or generation of Langfuse: `input`, `output`, `model`, times, `scores`."""
    if found.get("type", "GENERATION") not in ("GENERATION", None):
        return
    told = [
        score.get("value") for score in found.get("scores") or () if isinstance(score, dict)
        and str(score.get("name", "")).lower() in TOLD_BY
    ]  # fmt: skip
    yield _line(
        found.get("input"), found.get("output"), model=_text(found.get("model")),
        time=_time(found.get("startTime") or found.get("timestamp")), feedback=_word(told),
    )  # fmt: skip


def langsmith(found: Found) -> Iterator[Read]:
    """A run of LangSmith: `inputs`, `outputs`, `extra`, `start_time`, `feedback_stats`."""
    if found.get("run_type", "llm") != "llm":
        return
    extra, stats = found.get("extra"), found.get("feedback_stats")
    known = extra.get("metadata") if isinstance(extra, dict) else None
    told = [
        one.get("avg") for name, one in (stats if isinstance(stats, dict) else {}).items()
        if name.lower() in TOLD_BY and isinstance(one, dict)
    ]  # fmt: skip
    yield _line(
        found.get("inputs"), found.get("outputs"), time=_time(found.get("start_time")),
        model=_text(known.get("ls_model_name") if isinstance(known, dict) else None),
        feedback=_word(told),
    )  # fmt: skip


def otel(found: Found) -> Iterator[Read]:
    """Spans of OpenTelemetry as its collector writes them (OTLP in JSON), with the attributes of
    its conventions for generative AI.
    """
    yield from _each(_spans(found), _of_span)


def _of_span(span: Found) -> Line | None:
    said = {
        one.get("key"): next(iter(one["value"].values()), None)
        for one in span.get("attributes") or ()
        if isinstance(one, dict) and isinstance(one.get("value"), dict)
    }
    if "gen_ai.output.messages" not in said:
        return None
    answer = _inner(said["gen_ai.output.messages"])
    ended = answer[0].get("finish_reason") if answer and isinstance(answer[0], dict) else None
    began = str(span.get("startTimeUnixNano", ""))
    system = _inner(said.get("gen_ai.system_instructions"))  # its parts, which may hold the domain
    asked = [{"role": "system", "parts": system}] if system else []
    return _line(
        [*asked, *_inner(said.get("gen_ai.input.messages"))], answer[:1],
        model=_text(said.get("gen_ai.response.model") or said.get("gen_ai.request.model")),
        finish_reason="length" if ended == "length" else "stop",
        time=_time(int(began) / 1e9 if began.isdecimal() and int(began) else None),
    )  # fmt: skip


def verifiers(found: Found) -> Iterator[Read]:
    """An episode of verifiers (0.4) as its evaluations save it: the last reply of each trace."""
    yield from _each(found.get("traces") or (), _of_episode)


def _of_episode(trace: Found) -> Line | None:
    messages = [one.get("message") or {} for one in trace.get("nodes") or ()]
    replies = [one for one in messages if one.get("role") == "assistant"]
    asked = [one for one in messages if one.get("role") != "assistant"]
    calls = trace.get("calls") or [{}]
    cut = calls[-1].get("finish_reason") == "length"
    return _line(
        asked, replies[-1] if replies else None, model=_text(calls[-1].get("model")),
        finish_reason="length" if cut else "stop",
        time=_time((trace.get("timing") or {}).get("start")),
    )  # fmt: skip


def _each(parts: Iterable[Found], read: Callable[[Found], Line | None]) -> Iterator[Read]:
    """Each part of an object by itself, so that one that cannot be read costs no other."""
    for number, part in enumerate(parts, 1):
        try:
            yield read(part)
        except InvalidInput as error:
            yield InvalidInput(f"part {number}: {error}")
        except ODD as error:
            yield InvalidInput(f"part {number}: not as its tool writes it: {error}")


def inspect(found: Found) -> Iterator[Read]:
    """A sample of a log of Inspect, in JSON; one that ended without an answer gives nothing."""
    output = found.get("output") or {}
    for choice in (output.get("choices") or ())[:1]:
        cut = choice.get("stop_reason") in ("max_tokens", "model_length")
        yield _line(
            found.get("input"), choice.get("message"), model=_text(output.get("model")),
            finish_reason="length" if cut else "stop", time=_time(found.get("started_at")),
        )  # fmt: skip


def planbench(found: Found) -> Iterator[Read]:
    """An instance of PlanBench's results; its query must be one in PDDL, not in English."""
    if not found.get("llm_raw_response"):
        return
    response = found.get("response_object") or {}
    cut = any(one.get("finish_reason") == "length" for one in response.get("choices") or ())
    yield _line(
        found.get("query"), found["llm_raw_response"], model=_text(response.get("model")),
        finish_reason="length" if cut else "stop", time=_time(response.get("created")),
    )  # fmt: skip


FORMATS: dict[str, Callable[[Found], Iterator[Read]]] = {
    "chat": chat, "langfuse": langfuse, "langsmith": langsmith, "otel": otel,
    "verifiers": verifiers, "inspect": inspect, "planbench": planbench,
}  # fmt: skip
"""Every format of another tool, by name."""


def imported(form: str, found: object) -> list[Read]:
    """The traces in an object that another tool wrote, and what could not be read of it. Raises
    InvalidInput where it is one trace and cannot be read, or its prompt holds no task.
    """
    if not isinstance(found, dict):
        raise InvalidInput(f"not an object, as {form} writes one")
    try:
        return list(FORMATS[form](found))
    except ODD as error:
        raise InvalidInput(f"not as {form} writes it: {error}") from error


def _line(prompt: object, answer: object, **besides: Any) -> Line | None:
    """The trace of a prompt and its answer; None where there is no answer."""
    if (completion := answer_of(answer)) is None:
        return None
    try:
        task = task_in(text_of(prompt))
    except NotJudged as error:
        raise InvalidInput(f"the task in its prompt is not judged: {error.reason}") from error
    if task is None:
        raise InvalidInput("its prompt holds no planning task: domain and problem in PDDL")
    told = {name: value for name, value in besides.items() if value is not None}
    try:
        return Line(completion=completion, domain=task[0], problem=task[1], **told)
    except ValidationError as error:
        raise InvalidInput(problem(error.errors()[0])) from error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _word(values: list[Any]) -> str | None:
    """A user's word by the last score: above 0, or true, it accepts."""
    numbers = [one for one in values if isinstance(one, int | float) and math.isfinite(one)]
    return None if not numbers else "accept" if numbers[-1] > 0 else "reject"


def _time(value: object) -> datetime | None:
    """A time in ISO 8601 or in seconds since 1970; one without a zone is in UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    found = datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _inner(value: object) -> list[Any]:
    """A list that is written as a string of JSON."""
    found = from_json(value) if isinstance(value, str) else value
    return found if isinstance(found, list) else []


def _spans(found: Found) -> Iterator[Found]:
    for resource in found.get("resourceSpans") or ():
        for scope in resource.get("scopeSpans") or ():
            yield from scope.get("spans") or ()
