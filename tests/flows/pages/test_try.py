"""The page beside a gateway on which a person tries a generation."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.gateway import body, experiment, gateway, problem, run
from warehouse.store import Warehouse

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("try")
    done = run(folder, "run", str(experiment(folder)))
    assert "waits for users" in done.stderr
    return folder


def test_a_person_asks_judges_and_corrects(folder: Path, opened: Open) -> None:
    with gateway(folder) as (url, _):
        page = opened(url.removesuffix("v1") + "try")
        page.get_by_label("Problem, in PDDL").fill("(define (problem")
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Problem, in PDDL").fill(problem(1))
        page.get_by_label("attempts").fill("2")
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("heading", name="Generation 0 answers")).to_be_visible()
        expect(page.locator(".player svg.picture")).to_be_visible()
        page.get_by_label("Comment").fill("<i>no</i>")
        page.get_by_label("A plan that you would rather").fill("(pickup b1)\n")
        page.get_by_role("button", name="Reject").click()
        expect(page.get_by_role("status")).to_contain_text("rejected. Your plan is a trace")
        page.get_by_role("link", name="Live").click()
        expect(page.locator("#connection")).to_contain_text("Connected")
        page.close()  # or it asks on after the gateway has stopped
    with Warehouse(folder / "w.duckdb", read_only=True) as store:
        said = store.frame("SELECT accepted, comment FROM feedback ORDER BY accepted")
        purposes = store.frame("SELECT purpose FROM traces WHERE purpose = 'correction'")
    assert said["accepted"].tolist() == [False, True]
    assert said["comment"][0] == "<i>no</i>"
    assert len(purposes) == 1


def test_other_sites_cannot_send_and_pages_ask_for_the_key(folder: Path) -> None:
    keys = {"POSTERITY_API_KEYS": "sesame"}
    with gateway(folder, "--json-logs", **keys) as (url, process):
        root = url.removesuffix("/v1")
        assert httpx.get(f"{root}/try").status_code == 401
        assert "Basic" in httpx.get(root).headers["www-authenticate"]
        assert httpx.get(f"{root}/try", auth=("me", "wrong")).status_code == 401
        assert httpx.get(f"{root}/try", auth=("me", "sesame")).status_code == 200
        # A browser sends a password that it knows by itself: it opens pages alone.
        assert httpx.post(f"{url}/plans", json=body(1), auth=("me", "sesame")).status_code == 401
        text = {"content-type": "text/plain", "sec-fetch-site": "cross-site"}
        for path in ("/try", "/v1/plans"):
            sent = httpx.post(
                root + path, content=json.dumps(body(1)),
                headers={**text, "authorization": "Bearer sesame"},
            )  # fmt: skip
            assert sent.status_code == 403, path
        # Over plain HTTP from another machine, a browser says only which page sends it.
        for origin, status in (("http://elsewhere.example", 403), ("null", 403), (root, 422)):
            sent = httpx.post(f"{root}/try", auth=("me", "sesame"), headers={"origin": origin})
            assert (sent.status_code == 403) == (status == 403), origin
    said = process.errors
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert {"/try", "/v1/plans"} <= {line["path"] for line in lines}
    assert {line["status"] for line in lines} >= {200, 401, 403}
    assert "sesame" not in said
