"""Stands before every request: refuses what may not come in, and counts what came of the rest."""

from __future__ import annotations

import json
import re
import sys
import time
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime

from fastapi import Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.web.desk import Desk
from flows.web.keys import Clients
from flows.web.protocol import error_body

LARGEST = 2 * 2**20
"""Bytes of a request's body."""
OTHER_SITES = ("cross-site", "same-site")
"""Values of Sec-Fetch-Site of a request that a page of another site makes."""
OPEN = ("/healthz", "/readyz")
"""Paths that need no key, and no name: probes ask by address."""
HOST = re.compile(r"\[.*?\]|[^:]*")
"""The name in a Host header, before the port."""
PATHS = frozenset(
    (*OPEN, "/metrics", "/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/plans",
     "/v1/feedback")
)  # fmt: skip
BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The figures that Prometheus reads."""

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "posterity_requests", "Requests by path and status.", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "posterity_request_seconds", "Seconds that requests took.", ["path"],
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        waiting = Gauge("posterity_waiting", "Answers under way.", registry=self.registry)
        waiting.set_function(lambda: desk.waiting)
        deployed = Gauge(
            "posterity_generation", "The generation that answers.", registry=self.registry
        )
        deployed.set_function(lambda: desk.deployed.current)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request; paths that are none of ours are one."""
        known = path if path in PATHS else "other"
        self._requests.labels(known, status).inc()
        self._seconds.labels(known).observe(seconds)


class Guard:
    """Lets a request through to the application, or refuses it.

    `clients`: whose requests may come in. `hosts`: names that it may be called by, or `*`: a page
    of another site could otherwise reach it under that site's name (DNS rebinding). `paged`:
    whether the pages are there too. `log`: whether each request is a line of JSON on standard
    error.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, clients: Clients, hosts: list[str], paged: bool,
        log: bool,
    ) -> None:  # fmt: skip
        self.app, self.metrics, self.clients = app, metrics, clients
        self.hosts, self.paged, self.log = {name.lower() for name in hosts}, paged, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI asks for."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await (self._refusal(Request(scope)) or self.app)(scope, receive, told)
        finally:
            self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request and log it: nothing of what it said, and not who sent it."""
        self.metrics.count(scope["path"], status, seconds)
        if self.log:
            line = {"time": datetime.now(UTC).isoformat(), "method": scope["method"],
                    "path": scope["path"][:200], "status": status,
                    "ms": round(1e3 * seconds, 3)}  # fmt: skip
            sys.stderr.write(json.dumps(line) + "\n")

    def _refusal(self, request: Request) -> JSONResponse | None:
        """Why a request may not come in; None if it may."""
        path, length = request.scope["path"], request.headers.get("content-length", "")
        is_page = self.paged and path not in PATHS and not path.startswith("/v1/")
        [host] = HOST.findall(request.headers.get("host", ""))[:1]
        if path not in OPEN and not self.hosts & {"*", host.lower()}:
            return refusal(
                400, f"no host is called {host!r} here; `posterity deploy --name` adds one"
            )
        if self.clients.asks and path not in OPEN and not _has_key(request, self.clients, is_page):
            refused = refusal(
                401, "wrong or missing API key", "invalid_request_error", "invalid_api_key"
            )
            if is_page:  # a browser asks for it; the name does not matter, the password is a key
                refused.headers["www-authenticate"] = 'Basic realm="Posterity"'
            return refused
        if request.method == "POST" and _of_other_site(request):
            return refusal(403, "a page of another web site sent this request, which is refused")
        in_pieces = "transfer-encoding" in request.headers  # whatever it says of its length
        if in_pieces or (request.method == "POST" and not length.isdecimal()):
            return refusal(411, "send the body in one piece, and say its length (Content-Length)")
        if length.isdecimal() and int(length) > LARGEST:
            return refusal(413, f"the body has {length} bytes, at most {LARGEST} are read")
        return None


def _of_other_site(request: Request) -> bool:
    """Whether a page of another site makes a request. Over plain HTTP browsers say where a page is
    from, and only to this machine in which relation that is to here.
    """
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in ("", *OTHER_SITES)
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


def _has_key(request: Request, clients: Clients, is_page: bool) -> bool:
    """Whether a request brings a key that opens this; to a page, also as a browser's password."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if is_page and scheme.lower() == "basic":
        with suppress(ValueError):
            key = b64decode(key, validate=True).decode().partition(":")[2]
            scheme = "bearer"
    return scheme.lower() == "bearer" and clients.has(key, is_page)


def refusal(
    status: int, message: str, kind: str = "invalid_request_error", code: str | None = None,
    where: str | None = None,
) -> JSONResponse:  # fmt: skip
    """An error with the body that OpenAI's API gives."""
    return JSONResponse(error_body(message, kind, code, where), status)
