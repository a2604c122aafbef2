"""The pages in a real browser: what is there, what moves, and what cannot harm."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from flows.pages.app import Renderer, make_pages
from flows.pages.bundle import bundled
from flows.pages.source import Source
from flows.progress import Watch
from tests.flows.pages.conftest import shown
from tests.processes import posterity, small_toml
from warehouse.findings import Figure
from warehouse.records import Experiment
from warehouse.store import Warehouse

Open = Callable[..., Page]
LOOKS: tuple[dict[str, Any], ...] = (
    {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 900}},
)
"""How a page is looked at: in light on a wide screen, in dark on a telephone."""


@pytest.fixture(scope="module")
def experiment(hostile: Path) -> str:
    with Warehouse(hostile, read_only=True) as store:
        return str(store.frame("SELECT experiment FROM experiments")["experiment"][0])


def one(hostile: Path, where: str) -> str:
    with Warehouse(hostile, read_only=True) as store:
        found = store.frame(f"SELECT trace FROM stg_verdicts WHERE {where} ORDER BY trace LIMIT 1")
    return str(found["trace"][0])


def test_every_page_is_reached_by_links_and_is_easy_to_read(site: str, opened: Open) -> None:
    """Links lead from the first page to every kind of page; axe finds nothing on any of them."""
    kinds: dict[str, str] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        kind = re.sub(r"[0-9a-f]{10,}|\d+", "#", path.split("?")[0])
        if kind in kinds:
            continue
        answer = httpx.get(site + path)
        assert answer.status_code == 200, path
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        kinds[kind] = path
        waiting += [
            link.replace("&amp;", "&")
            for link in re.findall(r'href="(/[^"]*)"', answer.text)
            if not link.startswith(("/static", "/sql/export"))
        ]
    assert len(kinds) == 9, sorted(kinds)
    for number, path in enumerate(kinds.values()):
        for options in LOOKS if "/traces/" in path else (LOOKS[number % 2],):
            width = options["viewport"]["width"]
            page = opened(site + path, **options)
            page.wait_for_load_state("networkidle" if path != "/live" else "load")
            found = Axe().run(page, options={"resultTypes": ["violations"]})
            broken = [(v["id"], v["nodes"][0]["html"][:200]) for v in found.response["violations"]]
            assert not broken, (path, options, broken)
            inner = page.evaluate("document.documentElement.scrollWidth")
            assert inner <= width, (path, "is wider than the screen")


def test_tables_filter_sort_and_turn_pages(site: str, experiment: str, opened: Open) -> None:
    page = opened(f"{site}/experiments/{experiment}/tasks")
    rows = page.locator("table.searched tbody tr")
    expect(rows).to_have_count(19)
    page.get_by_label("split").select_option("heldout")
    expect(rows).to_have_count(4)
    assert "split=heldout" in page.url, "every state of a page has an address"
    page.get_by_role("link", name="size", exact=True).click()
    sizes = [int(text) for text in rows.locator("td:nth-child(3)").all_inner_texts()]
    assert sizes == sorted(sizes)
    assert "split=heldout" in page.url
    page.go_back()
    expect(rows).to_have_count(4)
    page.goto(f"{site}/experiments/{experiment}/traces?most=20")
    first = rows.first.inner_text()
    page.get_by_role("link", name="Next").first.click()
    expect(page.get_by_text("21 to 40").first).to_be_visible()
    assert rows.first.inner_text() != first
    page.get_by_label("outcome").select_option("VALID")
    expect(page.locator("table.searched .chip.bad")).to_have_count(0)
    expect(page.locator("table.searched .chip.good").first).to_be_visible()


def test_a_cell_of_the_heat_map_leads_to_its_tasks(
    site: str, experiment: str, opened: Open
) -> None:
    page = opened(f"{site}/experiments/{experiment}/tasks")
    cell = page.locator("table.heat td a").first
    told = int(re.findall(r"\d+", cell.get_attribute("title") or "")[1])
    cell.click()
    expect(page.locator("table.searched tbody tr")).to_have_count(told)


def test_a_plan_moves(site: str, hostile: Path, opened: Open) -> None:
    trace = one(hostile, "outcome = 'VALID' AND plan_length >= 2")
    page = opened(f"{site}/traces/{trace}")
    player = page.locator(".player")
    frames = json.loads(player.get_attribute("data-frames") or "[]")
    steps = page.locator(".steps > li")
    expect(steps).to_have_count(len(frames) - 1)
    places = "[...document.querySelectorAll('.piece')].map(p => p.style.transform)"
    before = page.evaluate(places)
    player.press("ArrowRight")
    assert page.evaluate(places) != before
    expect(steps.first).to_have_class("now")
    player.press("ArrowLeft")
    assert page.evaluate(places) == before
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".at")).to_have_text(
        f"after step {len(frames) - 2} of {len(frames) - 1}", timeout=20_000
    )
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_a_failing_step_is_explained(site: str, hostile: Path, opened: Open) -> None:
    trace = one(hostile, "outcome = 'PRECONDITION_FAILED'")
    with Warehouse(hostile, read_only=True) as store:
        step = int(store.frame("FROM stg_verdicts WHERE trace = :t", t=trace)["step"][0])
    page = opened(f"{site}/traces/{trace}")
    expect(page.locator(".steps li.failed")).to_contain_text("PRECONDITION_FAILED")
    expect(page.locator(".advice")).to_contain_text(f"step {step}")
    page.get_by_role("link", name=f"step {step}", exact=True).click()
    assert page.url.endswith(f"#step-{step}")


def test_answers_stand_side_by_side(site: str, hostile: Path, opened: Open) -> None:
    trace = one(hostile, "generation = 1")
    page = opened(f"{site}/traces/{trace}")
    page.locator(".crumbs a", has_text="task").click()
    boxes = page.locator("table.answers input")
    boxes.nth(0).check()
    boxes.last.check()
    page.get_by_role("button", name="side by side").click()
    assert page.locator(".beside section").count() >= 2
    assert page.url.count("show=") >= 2


def test_a_hostile_trace_is_only_text(site: str, hostile: Path, opened: Open) -> None:
    with Warehouse(hostile, read_only=True) as store:
        trace = store.frame("SELECT trace FROM feedback")["trace"][0]
    page = opened(f"{site}/traces/{trace}")
    assert "broken" not in page.title()
    text = page.locator("pre.completion").inner_text()
    assert "<script>document.title" in text
    assert "\\x1b[31mred" in text
    assert "\\u202e" in text
    assert "{{ 7 * 7 }} </pre>" in text
    assert "\u202e" not in page.content()
    assert page.locator("main script, main img, main b").count() == 0
    expect(page.get_by_text("rejected it")).to_contain_text("<script>")


def test_the_console_answers_and_refuses(site: str, opened: Open, hostile: Path) -> None:
    before = hostile.read_bytes()
    page = opened(f"{site}/sql")
    page.get_by_text("progress", exact=True).click()
    expect(page.get_by_text("One row per experiment and generation: the figures")).to_be_visible()
    page.get_by_label("One SELECT").fill("SELECT generation, coverage FROM progress")
    page.get_by_label("as a chart").check()
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("region", name="The result").locator("tbody tr")).to_have_count(3)
    expect(page.locator("figure svg.wide")).to_be_visible()
    for attack in (
        "DROP TABLE traces",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'w.duckdb'",
        "FROM read_csv('/etc/passwd')",
        "SELECT 1; SELECT 2",
    ):
        page.get_by_label("One SELECT").fill(attack)
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("alert")).to_be_visible()
    assert hostile.read_bytes() == before
    rows = httpx.get(f"{site}/sql/export", params={"q": "FROM progress", "format": "csv"})
    assert rows.text.splitlines()[0].startswith("experiment,generation")
    assert len(rows.text.splitlines()) == 4


def test_other_sites_reach_nothing(site: str) -> None:
    assert httpx.get(site, headers={"host": "evil.example"}).status_code == 400, "DNS rebinding"
    assert httpx.post(f"{site}/sql", data={"q": "FROM traces"}).status_code == 405
    asked = {"q": "SELECT 42 AS answer"}
    other = httpx.get(f"{site}/sql", params=asked, headers={"sec-fetch-site": "cross-site"})
    assert "another site asks this" in other.text
    assert "<td>42</td>" not in other.text
    refused = httpx.get(f"{site}/sql/export", params=asked, headers={"sec-fetch-site": "same-site"})
    assert refused.status_code == 404
    policy = httpx.get(site).headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/traces/nothing", "no trace"),
        ("/tasks/nothing", "no task"),
        ("/experiments/nothing", "no experiment"),
        ("/experiments/nothing/tasks", "no experiment"),
        ("/parts/nothing", "no part"),
        ("/static/nothing", "no file"),
    ],
)
def test_what_is_not_there_is_said(site: str, path: str, said: str) -> None:
    answer = httpx.get(site + path)
    assert answer.status_code == 404
    assert said in answer.text


def test_odd_questions_have_plain_answers(site: str, experiment: str) -> None:
    for query in ("skip=-1", "skip=x", "most=1e9", "generation=99999999999", "outcome=<b>"):
        answer = httpx.get(f"{site}/experiments/{experiment}/traces?{query}")
        assert answer.status_code in (200, 404), query
        assert "<b>" not in answer.text


def test_a_run_is_watched_while_it_works(tmp_path: Path, opened: Open) -> None:
    text = small_toml(train=40, generations=2).replace("steps = 4", "steps = 60")
    (tmp_path / "e.toml").write_text(text)
    warehouse = tmp_path / "w.duckdb"
    command = posterity("run", "e.toml", "--plain", "--warehouse", str(warehouse))
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout is not None
        while not (warehouse.parent / "w.duckdb.snapshot").exists():
            assert run.poll() is None, run.stdout.read()
            time.sleep(0.2)  # rather than take a core from it
        with shown(warehouse) as site:
            page = opened(f"{site}/live")
            expect(page.locator("#connection")).to_contain_text("Connected")
            expect(page.locator("#work")).to_contain_text("generation", timeout=60_000)
            expect(page.locator("#work progress").first).to_be_visible()
            expect(page.locator("#work")).to_contain_text("No run is at work", timeout=120_000)
            expect(page.locator("#live-figures")).to_contain_text("Generation 2", timeout=20_000)
            page.close()
        assert run.wait(timeout=60) == 0, "nobody stood in its way"


def test_a_pool_without_a_reason_is_a_page(site: str, experiment: str) -> None:
    answer = httpx.get(f"{site}/experiments/{experiment}/traces?pool=1")
    assert (answer.status_code, "In the pool of" in answer.text) == (200, True)


def test_a_generation_that_is_no_number_is_told_on_a_page(site: str, experiment: str) -> None:
    answer = httpx.get(f"{site}/experiments/{experiment}/generations/abc")
    assert (answer.status_code, "there is no page" in answer.text) == (404, True)
    assert answer.headers["content-type"].startswith("text/html")


def test_a_bundle_of_chosen_experiments_does_not_name_the_others(
    finished: Path, experiment: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(finished.read_bytes())
    with Warehouse(path) as store:
        [own] = store.every(Experiment, id=experiment)
        store.write([replace(own, id="secret-0123456789ab", name="secret")])
        store.write([Figure(experiment, 1, "users", "user=somebody", "accepted", 1.0, "")])
    source, watch = Source(str(path), hold=True), Watch(quiet=True)
    for ids, named in (([experiment], False), ([], True)):
        folder = tmp_path / str(named)
        bundled(source, folder, ids, 3, watch)
        texts = [page.read_text("utf-8") for page in folder.rglob("*.html")]
        assert any("secret" in text for text in texts) is named
        assert not any("somebody" in text for text in texts)


@pytest.mark.parametrize("static", [False, True])
def test_a_bundle_says_nothing_of_users(hostile: Path, experiment: str, static: bool) -> None:
    source = Source(str(hostile))
    pages = make_pages(source, renderer=Renderer(source, static=static))
    with TestClient(pages, base_url="http://127.0.0.1") as client:
        page = client.get(f"/experiments/{experiment}").text
    assert "/parts/coverage?" in page
    assert ("/parts/users?" in page) != static


def test_a_bundle_needs_no_server(
    hostile: Path, experiment: str, tmp_path: Path, opened: Open
) -> None:
    folder = tmp_path / "site"
    command = posterity(
        "view", "--warehouse", str(hostile), "--bundle", str(folder), "--traces", "30"
    )
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    texts = {path: path.read_text("utf-8") for path in folder.rglob("*.html")}
    assert len([path for path in texts if path.parent.name == "traces"]) == 30
    assert not [path for path, text in texts.items() if str(hostile.parent) in text]
    assert not [
        path for path, text in texts.items() if "document.title = 'broken'</script>" in text
    ]
    page = opened((folder / "index.html").as_uri())
    page.get_by_role("link", name=experiment).first.click()
    expect(page.locator("svg.plot.wide").first).to_be_visible()
    page.get_by_role("link", name="Traces", exact=True).click()
    rows = page.locator("table.searched tbody tr")
    expect(rows).to_have_count(30)
    page.get_by_label("Search").fill("valid")
    assert 0 < page.locator("table.searched tbody tr:visible").count() <= 30
    page.locator("table.searched tbody tr:visible a").first.click()
    expect(page.locator("h1")).to_contain_text("Trace")
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_tokens_are_coloured_as_they_were_measured(
    finished: Path, opened: Open, tmp_path: Path
) -> None:
    """The sum of what the page shows is the log-probability that was recorded."""
    with Warehouse(finished, read_only=True) as store:
        [row] = store.frame(
            "SELECT t.trace, t.logprob, len(t.token_ids) AS tokens FROM traces AS t "
            "WHERE t.generation = 2 AND t.purpose = 'evaluate' ORDER BY t.trace LIMIT 1"
        ).itertuples()
    with shown(finished) as site:
        page = opened(f"{site}/traces/{row.trace}")
        page.get_by_role("button", name="Colour its tokens").click()
        spans = page.locator("pre.tokens span")
        expect(spans).to_have_count(row.tokens, timeout=60_000)  # weights are loaded
        said = [str(span.get_attribute("title")) for span in spans.all()]
        total = sum(float(title.split()[0]) for title in said)
        assert abs(total - row.logprob) < 0.001 * row.tokens + 0.01
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        assert not found.response["violations"]
        page.close()
