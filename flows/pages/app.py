"""The pages as a web application: server-rendered, without inline script, for this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.routing import APIRoute
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flows.audit.tokens import tokens_of
from flows.pages import console, live
from flows.pages.experiments import (
    OF_ONE,
    experiment_page,
    figures_of,
    generation_page,
    generation_rows,
    listed,
    part,
)  # fmt: skip
from flows.pages.links import link
from flows.pages.source import Source
from flows.pages.tasks import (
    LARGEST,
    ROWS,
    Asked,
    heat_map,
    sorts_of,
    task_page,
    task_table,
    trace_table,
)  # fmt: skip
from flows.pages.trace import one_trace, trace_page
from flows.progress import HEADINGS, cell
from planners.errors import InvalidInput, PosterityError, harmless, redacted
from planners.records import Outcome
from warehouse.sandbox.results import FORMS, require_form

LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Figures have style attributes, which cannot fetch anything under this policy."""
GUARDS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
STATIC = {
    "style.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
}
OWN_SITE = ("same-origin", "none", "")
"""Values of Sec-Fetch-Site of requests that a person made here."""
GOOD = {Outcome.VALID.value}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Renderer:
    """Templates, with what all of them may use."""

    def __init__(self, source: Source, trying: bool = False, static: bool = False) -> None:
        self.trying = trying
        self.environment = Environment(
            loader=ChoiceLoader([PackageLoader("flows.pages"), PackageLoader("flows.report", ".")]),
            autoescape=select_autoescape(default=True), undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self.environment.globals.update(
            link=link, place="" if static else redacted(str(source.place)), trying=trying,
            static=static, HEADINGS=HEADINGS, GOOD=GOOD, cell=cell,
        )  # fmt: skip
        self.environment.filters.update(value=_value, harmless=harmless, short=lambda id: id[:10])

    def text(self, name: str, **what: Any) -> str:
        """A template filled in."""
        return self.environment.get_template(f"{name}.html").render(**what)

    def page(self, name: str, status: int = 200, **what: Any) -> Response:
        """The same as an answer."""
        return HTMLResponse(self.text(name, **what), status, headers=GUARDS)


def _value(value: Any) -> str:
    """Any value of a table; a share is no percentage here, as it is in `cell`."""
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return harmless(str(value))


def pages(source: Source, renderer: Renderer) -> APIRouter:
    """The routes of all pages."""
    show = renderer.page

    class Told(APIRoute):
        """Turns what Posterity raises into a page that says it."""

        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except PosterityError as error:
                    status = 404 if isinstance(error, InvalidInput) else 503
                    return show("error", status, message=str(error))
                except RequestValidationError:
                    return show("error", 404, message=f"there is no page {request.url.path}")

            return answer

    router = APIRouter(route_class=Told)

    @router.get("/")
    def experiments() -> Response:
        groups = listed(source)
        return show("experiments", groups=groups, working=live.news(source), whole=True)

    @router.get("/compare")
    def compare(request: Request) -> Response:
        ids = request.query_params.getlist("id")
        figures = figures_of(source)
        with source.reading() as warehouse:
            sections = part(warehouse, "settings", ids) if len(ids) > 1 else []
        return show("compare", ids=ids, figures=figures, sections=sections)

    @router.get("/experiments/{id}")
    def experiment(id: str) -> Response:
        found = experiment_page(source, id)
        return show("experiment", page=found, parts=OF_ONE)

    @router.get("/parts/{name}")
    def one_part(request: Request, name: str) -> Response:
        ids = request.query_params.getlist("id")
        sections = source.kept(
            ("part", name, *ids), lambda store: part(store, name, ids, source.only)
        )
        return show("part", sections=sections)

    @router.get("/experiments/{id}/generations/{index}")
    def generation(id: str, index: int) -> Response:
        return show("generation", page=generation_page(source, id, index))

    @router.get("/experiments/{id}/generations/{index}/rows")
    def rows(id: str, index: int) -> Response:
        taught, reasons, outcomes = generation_rows(source, id, index)
        return show(
            "generation_rows", id=id, index=index, taught=taught, reasons=reasons, outcomes=outcomes
        )

    @router.get("/experiments/{id}/tasks")
    def tasks(request: Request, id: str) -> Response:
        given = dict(request.query_params)
        skip, most = _number(given, "skip"), _number(given, "most", ROWS)
        sort, down = given.get("sort", ""), given.get("down") == "1"
        found = task_table(source, id, given, sort, down, skip, most)
        split = given.get("split") or "train"
        generations, heat = heat_map(source, id, split)
        return show(
            "tasks", id=id, table=found, given=given, sort=sort, down=down, most=most,
            generations=generations, heat=heat, split=split,
        )  # fmt: skip

    @router.get("/tasks/{key}")
    def task(request: Request, key: str) -> Response:
        chosen = request.query_params.get("experiment")
        beside = request.query_params.getlist("show")
        return show("task", page=task_page(source, key, chosen, beside), beside=beside)

    @router.get("/experiments/{id}/traces")
    def traces(request: Request, id: str) -> Response:
        given = dict(request.query_params)
        most = _number(given, "most", ROWS)
        asked = Asked(
            generation=_number(given, "generation", None, least=-1),
            purpose=given.get("purpose") or None, outcome=given.get("outcome") or None,
            task=given.get("task") or None,
            pool=_number(given, "pool", None), reason=given.get("reason", ""),
            sort=given.get("sort", ""), down=given.get("down") == "1",
            skip=_number(given, "skip"),
        )  # fmt: skip
        return show(
            "traces", id=id, table=trace_table(source, id, asked, most), given=given, asked=asked,
            sorts=sorts_of(asked), most=most,
        )  # fmt: skip

    @router.get("/traces/{id}")
    def trace(id: str) -> Response:
        return show("trace", page=trace_page(source, id))

    if not renderer.trying:  # or whoever answers users would load a generation for it

        @router.get("/traces/{id}/tokens")
        def tokens(id: str) -> Response:
            with source.reading() as warehouse:
                found = tokens_of(warehouse, one_trace(warehouse, id))
            return show("tokens", tokens=found)

    @router.get("/sql")
    def sql(request: Request) -> Response:
        asked, drawn = request.query_params.get("q", ""), request.query_params.get("chart") == "1"
        own = request.headers.get("sec-fetch-site", "") in OWN_SITE
        found, refused, figure = None, "", ""
        if asked and own:
            try:
                found = console.answer(source, asked)
                figure = console.chart(found) if drawn else ""
            except PosterityError as error:
                refused = str(error)
        elif asked:
            refused = "another site asks this: read it, then press Run"
        names, rows = ([], []) if found is None else console.shown(found)
        return show(
            "sql", asked=asked, found=found, refused=refused, chart=drawn, figure=figure,
            names=names, rows=rows, catalogue=console.catalogue(source),
        )  # fmt: skip

    @router.get("/sql/export")
    def export(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "") not in OWN_SITE:
            raise InvalidInput("another site asks this; open it from the console")
        asked, form = request.query_params.get("q", ""), request.query_params.get("format", "csv")
        require_form(form)
        content = FORMS[form](console.answer(source, asked))
        name = {"content-disposition": f'attachment; filename="result.{form}"'}
        return Response(content, media_type=console.MEDIA[form], headers={**GUARDS, **name})

    @router.get("/live")
    def at_work() -> Response:
        return show("live", working=live.news(source), groups=listed(source))

    @router.get("/live/events")
    async def events() -> Response:
        headers = {**GUARDS, "cache-control": "no-store"}
        return StreamingResponse(
            live.events(source), media_type="text/event-stream", headers=headers
        )

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            return show("error", 404, message=f"there is no file {name!r}")
        content = files("flows.pages").joinpath("static", name).read_bytes()
        headers = {**GUARDS, "cache-control": "max-age=600"}
        return Response(content, media_type=STATIC[name], headers=headers)

    return router


def _number(given: dict[str, str], name: str, default: Any = 0, least: int = 0) -> Any:
    """A number of the query, not below `least`. Raises InvalidInput on anything else."""
    text = given.get(name, "")
    if not text:
        return default
    if re.fullmatch(r"-?[0-9]{1,7}", text) is None or not least <= int(text) <= LARGEST:
        raise InvalidInput(
            f"{name}: expected a number from {least} to {LARGEST}, found {text[:40]!r}"
        )
    return int(text)


def make_pages(source: Source, renderer: Renderer | None = None) -> FastAPI:
    """The application of `posterity view`; it answers only to this machine's own names."""
    app = FastAPI(title="Posterity", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)
    app.include_router(pages(source, renderer or Renderer(source)))
    return app
