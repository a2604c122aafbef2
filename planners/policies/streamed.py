"""An answer of an OpenAI-compatible server, read while it is being written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from planners.errors import ComponentFailure
from planners.policies.answers import BROKEN, said
from planners.records import Heard

if TYPE_CHECKING:
    import httpx

ASKED = {"stream": True, "stream_options": {"include_usage": True}}
"""Fields of a request whose answer is to come in pieces."""
PIECES = 16
"""Pieces of an answer for each token, at most."""


def whole(lines: Iterable[str], url: str, heard: Heard, most: int) -> dict[str, Any]:
    """The answer that server-sent events add up to, as it would have come at once; `heard` is told
    each token id as it arrives.

    Raises ComponentFailure where the events are no answer, have more tokens than `most`, or break
    off after a token was told: asked again, the server might write another answer.
    """
    import httpx

    texts, tokens, logprobs, ids = [""], list[str](), list[float](), list[int]()
    answer: dict[str, Any] = {}
    finish = None
    try:
        for line in lines:
            data = line.removeprefix("data:").strip()
            if not line.startswith("data:") or data == "[DONE]":
                continue
            event = json.loads(data)
            if isinstance(event, dict) and event.get("error"):
                raise ComponentFailure(
                    f"the server {url} broke off an answer: {str(event['error'])[:200]}"
                )
            answer |= {name: event[name] for name in ("model", "usage") if event.get(name)}
            for choice in event["choices"]:
                piece = said(choice)
                texts.append(piece.text)
                tokens += piece.tokens
                logprobs += piece.logprobs
                finish = choice.get("finish_reason") or finish
                if len(ids) > most + 1 or len(texts) > PIECES * (most + 1):
                    raise ValueError(f"more than {most} tokens")
                for token in piece.ids:
                    heard(len(ids), token)
                    ids.append(token)
    except BROKEN as error:
        raise ComponentFailure(
            f"the server {url} streamed what is no completion: {error!r}"
        ) from error
    except httpx.RequestError as error:
        if not ids:
            raise
        raise _broken_off(url) from error
    if finish is None:
        raise _broken_off(url)
    told = {"tokens": tokens, "token_logprobs": logprobs}
    choice = {"text": "".join(texts), "finish_reason": finish, "token_ids": ids, "logprobs": told}
    return {**answer, "choices": [choice]}


def answer_of(lines: Iterable[str], url: str, heard: Heard, most: int) -> httpx.Response:
    """The same as a response that came at once."""
    import httpx

    # In ASCII, since half a character can be told, and not be encoded.
    content = json.dumps(whole(lines, url, heard, most))
    return httpx.Response(200, content=content, headers={"content-type": "application/json"})


def _broken_off(url: str) -> ComponentFailure:
    return ComponentFailure(
        f"the server {url} broke off in the middle of an answer; see that it runs, then ask again"
    )
