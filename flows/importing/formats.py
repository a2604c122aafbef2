"""Formats of other tools: from what they export to traces. Each reads an object of JSON.

A prompt must hold its task, domain and problem in PDDL. What is no answer of a model, such as a
span of a database, gives nothing; what is one and cannot be read is refused with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from flows.importing.line import Line, task_in
from flows.importing.texts import FIRST_OF, answer_of, ended, first_of, text_of
from planners.errors import InvalidInput, NotJudged, problem

TOLD_BY = {"user-feedback", "user_feedback", "user-score", "user_score", "feedback", "thumbs"}
"""Names of scores that are a user's word; above 0 it accepts."""

ANSWERING = ("assistant", "ai", "AIMessageChunk", None)
"""Roles of who answers, None where that is not told."""

Found = Mapping[str, Any]
"""An object of JSON."""
Read = Line | InvalidInput | None
"""A trace, why it cannot be read, or None for what is no answer of a model."""
ODD = (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError)
"""Errors of reading an object that is not as its tool writes it."""


def _own(found: Found, name: str) -> Any:
    """The value under a name that every object of its format has. Raises InvalidInput if it has
    none: it is of another tool, or another version.
    """
    if name not in found:
        raise InvalidInput(f"not as its tool writes it: there is no {name!r}")
    return found[name]


def _opened(value: object) -> object:
    """Messages or an answer that were written as a string of JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            found = from_json(value)
            if isinstance(one := first_of(found), dict) and one.keys() & {"role", *FIRST_OF}:
                return found
    return value


def chat(found: Found) -> Iterator[Read]:
    """`messages`, the last by the assistant; or `prompt` and `completion`, as of TRL."""
    messages = found.get("messages")
    if isinstance(messages, list) and messages:
        last = messages[-1]
        if isinstance(last, dict) and last.get("role", "assistant") != "assistant":
            return
        yield _line(messages[:-1], last, finish_reason=ended(last), model=_text(found.get("model")))
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
    answer = _opened(_own(found, "output"))
    yield _line(
        _opened(found.get("input")), answer, model=_text(found.get("model")),
        finish_reason=ended(answer),
        time=_time(found.get("startTime") or found.get("timestamp")), feedback=_word(told),
    )  # fmt: skip


def langsmith(found: Found) -> Iterator[Read]:
    """A run of LangSmith: `inputs`, `outputs`, `extra`, `start_time`, `feedback_stats`."""
    if found.get("run_type", "llm") != "llm":
        return
    extra, stats = found.get("extra"), found.get("feedback_stats")
    known = extra.get("metadata") if isinstance(extra, dict) else None
    word = [
        one.get("avg") for name, one in (stats if isinstance(stats, dict) else {}).items()
        if name.lower() in TOLD_BY and isinstance(one, dict)
    ]  # fmt: skip
    answer = _own(found, "outputs")
    if isinstance(answer, dict) and isinstance(told := answer.get("messages"), list):
        # Of a graph, whose output is the whole conversation.
        last = first_of(told[-1:])
        inner = last.get("kwargs", last) if isinstance(last, dict) else {}
        if isinstance(inner, dict) and (inner.get("role") or inner.get("type")) not in ANSWERING:
            return
        answer = told[-1:]
    yield _line(
        found.get("inputs"), answer, time=_time(found.get("start_time")),
        finish_reason=ended(answer),
        model=_text(known.get("ls_model_name") if isinstance(known, dict) else None),
        feedback=_word(word),
    )  # fmt: skip


def otel(found: Found) -> Iterator[Read]:
    """Spans of OpenTelemetry as its collector writes them (OTLP in JSON), with the attributes of
    its conventions for generative AI.
    """
    yield from _each(_spans(found), _of_span)


def _of_span(span: Found) -> Line | None:
    said = {
        one.get("key"): _plain(one["value"])
        for one in span.get("attributes") or ()
        if isinstance(one, dict) and isinstance(one.get("value"), dict)
    }
    if "gen_ai.output.messages" not in said:
        return None
    answer = _inner(said["gen_ai.output.messages"])
    began = str(span.get("startTimeUnixNano", ""))
    system = _inner(said.get("gen_ai.system_instructions"))  # its parts, which may hold the domain
    asked = [{"role": "system", "parts": system}] if system else []
    return _line(
        [*asked, *_inner(said.get("gen_ai.input.messages"))], answer[:1],
        model=_text(said.get("gen_ai.response.model") or said.get("gen_ai.request.model")),
        finish_reason=ended(answer),
        time=_time(int(began) / 1e9 if began.isdecimal() and int(began) else None),
    )  # fmt: skip


def verifiers(found: Found) -> Iterator[Read]:
    """An episode of verifiers (0.4) as its evaluations save it: the last reply of each trace."""
    yield from _each(_own(found, "traces") or (), _of_episode)


def _of_episode(trace: Found) -> Line | None:
    nodes = trace.get("nodes") or []
    messages = [one.get("message") or {} for one in nodes]
    # An assistant's message that was not sampled is an example in the prompt.
    replies = [
        number for number, one in enumerate(nodes)
        if messages[number].get("role") == "assistant" and one.get("sampled", True)
    ]  # fmt: skip
    if not replies:
        return None
    reply = replies[-1]
    asked = [one for one in messages[:reply] if one.get("role") != "assistant"]
    calls = trace.get("calls") or [{}]
    call = next((one for one in reversed(calls) if one.get("node", reply) == reply), calls[-1])
    return _line(
        asked, messages[reply], model=_text(call.get("model")), finish_reason=ended(call),
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
    output = _own(found, "output") or {}
    for choice in (output.get("choices") or ())[:1]:
        yield _line(
            found.get("input"), choice.get("message"), model=_text(output.get("model")),
            finish_reason=ended(choice), time=_time(found.get("started_at")),
        )  # fmt: skip


def planbench(found: Found) -> Iterator[Read]:
    """An instance of PlanBench's results; its query must be one in PDDL, not in English."""
    query = _own(found, "query")
    if not found.get("llm_raw_response"):
        return
    response = found.get("response_object") or {}
    yield _line(
        query, found["llm_raw_response"], model=_text(response.get("model")),
        finish_reason=ended(response), time=_time(response.get("created")),
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
    read = list[Read]()
    try:
        for one in FORMATS[form](found):
            read.append(one)
    except ODD as error:
        wrong = InvalidInput(f"not as {form} writes it: {error}")
        if not read:
            raise wrong from error
        read.append(wrong)  # what was read before it is kept
    return read


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


def _plain(value: dict[str, Any]) -> Any:
    """An attribute's value in OTLP's JSON as plain JSON: a string, list, object or number."""
    kind = next(iter(value), "")
    inner: Any = value.get(kind)
    if kind == "arrayValue":
        return [_plain(one) for one in inner.get("values") or ()]
    if kind == "kvlistValue":
        return {one["key"]: _plain(one["value"]) for one in inner.get("values") or ()}
    return inner


def _spans(found: Found) -> Iterator[Found]:
    for resource in _own(found, "resourceSpans") or ():
        for scope in resource.get("scopeSpans") or ():
            yield from scope.get("spans") or ()
