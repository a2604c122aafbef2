"""The gateway: an OpenAI-compatible API, planning, feedback, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flows.importing.line import task_in
from flows.pages.app import Renderer, pages
from flows.pages.source import Source
from flows.web.desk import Desk, Given, TooBusy
from flows.web.keys import known_keys
from flows.web.live import Live
from flows.web.protocol import (
    Chat,
    Completing,
    Judged,
    Planning,
    error_body,
    judged,
)
from flows.web.responses import completed, delta, streamed, text_of
from flows.web.trying import trying
from planners.errors import InvalidInput, PosterityError

LARGEST = 2 * 2**20
"""Bytes of a request's body."""
TELL_AT = 5
"""Looks in a row that failed, until it is said."""
LOOK_EVERY = 1.0
"""Seconds between looks at which generation is deployed."""
OTHER_SITES = ("cross-site", "same-site")
"""Values of Sec-Fetch-Site of a request that a page of another site makes."""
OPEN = ("/healthz", "/readyz")
"""Paths that need no key."""
BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)

Next = Callable[[Request], Awaitable[Response]]


class Metrics:
    """The figures that Prometheus reads."""

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "posterity_requests", "Requests by path and status.", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "posterity_request_seconds", "Seconds that requests took.", ["path"],
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        waiting = Gauge("posterity_waiting", "Requests under way.", registry=self.registry)
        waiting.set_function(lambda: desk.waiting)
        deployed = Gauge(
            "posterity_generation", "The generation that answers.", registry=self.registry
        )
        deployed.set_function(lambda: desk.deployed.current)


