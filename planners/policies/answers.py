"""How OpenAI-compatible servers are asked, and their answers: chats and plain completions."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from planners.errors import ComponentFailure, InvalidInput
from planners.prompts.extraction import THINK_END, THINK_START
from planners.records import Sampling

if TYPE_CHECKING:
    import httpx
    from transformers import PreTrainedTokenizerFast

NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}
"""Fields beyond OpenAI's interface, which not every server accepts."""


ENDS = {"stop": "stop", "length": "length", "eos": "stop", "eos_token": "stop"}
"""How a completion may end, by the words of servers; any other is of one that was broken off."""
LARGEST = 1 << 24
"""Token ids are below this, whatever the vocabulary."""
PADDED = 1024
"""Tokens that a model may have beyond its tokenizer's, which pads no further."""
MASKED = -100.0
"""A log-probability below this is none: so servers tell of a token that may not be drawn."""
ALONE = 0.01
"""A top_p that leaves one token."""
APART = 0.1
"""Nats between two tokens from which their distance tells of a temperature."""
SURELY = 0.25
"""How near a ratio of distances must be to 1 or 2 to be taken for it."""
ROUNDED = 1e-3
"""Nats by which rounding may lift a log-probability above 0."""


class Way(NamedTuple):
    """A way to ask a server: with the prompt's token `ids`, its `text`, or a `chat` message; and
    with or without the NEUTRAL fields.
    """

    prompt: Literal["ids", "text", "chat"]
    neutral: bool


def ways_with(tokenizer: PreTrainedTokenizerFast | None) -> list[Way]:
    """The ways to try, the most exact one first."""
    ways = [] if tokenizer is None else [Way("ids", True)]
    if tokenizer is not None and tokenizer.chat_template is None:
        ways += [Way("text", True), Way("text", False)]
    return [*ways, Way("chat", True), Way("chat", False)]


class Said(NamedTuple):
    """The parts of an answer: its text, and for each token its text, log-probability and id, as far
    as they are told.
    """

    text: str
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    ids: tuple[int, ...]


def said(choice: dict[str, Any]) -> Said:
    """Read a choice of either interface. Raises KeyError and the like if it is something else."""
    told = choice.get("logprobs") or {}
    if "token_logprobs" in told:  # of plain completions, as vLLM and OpenAI write them
        tokens, each, known = told["tokens"], told["token_logprobs"], []
    else:  # of chats; llama.cpp's of both
        content = told.get("content") or []
        tokens = [one.get("token", "") for one in content]
        each, known = (
            [one["logprob"] for one in content],
            [one["id"] for one in content if "id" in one],
        )
    tokens = tuple(map(str, tokens))
    ids = tuple(choice.get("token_ids") or known)
    logprobs = tuple(float(one) for one in each)
    if not all(type(one) is int and 0 <= one < LARGEST for one in ids):
        raise TypeError("its token ids are none")
    if not all(math.isfinite(one) and one <= ROUNDED for one in logprobs):
        raise TypeError("its log-probabilities are none")
    if "text" in choice:
        if not isinstance(choice["text"], str):
            raise TypeError("its text is none")
        return Said(_whole(choice["text"]), tokens, logprobs, ids)
    message = choice["message"]
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    text = message["content"] or ""
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise TypeError("its content is no text")
    if reasoning:
        # Without an answer and the mark among its tokens, the reasoning never ended.
        ended = THINK_END if text or any(THINK_END in token for token in tokens) else ""
        text = f"{THINK_START}{reasoning}{ended}{text}"
    return Said(_whole(text), tokens, logprobs, ids)


def _whole(text: str) -> str:
    """The text without halves of characters, which nothing can keep."""
    return text.encode("utf-8", "replace").decode("utf-8")


