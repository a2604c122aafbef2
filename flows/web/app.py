"""The gateway: an OpenAI-compatible API, planning, feedback, health and metrics."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException

from flows.deployment.answered import Endpoint
from flows.importing.line import task_in
from flows.pages.app import Renderer, pages
from flows.pages.source import Source
from flows.web.deployed import UnknownModel
from flows.web.desk import Desk, TooBusy
from flows.web.guard import Guard, Metrics, refusal
from flows.web.live import Live
from flows.web.protocol import (
    Asked,
    Chat,
    Completing,
    Given,
    Judged,
    Planning,
    judged,
)
from flows.web.responses import completed, delta, message, streamed, text_of
from flows.web.trying import trying
from planners.errors import Busy, InvalidInput, PosterityError, problem

UNION = re.compile(r"constrained-|function-|list\[|dict\[|nullable|Posed$|(?:str|int|float|bool)$")
"""Names that pydantic gives to members of a union, which say nothing to a client."""
TELL_AT = 5
"""Looks in a row that failed, until it is said."""
THREADS = 64
"""Threads that read tasks and judge plans. Python has a handful, and a few costly tasks would keep
everybody else's waiting for one.
"""
GRACE = 120
"""Seconds that answers under way have when the gateway is stopped."""
LOOK_EVERY = 1.0
"""Seconds between looks at which generation is deployed."""


def make_app(
    desk: Desk, hosts: list[str], source: Source | None = None, log_requests: bool = False
) -> FastAPI:
    """The application. `hosts`: names that it may be called by. `source`: the warehouse that the
    pages beside it show. `log_requests`: whether each request is a line of JSON on standard error.
    """
    metrics = Metrics(desk)

    @asynccontextmanager
    async def while_open(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        looking = asyncio.create_task(_look(desk))
        yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await desk.finish(GRACE)

    app = FastAPI(
        title="Posterity", docs_url=None, redoc_url=None, openapi_url=None, lifespan=while_open
    )
    app.add_middleware(
        Guard, metrics=metrics, clients=desk.deployed.clients, hosts=hosts,
        paged=source is not None, log=log_requests,
    )  # fmt: skip
    _refuse_with_bodies(app)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        return {"status": "ok", "generation": desk.deployed.current}

    @app.get("/metrics")
    async def told() -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    _answer_users(app, desk)
    if source is not None:
        renderer = Renderer(source, trying=True)
        app.include_router(pages(source, renderer))
        app.include_router(trying(desk, source, renderer))
    return app


def _answer_users(app: FastAPI, desk: Desk) -> None:
    """Add the paths under /v1."""

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = desk.deployed.names()
        return {"object": "list", "data": [_model(name) for name in names]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Any:
        if name not in (*desk.deployed.names(), desk.deployed.id):
            return refusal(404, f"the model {name!r} does not exist", code="model_not_found")
        return _model(name)

    @app.post("/v1/chat/completions")
    async def chat(asked: Chat) -> Response:
        return await _answered(desk, asked, "chat", asked.prompt, asked.most)

    @app.post("/v1/completions")
    async def completions(asked: Completing) -> Response:
        return await _answered(desk, asked, "completions", asked.text, asked.max_tokens)

    @app.post("/v1/plans")
    async def plans(asked: Planning) -> dict[str, Any]:
        found = await desk.plan(asked)
        given, last = found.given, found.given[-1]
        return {
            "object": "plan",
            "trace": last.trace,
            "model": asked.model,
            "generation": last.generation,
            "attempts": len(given),
            **judged(found.verdict, found.unjudged),
            "plan": None if found.plan is None else str(found.plan).splitlines(),
            "text": last.completion.text,
            "traces": [one.trace for one in given],
        }

    @app.post("/v1/feedback")
    async def feedback(said: Judged) -> dict[str, Any]:
        wanted = await desk.hear(said)
        told = {"object": "feedback", "trace": said.trace, "correction": wanted and wanted.trace}
        return {**told, **(judged(wanted.verdict, wanted.unjudged) if wanted else {})}


async def _answered(
    desk: Desk, asked: Asked, endpoint: Endpoint, prompt: str, most: int | None
) -> Response:
    """Completions of a prompt, as a stream where one is asked for."""
    # Most prompts hold no task, and need no thread to find it.
    task = await asyncio.to_thread(_task_in, prompt) if "define" in prompt.lower() else None

    def answer(live: Live | None = None) -> Coroutine[Any, Any, list[Given]]:
        return desk.answer(asked, endpoint, prompt, most, task, count=asked.n, live=live)

    is_chat = endpoint == "chat"
    kind, piece = ("chat.completion", delta) if is_chat else ("text_completion", text_of)
    if asked.stream:
        return await streamed(desk, asked, f"{kind}.chunk" if is_chat else kind, piece, answer)
    given = await answer()
    texts = [one.completion.text for one in given]
    choices = [{"message": message(t)} for t in texts] if is_chat else list(map(text_of, texts))
    return completed(asked.model, given, kind, choices)


def _task_in(prompt: str) -> tuple[str, str] | None:
    """The task that a prompt asks about; None where it holds none that can be judged."""
    try:
        return task_in(prompt)
    except InvalidInput:
        return None


async def _look(desk: Desk) -> None:
    """Look for another deployed generation, for ever; say once what keeps it from seeing one. That
    a warehouse is being written is gone at the next look.
    """
    loop, problems, told = asyncio.get_running_loop(), 0, desk.deployed.current
    # Threads of its own: keys are revoked however much work there is, or a generation is loaded.
    own, settling = ThreadPoolExecutor(2), None
    try:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await loop.run_in_executor(own, desk.deployed.look)
                if settling is not None and settling.done():
                    ended, settling = settling, None
                    ended.result()
                    problems = 0
                if settling is None and desk.deployed.is_settled:
                    problems = 0
                elif settling is None:
                    settling = loop.run_in_executor(own, desk.deployed.settle)
                if desk.deployed.current != told:
                    told = desk.deployed.current
                    sys.stderr.write(f"generation {told} answers from now on\n")
            except Exception as error:
                problems += 1
                if problems == TELL_AT:
                    name = type(error).__name__
                    sys.stderr.write(f"cannot see which generation is deployed ({name}: {error})\n")
    finally:
        own.shutdown(wait=False, cancel_futures=True)


def _refuse_with_bodies(app: FastAPI) -> None:
    """Let every refusal have the body of an OpenAI error."""

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        # Of a union, the branches that the value is not meant for differ in its type alone.
        every = error.errors()
        first = next((one for one in every if not one["type"].endswith("_type")), every[0])
        first["loc"] = tuple(one for one in first["loc"] if not UNION.match(str(one)))
        where = ".".join(str(part) for part in first["loc"][1:])
        told = problem(first, skip=1)
        if first["type"] == "json_invalid":
            told, where = f"the body is no JSON: {first['ctx']['error']}", ""
        elif first["type"] == "model_attributes_type" and not where:
            told = "send an object of JSON, and say so (Content-Type: application/json)"
        elif "content" in first["loc"] and first["type"].endswith("_type"):
            told = "the content of a message is a text, or parts of the type text"
        elif first["type"] == "string_pattern_mismatch" and where == "trace":
            told = f"{where}: not the id of a trace, as answers give it"
        return refusal(400, told, where=where or None)

    @app.exception_handler(UnknownModel)
    async def nobody(_: Request, error: UnknownModel) -> Response:
        return refusal(404, str(error), code="model_not_found")

    @app.exception_handler(InvalidInput)
    async def refused(_: Request, error: InvalidInput) -> Response:
        message = str(error)
        if isinstance(error, Busy):
            return refusal(503, message, "server_error")
        if "exceed the model's context" in message:
            told = (
                f"{message.partition(';')[0]}; ask for fewer with max_tokens, or a shorter prompt"
            )
            return refusal(400, told, code="context_length_exceeded")
        return refusal(400, message)

    @app.exception_handler(PosterityError)
    async def failed(_: Request, error: PosterityError) -> Response:
        if isinstance(error, TooBusy):
            busy = refusal(429, f"{error}; try again", "rate_limit_error", "rate_limit_exceeded")
            busy.headers["retry-after"] = "1"
            return busy
        return refusal(503, str(error), "server_error")

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        told = refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
        told.headers.update(error.headers or {})
        return told

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return refusal(500, "the answer failed; the server's log says why", "server_error")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "posterity"}
