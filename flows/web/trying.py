"""The page to try a generation: give it a task, see its plan checked and drawn, and judge it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from flows.pages.app import Renderer
from flows.pages.drawings import Picture
from flows.pages.source import Source
from flows.pages.trace import goal_lines, replayed
from flows.web.desk import Desk
from flows.web.protocol import Judged, Planned, Planning
from planners.checking.steps import Step
from planners.domains import DOMAINS
from planners.errors import InvalidInput, PosterityError, problem
from planners.pddl import read_task
from planners.records import Plan


@dataclass(frozen=True, slots=True)
class Tried:
    """An answer with its plan replayed."""

    planned: Planned
    steps: list[Step]
    told: str
    picture: Picture | None
    advice: list[str]
    goal: list[str]


def trying(desk: Desk, source: Source, renderer: Renderer) -> APIRouter:
    """The routes of the page."""
    router, show = APIRouter(), renderer.page

    def page(given: dict[str, str], **what: Any) -> Response:
        shown: dict[str, Any] = {"tried": None, "refused": "", "heard": "", **what}
        names = [*desk.deployed.names()]
        return show("try", given=given, names=names, domains=sorted(DOMAINS), **shown)

    async def answered(
        given: dict[str, str], work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> Response:
        """The page with what the work brings, or with why it was refused."""
        try:
            return page(given, **await work())
        except (PosterityError, ValidationError) as error:
            return page(given, refused=_words(error))

    @router.get("/try")
    async def begin(request: Request) -> Response:
        given = dict(request.query_params)

        async def known() -> dict[str, Any]:
            if key := given.get("task"):
                given.update(await asyncio.to_thread(_task_of, source, key))
            return {}

        return await answered(given, known)

    @router.post("/try")
    async def ask(request: Request) -> Response:
        given = await _form(request)

        async def plan() -> dict[str, Any]:
            asked = _read(
                Planning, given, ("model", "domain", "problem", "attempts", "temperature")
            )
            return {"tried": await asyncio.to_thread(_tried, asked, await desk.plan(asked))}

        return await answered(given, plan)

    @router.post("/try/feedback")
    async def judge(request: Request) -> Response:
        given = await _form(request)

        async def hear() -> dict[str, Any]:
            said = _read(Judged, given, ("trace", "feedback", "comment", "plan"))
            correction = await desk.hear(said)
            word = "accepted" if said.feedback == "accept" else "rejected"
            more = " Your plan is a trace of its own." if correction else ""
            return {"heard": f"Written down: {word}.{more}"}

        return await answered(given, hear)

    return router


def _read(kind: type[Any], given: dict[str, str], fields: tuple[str, ...]) -> Any:
    """The fields of a form that are filled in, as a request. Raises ValidationError."""
    return kind.model_validate_strings({name: given[name] for name in fields if given.get(name)})


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; the last where one comes twice."""
    body = (await request.body()).decode("utf-8", "replace")
    return {name: values[-1] for name, values in parse_qs(body).items()}


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return problem(error.errors()[0])
    return str(error)


def _task_of(source: Source, key: str) -> dict[str, str]:
    with source.reading() as warehouse:
        task = warehouse.task(key)
    if task is None:
        raise InvalidInput(f"there is no task {key!r} in this warehouse")
    return {"domain": task.domain_pddl, "problem": task.pddl}


def _tried(asked: Planning, planned: Planned) -> Tried:
    task = read_task(*asked.texts)
    moved, drawn, advice, told = replayed(task, planned.plan or Plan(()))
    return Tried(planned, moved, told, drawn, advice, goal_lines(task))