BROKEN = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""Errors of reading an answer that is no completion."""


def ended(
    answer: dict[str, Any], choice: dict[str, Any], told: Said, most: int, known: int | None
) -> tuple[str, int, tuple[int, ...]]:
    """How a choice ended, how many tokens it has, and their ids, () where not all are told. Raises
    one of BROKEN if it does not say so, has more tokens than were asked for (one may end it), or
    one beyond the `known` ones. A server may count more tokens than it tells, as of its thoughts.
    """
    counted = len(told.logprobs) or len(told.ids)
    written = int((answer.get("usage") or {}).get("completion_tokens", counted))
    if written < 0 or max(len(told.logprobs), len(told.ids)) > most + 1:
        raise ValueError(f"it has {counted} tokens, where at most {most} were asked for")
    ids = told.ids if len(told.ids) == written else ()
    if known is not None and max(ids, default=0) >= known + PADDED:
        raise ValueError(f"the tokenizer has no token {max(ids)}")
    return ENDS[choice["finish_reason"]], written, ids


def first_alike(logprobs: dict[str, Any]) -> dict[str, float]:
    """The log-probabilities of the likeliest first tokens."""
    if "content" in logprobs:
        alike = logprobs["content"][0]["top_logprobs"]
        return {str(one["token"]): float(one["logprob"]) for one in alike}
    return {str(token): float(value) for token, value in logprobs["top_logprobs"][0].items()}


def halved(some: dict[str, float], others: dict[str, float]) -> bool | None:
    """Whether the second log-probabilities are at half the temperature of the first, at which
    tokens lie twice as far apart; None where that cannot be told.
    """
    both = [one for one in some.keys() & others.keys() if min(some[one], others[one]) > MASKED]
    both.sort(key=lambda token: some[token])
    if not both or (before := some[both[-1]] - some[both[0]]) < APART:
        return None
    ratio = (others[both[-1]] - others[both[0]]) / before
    return {1: False, 2: True}.get(round(ratio)) if abs(ratio - round(ratio)) < SURELY else None


def processed(ask: Callable[[Sampling], dict[str, float]], sampling: Sampling) -> bool | None:
    """Whether a server tells log-probabilities of what it draws from, after temperature and top_p
    were applied; None where that cannot be seen. `ask` gives those of the likeliest first tokens.
    """
    plain = ask(Sampling(max_new_tokens=1))
    heated = halved(plain, ask(Sampling(temperature=0.5, max_new_tokens=1)))
    if not heated or sampling.top_p == 1:
        return heated
    # Alone in its nucleus, the likeliest token leaves no room for the others.
    alone = ask(Sampling(top_p=ALONE, max_new_tokens=1)).values()
    if len([one for one in alone if one > MASKED]) <= 1:
        return True
    return None if sampling.temperature != 1 else False


def until_end(tokens: Sequence[str]) -> int:
    """Tokens up to and including the last end-of-reasoning mark; 0 if none."""
    ends = [number for number, token in enumerate(tokens, 1) if THINK_END in token]
    return ends[-1] if ends else 0


def json_of(answer: httpx.Response, url: str) -> dict[str, Any]:
    """The object that a server answered. Raises ComponentFailure if it is something else."""
    if not answer.content:
        return {}
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if "json" not in answer.headers.get("content-type", ""):
        return {"text": answer.text}  # how vLLM confirms that an adapter is loaded
    raise ComponentFailure(
        f"the server {url} answered what is no JSON object: {answer.text[:200]!r}"
    )


def models_in(listed: dict[str, Any]) -> list[str]:
    """The names of the models that a server lists."""
    found = listed.get("data")
    models = found if isinstance(found, list) else []
    return [str(model.get("id")) for model in models if isinstance(model, dict)]


def key_in(variable: str) -> str:
    """The key in a variable of the environment; "" if there is none. Raises InvalidInput if it is
    none that a request can carry.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidInput(f"{variable} holds characters that no key has")
    return key


def as_drawn(sampling: Sampling) -> bool:
    """Whether tokens are drawn from the model's own distribution."""
    return sampling.temperature == 1 and sampling.top_p == 1