def make_app(
    desk: Desk, hosts: list[str], keys: list[bytes] | None = None, source: Source | None = None,
    log_requests: bool = False,
) -> FastAPI:  # fmt: skip
    """The application. `hosts`: names that it may be called by. `keys`: hashes of the keys that
    clients may use, by default those of the environment; with none, no key is asked for. `source`:
    the warehouse that the pages beside it show. `log_requests`: whether each request is a line of
    JSON on standard error.
    """
    keys = known_keys() if keys is None else keys
    metrics = Metrics(desk)

    @asynccontextmanager
    async def while_open(app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(_look(desk))
        yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking

    app = FastAPI(
        title="Posterity", docs_url=None, redoc_url=None, openapi_url=None, lifespan=while_open
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    _refuse_with_bodies(app)

    @app.middleware("http")
    async def guard(request: Request, go_on: Next) -> Response:
        began, path = time.perf_counter(), request.url.path
        length = request.headers.get("content-length", "")
        is_page = source is not None and path not in PATHS and not path.startswith("/v1/")
        response: Response
        if keys and path not in OPEN and not _has_key(request, keys, is_page):
            response = _error(
                401, "wrong or missing API key", "invalid_request_error", "invalid_api_key"
            )
            if is_page:  # a browser asks for it; the name does not matter, the password is a key
                response.headers["www-authenticate"] = 'Basic realm="Posterity"'
        elif request.method == "POST" and request.headers.get("sec-fetch-site") in OTHER_SITES:
            response = _error(403, "a page of another site sent this")
        elif request.method == "POST" and not length.isdecimal():
            response = _error(411, "say how long the body is (Content-Length)")
        elif length.isdecimal() and int(length) > LARGEST:
            response = _error(413, f"the body has {length} bytes, at most {LARGEST} are read")
        else:
            response = await go_on(request)
        known = path if path in PATHS else "other"
        metrics.requests.labels(known, response.status_code).inc()
        seconds = time.perf_counter() - began
        metrics.seconds.labels(known).observe(seconds)
        if log_requests:
            _log(request.method, path, response.status_code, seconds)
        return response

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
        if name not in desk.deployed.names():
            return _error(404, f"the model {name!r} does not exist", code="model_not_found")
        return _model(name)

    @app.post("/v1/chat/completions")
    async def chat(asked: Chat) -> Response:
        task = await asyncio.to_thread(task_in, asked.prompt)

        def answer(live: Live | None = None) -> Coroutine[Any, Any, list[Given]]:
            return desk.answer(
                asked, "chat", asked.prompt, asked.most, task, count=asked.n, live=live
            )

        if asked.stream:
            return await streamed(desk, asked, "chat.completion.chunk", delta, answer)
        given = await answer()
        message = [{"message": {"role": "assistant", "content": g.completion.text}} for g in given]
        return completed(asked.model, given, "chat.completion", message)

    @app.post("/v1/completions")
    async def completions(asked: Completing) -> Response:
        task = await asyncio.to_thread(task_in, asked.text)

        def answer(live: Live | None = None) -> Coroutine[Any, Any, list[Given]]:
            return desk.answer(
                asked, "completions", asked.text, asked.max_tokens, task, count=asked.n, live=live
            )

        if asked.stream:
            return await streamed(desk, asked, "text_completion", text_of, answer)
        given = await answer()
        texts = [{"text": g.completion.text} for g in given]
        return completed(asked.model, given, "text_completion", texts)

    @app.post("/v1/plans")
    async def plans(asked: Planning) -> dict[str, Any]:
        found = await desk.plan(asked)
        given, verdict = found.given, found.verdict
        last = given[-1]
        return {
            "object": "plan",
            "trace": last.trace,
            "model": asked.model,
            "generation": last.generation,
            "attempts": len(given),
            **judged(verdict),
            "plan": None if found.plan is None else str(found.plan).splitlines(),
            "text": last.completion.text,
            "traces": [one.trace for one in given],
        }

    @app.post("/v1/feedback")
    async def feedback(said: Judged) -> dict[str, Any]:
        wanted = await desk.hear(said)
        verdict = wanted and wanted.verdict
        told = {"object": "feedback", "trace": said.trace, "correction": wanted and wanted.trace}
        return {**told, **(judged(verdict) if verdict else {})}


PATHS = frozenset(
    (*OPEN, "/metrics", "/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/plans",
     "/v1/feedback")
)  # fmt: skip


def _log(method: str, path: str, status: int, seconds: float) -> None:
    """A request as a line of JSON: nothing of what it said, and not who sent it."""
    told = {"time": datetime.now(UTC).isoformat(), "method": method, "path": path[:200],
            "status": status, "ms": round(1e3 * seconds, 3)}  # fmt: skip
    sys.stderr.write(json.dumps(told) + "\n")


async def _look(desk: Desk) -> None:
    """Look for another deployed generation, for ever; say once what keeps it from seeing one. That
    a warehouse is being written is gone at the next look.
    """
    problems = 0
    while True:
        await asyncio.sleep(LOOK_EVERY)
        try:
            await asyncio.to_thread(desk.deployed.refresh)
            problems = 0
        except Exception as error:
            problems += 1
            if problems == TELL_AT:
                name = type(error).__name__
                sys.stderr.write(f"cannot see which generation is deployed ({name}: {error})\n")


def _has_key(request: Request, keys: list[bytes], is_page: bool) -> bool:
    """Whether a request brings one of the keys; to a page, also as a browser's password."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if is_page and scheme.lower() == "basic":
        with suppress(ValueError):
            key = b64decode(key, validate=True).decode().partition(":")[2]
            scheme = "bearer"
    hashed = blake2b(key.encode()).digest()
    found = [hmac.compare_digest(hashed, known) for known in keys]  # all, in constant time
    return scheme.lower() == "bearer" and any(found)


def _refuse_with_bodies(app: FastAPI) -> None:
    """Let every refusal have the body of an OpenAI error."""

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _error(400, f"{where}: {first['msg']}" if where else first["msg"], where=where)

    @app.exception_handler(InvalidInput)
    async def refused(_: Request, error: InvalidInput) -> Response:
        message = str(error)
        if message.startswith("the model '") and "does not exist" in message:
            return _error(404, message, code="model_not_found")
        code = "context_length_exceeded" if "exceed the model's context" in message else None
        return _error(400, message, code=code)

    @app.exception_handler(PosterityError)
    async def failed(_: Request, error: PosterityError) -> Response:
        if isinstance(error, TooBusy):
            busy = _error(429, f"{error}; try again", "rate_limit_error", "rate_limit_exceeded")
            busy.headers["retry-after"] = "1"
            return busy
        return _error(503, str(error), "server_error")

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        return _error(500, "the answer failed; the server's log says why", "server_error")


def _error(
    status: int, message: str, kind: str = "invalid_request_error", code: str | None = None,
    where: str | None = None,
) -> JSONResponse:  # fmt: skip
    return JSONResponse(error_body(message, kind, code, where), status)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "posterity"}
