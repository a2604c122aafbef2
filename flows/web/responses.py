"""The bodies of answers: whole, or as a stream while they are written."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse

from flows.web.desk import Desk
from flows.web.live import Live
from flows.web.protocol import Asked, Given, error_body
from planners.errors import ComponentFailure, PosterityError


def _frame(model: str, kind: str, generation: int, traces: list[str]) -> dict[str, Any]:
    """The part that a completion and all chunks of a stream share."""
    return {
        "id": traces[0],
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "posterity": {"generation": generation, "traces": traces},
    }


def completed(model: str, given: list[Given], kind: str, choices: list[Any]) -> Response:
    """Whole answers; `choices` has what is a choice's own."""
    frame = _frame(model, kind, given[0].generation, [one.trace for one in given])
    body = frame | {
        "choices": [
            {
                "index": index,
                **choice,
                "logprobs": None,
                "finish_reason": one.completion.finish_reason,
            }
            for index, (choice, one) in enumerate(zip(choices, given, strict=True))
        ],
        "usage": _usage(given),
    }
    return JSONResponse(body)


def _usage(given: list[Given]) -> dict[str, int]:
    """How many tokens a request took."""
    prompt = given[0].prompt_tokens
    written = sum(g.completion.reasoning_tokens + g.completion.plan_tokens for g in given)
    return {
        "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written,
    }  # fmt: skip


def message(text: str) -> dict[str, str]:
    """A chat's answer."""
    return {"role": "assistant", "content": text}


def delta(text: str, is_first: bool) -> dict[str, dict[str, str]]:
    """A piece of a chat's answer. Clients join what pieces say, so that the first one alone says
    whose it is.
    """
    return {"delta": message(text) if is_first else {"content": text}}


def text_of(text: str, _: bool = True) -> dict[str, str]:
    """A piece of a completion."""
    return {"text": text}


async def streamed(
    desk: Desk, asked: Asked, kind: str, piece: Callable[[str, bool], Mapping[str, Any]],
    answer: Callable[[Live], Coroutine[Any, Any, list[Given]]],
) -> Response:  # fmt: skip
    """Server-sent events: pieces while the answers are drawn, and their ends once these are written
    down. Raises what the answer raises before its first token. A client that leaves changes
    nothing: the answers are written down.
    """
    live = Live()
    answering = desk.go_on(answer(live))
    answering.add_done_callback(lambda _: live.end())
    first = await live.text()
    if first is None:
        await answering  # raises what went wrong
    told = asked.stream_options is not None and asked.stream_options.include_usage

    begun = set[int]()

    def _choice(index: int, text: str, finished: str | None = None) -> dict[str, Any]:
        is_first = index not in begun
        begun.add(index)
        return {"index": index, **piece(text, is_first), "finish_reason": finished}

    async def choices() -> AsyncIterator[dict[str, Any]]:
        some = first
        while some is not None:
            yield _choice(*some)
            some = await live.text()
        for index, one in enumerate(await answering):
            text, sent = one.completion.text, live.sent[index]
            if not text.startswith(sent):
                raise ComponentFailure(f"the answer {one.trace} was kept with another text")
            # All of it, from a model server that tells no tokens: word by word.
            for more in re.findall(r"\S*\s*", text[len(sent) :])[:-1]:
                yield _choice(index, more)
            yield _choice(index, "", one.completion.finish_reason)

    async def lines() -> AsyncIterator[str]:
        frame = _frame(asked.model, kind, live.generation, live.traces)
        try:
            async for one in choices():
                yield _event(frame | {"choices": [one]})
            if told:
                yield _event(frame | {"choices": [], "usage": _usage(await answering)})
            yield "data: [DONE]\n\n"
        except PosterityError as error:  # too late for a status: the stream ends with the error
            yield _event(error_body(str(error), "server_error"))

    return StreamingResponse(lines(), media_type="text/event-stream")


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
