"""The pages as a static site: chosen experiments and some of their traces, for a supplement.

Users' traces, what they said, and the warehouse's place are left out; links to what is not in the
bundle become plain words. Tables are searched without a server.
"""

from __future__ import annotations

import html
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from fastapi.testclient import TestClient

from flows.pages.app import STATIC, Renderer, make_pages
from flows.pages.experiments import listed
from flows.pages.links import link, rows_of
from flows.pages.source import Source
from flows.pages.tasks import LARGEST, Asked, Table
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.files import new_folder
from warehouse.records import Experiment

LINK = re.compile(r' (href|src|action|content)="(/[^"]*)"')
LAZY = re.compile(r'<div class="lazy" hx-get="([^"]*)"[^>]*>.*?</div>', re.S)


def bundled(source: Source, folder: Path, ids: list[str], traces: int, watch: Watch) -> int:
    """Write the pages of these experiments, or of all, with so many traces of each, into a new
    folder, whole or not at all. Returns the number of pages.

    Raises InvalidInput where the folder exists, or an experiment does not.
    """
    if folder.exists():
        raise InvalidInput(f"{folder} exists already; name a new folder, or delete that one")
    with source.reading() as warehouse:
        known = [one.id for one in warehouse.every(Experiment)]
    if unknown := [id for id in ids if id not in known]:
        raise InvalidInput(f"no experiment {', '.join(unknown)}; there are {', '.join(known)}")
    with new_folder(folder) as partial:
        return _written(Site(source, ids or known, traces), partial, watch)


class Site:
    """Which pages a bundle has, by their address."""

    def __init__(self, source: Source, ids: list[str], traces: int) -> None:
        self.source, self.ids, source.only = source, ids, frozenset(ids)
        self.renderer = Renderer(source, static=True)
        # Its exceptions are ours to see; nothing is asked over a network.
        self.client = TestClient(
            make_pages(source, renderer=self.renderer), base_url="http://127.0.0.1"
        )
        with source.reading() as warehouse:
            self.whole = {one.id for one in warehouse.every(Experiment)} <= set(ids)
            self.chosen = {
                id: warehouse.query("page_chosen", experiment=id, most=traces) for id in ids
            }
            made = {id: [one.index for one in warehouse.generations(id)] for id in ids}
        self.pages = {
            "/",
            *(link("experiments", id) for id in ids),
            *(link("experiments", id, part) for id in ids for part in ("tasks", "traces")),
            *(link("experiments", id, "generations", g) for id in ids for g in made[id]),
            *(link("traces", trace) for id in ids for trace in self.chosen[id]["trace"]),
        }

    def text(self, page: str) -> str:
        """A page as it is served, with what it would load later."""
        if page == "/":
            # Of these experiments alone: others may not be for whoever gets the bundle.
            groups = listed(self.source, self.ids)
            text = self.renderer.text("experiments", groups=groups, working=None, whole=self.whole)
            return self._loaded(text)
        for id in self.ids:
            if page == link("experiments", id, "traces"):
                return self._traces(id)
            if page == link("experiments", id, "tasks"):
                return self._got(link("experiments", id, "tasks", most=LARGEST))
        return self._loaded(self._got(page))

    def _loaded(self, text: str) -> str:
        return LAZY.sub(lambda lazy: self._got(html.unescape(lazy[1])), text)

    def _got(self, address: str) -> str:
        answer = self.client.get(address)
        if answer.status_code != 200:
            raise InvalidInput(
                f"the page {address} cannot be shown: it answers {answer.status_code}"
            )
        return answer.text

    def _traces(self, id: str) -> str:
        rows = rows_of(self.chosen[id])
        table = Table(rows, len(rows), 0, False, {})
        return self.renderer.text(
            "traces", id=id, table=table, given={}, asked=Asked(), sorts=(), most=len(rows)
        )


def _written(site: Site, folder: Path, watch: Watch) -> int:
    (folder / "static").mkdir()
    for name in STATIC:
        content = files("flows.pages").joinpath("static", name).read_bytes()
        (folder / "static" / name).write_bytes(content)
    with watch.bar("pages", len(site.pages)) as advance:
        for page in sorted(site.pages):
            path = folder / file_of(page)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_with_links(site, page), "utf-8")
            advance(1)
    return len(site.pages)


def _with_links(site: Site, page: str) -> str:
    """A page whose links lead to files."""
    up = "../" * file_of(page).count("/")
    return LINK.sub(lambda found: _moved(site, found, up), site.text(page))


def _moved(site: Site, found: re.Match[str], up: str) -> str:
    """A link as it is in the bundle; nothing where it leads out of it."""
    parts = urlsplit(html.unescape(found[2]))
    mark = f"#{parts.fragment}" if parts.fragment else ""
    if parts.path.startswith("/static/"):
        return f' {found[1]}="{up}{parts.path[1:]}"'
    # A page of the bundle shows all of what a query would choose from, or sort.
    if parts.path in site.pages and parse_qs(parts.query).keys() <= {"experiment"}:
        return f' {found[1]}="{html.escape(up + quote(file_of(parts.path)) + mark)}"'
    return ""


def file_of(page: str) -> str:
    """The file of a page: no part of its name leads to another folder."""
    if page == "/":
        return "index.html"
    parts = page.strip("/").split("/")
    return "/".join(p if p.strip(".") else p.replace(".", "%2E") for p in parts) + ".html"
