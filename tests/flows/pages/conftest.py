"""A server of pages, and a real browser that leaves nothing on its console."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import chromium
from tests.processes import posterity
from warehouse.store import Warehouse

HOSTILE = (
    "(pickup a)\n<script>document.title = 'broken'</script><img src=x onerror=\"alert(1)\">\n"
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link \u202egnp.exe {{ 7 * 7 }} </pre>"
)


@contextmanager
def shown(warehouse: Path) -> Iterator[str]:
    """The address of `posterity view` on a warehouse."""
    command = posterity("view", "--warehouse", str(warehouse), "--port", "0")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=warehouse.parent
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "http://127.0.0.1:" in line, line
            yield line.split()[0]
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture(scope="session")
def hostile(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run, with a completion, a name and a comment that attack their readers."""
    path = tmp_path_factory.mktemp("hostile") / "w.duckdb"
    shutil.copy(finished, path)
    with Warehouse(path) as store, store.writing() as connection:
        [trace] = connection.exec_driver_sql(
            "SELECT trace FROM traces WHERE purpose = 'deploy' ORDER BY trace LIMIT 1"
        ).scalars()
        connection.exec_driver_sql(
            "UPDATE traces SET text = ?, policy = ? WHERE trace = ?",
            (HOSTILE, "<b>policy</b>", trace),
        )
        connection.exec_driver_sql(
            "INSERT INTO feedback BY NAME SELECT ? AS trace, false AS accepted, ? AS comment",
            (trace, "<script>document.title = 'broken'</script>"),
        )
    return path


@pytest.fixture(scope="session")
def site(hostile: Path) -> Iterator[str]:
    with shown(hostile) as address:
        yield address


@pytest.fixture(scope="module")  # while it is there, nothing else in this process can be async
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages; none may leave an error or a warning on the console, or ask another host."""
    complaints: list[str] = []
    contexts = []

    def open_at(address: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        allowed = ("http://127.0.0.1:", "file:", "data:")
        page.on(
            "request",
            lambda sent: None if sent.url.startswith(allowed) else complaints.append(sent.url),
        )
        page.goto(address)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not complaints
