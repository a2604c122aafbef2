"""Schedules: what is refused, what is gone on with, and a real one whose parts are killed."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from flows.commands.terminal import app
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.generations.begun import as_begun, differences, resolved
from flows.generations.lineage import next_generation
from flows.iterate import iterate
from flows.progress import Watch
from flows.schedule.assets import made_by
from flows.schedule.serve import first_firing
from flows.schedule.server import require_heard
from planners.errors import ComponentFailure, InvalidInput
from planners.processes import free_port
from tests.browser import look
from tests.conftest import contents, small
from tests.forked import ran
from tests.processes import (
    at_work,
    command_of,
    descendants,
    environment,
    kill,
    posterity,
    small_toml,
)
from warehouse.store import Warehouse

EXPERIMENT = Experiment.model_validate(small())
ROOT = Path(__file__).parents[3]


def test_a_cron_expression_says_when_or_is_refused() -> None:
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert first_firing("0 3 * * *", "UTC", now) == datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
    assert first_firing("0 0 29 2 *", "UTC", now) == datetime(2028, 2, 29, 0, 0, tzinfo=UTC)
    for never in ("0 0 31 2 *", "often", "61 * * * *", "", "R 3 * * *"):
        with pytest.raises(InvalidInput, match="never fires"):
            first_firing(never, "UTC", now)
    east = first_firing("0 3 * * *", "Asia/Tokyo", now)
    assert east.astimezone(UTC) == datetime(2026, 3, 1, 18, 0, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="--timezone 'Nowhere'"):
        first_firing("0 3 * * *", "Nowhere")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "say when"),
        (["--cron", "0 3 * * *", "--interval", "60"], "say when"),
        (["--cron", "0 0 30 2 *"], "never fires"),
        (["--interval", "60", "--continue-as", "tiny-0123"], "has no experiment tiny-0123"),
        (["--interval", "60", "--set", "training.steps=none"], "training.steps"),
        (["--interval", "60", "--port", "70000"], "--port 70000 is no port"),
        (["--interval", "60"], "POSTERITY_WEBHOOK is no address"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_before_anything_starts(
    options: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTERITY_WEBHOOK", "hooks.example.org" if "WEBHOOK" in told else "http://")
    import flows.commands.scheduling  # noqa: F401

    warehouse = tmp_path / "w.duckdb"
    result = CliRunner().invoke(app, ["serve", "tiny", "--warehouse", str(warehouse), *options])
    assert (result.exit_code, told in result.output) == (2, True), result.output
    assert not warehouse.exists()


def test_a_port_that_something_else_has_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = ran(
            "serve", "tiny", "--interval", "60", "--port", port,
            environment=environment(tmp_path), folder=tmp_path,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"port {port} is taken by something that is no Prefect server" in done.stderr


@pytest.mark.parametrize(
    ("address", "text", "told"),
    [
        ("", "automations: []", "POSTERITY_WEBHOOK is no address"),
        ("http://127.0.0.1:9/", "none here", "holds no automations"),
        ("http://127.0.0.1:9/", "automations: [{name: a}]", "holds no automations"),
        ("http://127.0.0.1:9/", "automations: []", "no Prefect server is configured"),
    ],
)
def test_automations_that_cannot_be_made(
    address: str, text: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "flows.schedule.automations", "a.yaml"],
        env={**environment(tmp_path), "POSTERITY_WEBHOOK": address},
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_next_generation_is_the_first_that_nobody_decided_on(finished: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        assert next_generation(store, EXPERIMENT) is None
        further = EXPERIMENT.model_copy(update={"generations": 4})
        assert next_generation(store, further) == 3


def test_a_changed_experiment_is_refused_with_what_changed(finished: Path) -> None:
    training = {"steps": 4, "batch": 8}
    changed = Experiment.model_validate(small(training=training, generations=7))
    with Warehouse(finished, read_only=True) as store:
        resolved(store, EXPERIMENT, None)
        resolved(store, changed.model_copy(update={"name": "another"}), None)
        with pytest.raises(InvalidInput, match=r"training\.steps: 3, now 4\. Go on .*") as told:
            resolved(store, changed, None)
        assert f"--continue-as {EXPERIMENT.id}" in str(told.value)
        begun = as_begun(store, changed, EXPERIMENT.id, ["generations=7"])
        with pytest.raises(InvalidInput, match=r"--set training\.steps would change nothing"):
            as_begun(store, changed, EXPERIMENT.id, ["generations=7", "training.steps=4"])
        # A file may become another experiment's, also one that somebody began by hand.
        resolved(store, EXPERIMENT, None, served=EXPERIMENT.id)
        with pytest.raises(InvalidInput, match=r"since other-1 was served"):
            resolved(store, EXPERIMENT, None, served="other-1")
    assert begun.id == EXPERIMENT.id
    assert begun.generations == 7


def test_a_warm_up_is_an_asset_that_nothing_is_made_into(warehouse: Warehouse) -> None:
    """Generation 0 is trained by it, and has no parent to name."""
    of = load_experiment("validate")
    assert of.warmup is not None
    made = made_by("train", warehouse, of, 0)
    assert made == (f"posterity://{of.id}/generation-0/weights", [])


def test_differences_name_each_setting() -> None:
    before = {"a": 1, "t": {"x": [1], "y": 2}, "gone": 0}
    after = {"a": 1, "t": {"x": [1], "y": 3}, "new": "n"}
    assert [str(one) for one in differences(json.dumps(before), json.dumps(after))] == [
        "gone: 0, now not set",
        'new: not set, now "n"',
        "t.y: 2, now 3",
    ]


class Served:
    """A schedule of an experiment, served by a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self.warehouse = free_port(), folder / "w.duckdb"
        (folder / "small.toml").write_text(small_toml(train=12, generations=1))
        self.command = posterity(
            "serve", str(folder / "small.toml"), "--interval", "3", "--port", str(self.port),
            "--warehouse", str(self.warehouse),
        )  # fmt: skip
        self.environment = environment(folder)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(self.command, env=self.environment, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            left = [process.pid, *descendants(process.pid)]
            try:
                process.wait(60)
                _wait(lambda: not any(map(command_of, left)), 60)  # nothing stays behind
            finally:
                for pid in left:
                    kill(pid)

    def runs(self) -> list[dict[str, Any]]:
        """The flow runs that the Prefect server knows; none while it does not answer."""
        try:
            found = httpx.post(
                f"http://127.0.0.1:{self.port}/api/flow_runs/filter",
                json={"sort": "START_TIME_ASC"},
                timeout=30,
            )
            return list(found.json())
        except (httpx.TransportError, ValueError):
            return []

    def prefect(self, *command: str) -> str:
        """What Prefect's own command line says."""
        return self.module("prefect", "--no-prompt", *command)

    def module(self, *command: str, **variables: str) -> str:
        """What a Python module says that is run beside the server."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            env={
                **self.environment,
                "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
                "POSTERITY_FOLDER": str(ROOT), "POSTERITY_WAREHOUSE": "w.duckdb", **variables,
            },
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def made_of(self, what: str) -> set[str]:
        """The assets that the server was told another is made of."""
        asked = {"filter": {"event": {"name": ["prefect.asset.materialization.succeeded"]}}}
        url = f"http://127.0.0.1:{self.port}/api/events/filter"
        for event in httpx.post(url, json=asked, timeout=30).json()["events"]:
            if event["resource"]["prefect.resource.id"].endswith(what):
                related = event["related"]
                return {
                    r["prefect.resource.id"]
                    for r in related
                    if r["prefect.resource.role"] == "asset"
                }
        return set()

    def ask(self, path: str, **body: Any) -> Any:
        """The answer of Prefect's API."""
        url = f"http://127.0.0.1:{self.port}/api/{path}"
        return httpx.post(url, json=body, timeout=30).raise_for_status().json()

    def logged(self, run: str) -> str:
        """The log of a flow run, tasks included, as its page shows it."""
        found = self.ask("logs/filter", logs={"flow_run_id": {"any_": [run]}})
        return "\n".join(line["message"] for line in found)

    def message(self, text: str) -> bool:
        return any(text in (run["state"]["message"] or "") for run in self.runs())


def _wait(for_what: Callable[[], object], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := for_what():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def _pages_tell_all(served: Served, last: str) -> None:
    """The log of a firing, the names of firings, the parameters, and a schedule that has ended."""
    # The log of the firing before is lost with the server that was killed.
    log = served.logged(last)
    assert re.search(r"generation 1: evaluate: 57 done in .* s, .* a second", log), log
    assert re.search(r"generation 1: train: 4 done in .*, loss \d", log), log
    assert "generation 1: coverage" in log
    [deployment] = served.ask("deployments/filter", flows={"name": {"any_": ["posterity"]}},
                              deployments={"name": {"like_": "small"}})  # fmt: skip
    assert deployment["paused"]
    described = deployment["parameter_openapi_schema"]["properties"]
    assert all(one.get("description") for one in described.values()), described
    ended = ("COMPLETED", "CANCELLED")
    names = {run["name"] for run in served.runs() if run["state"]["type"] in ended}
    told = ("generation", "nothing left to do", "cancelled, ")
    assert all(any(word in name for word in told) for name in names), names


def _a_failed_run_is_notified_of(served: Served) -> None:
    """A run with a misspelt preset, started in the pages: it waits, says so, and notifies."""
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{hook.server_address[1]}/hook"
    for _ in range(2):  # the second time renews them
        made = served.module("flows.schedule.automations", POSTERITY_WEBHOOK=address)
    assert len(made.splitlines()) == 3
    assert len(served.ask("automations/filter")) == 3
    [deployment] = served.ask("deployments/filter", deployments={"name": {"like_": "small"}})
    changed = {**deployment["parameters"], "experiment": "quickstrat"}
    served.ask(f"deployments/{deployment['id']}/create_flow_run", parameters=changed)
    _wait(lambda: served.message("quickstart"), 120)
    [failed] = [run for run in served.runs() if run["state"]["type"] == "FAILED"]
    assert failed["name"] == "quickstrat: failed"
    assert "parameters changes and continue_as" in failed["state"]["message"]
    _wait(lambda: received, 60)
    assert json.loads(received[0])["text"].startswith("posterity.firing.failed: quickstrat: ")
    hook.shutdown()
    hook.server_close()


@pytest.mark.slow  # two minutes; `make chaos` kills schedules too
def test_a_schedule_survives_its_firings_and_its_server_being_killed(tmp_path: Path) -> None:
    served = Served(tmp_path)
    with served.running() as process:
        [firing] = _wait(lambda: at_work(process.pid, "spawn_main"))
        kill(firing)
        _wait(lambda: any(run["state"]["type"] == "CRASHED" for run in served.runs()))
        again = subprocess.run(served.command, env=served.environment, capture_output=True)
        assert again.returncode == 2
        assert b"another process serves" in again.stderr
        _wait(lambda: served.message("generation 0:"))
        for server in at_work(process.pid, "prefect server start"):
            kill(server)
        _wait(lambda: served.message("all 2 generations"))
        runs = [run for run in served.runs() if run["state"]["type"] == "COMPLETED"]
        [first] = [run for run in runs if run["name"].endswith("generation 0")]
        at = f"http://127.0.0.1:{served.port}"
        shown = look(f"{at}/runs/flow-run/{first['id']}", tmp_path / "run.png")
        assert all(what in shown for what in ("generation 0", "Completed", "Task run"))
        _wait(lambda: "generations" in look(f"{at}/artifacts", tmp_path / "artifacts.png"))
        assert served.made_of("generation-1/weights") == {
            f"posterity://{first['name'].split()[0]}/{what}"
            for what in ("generation-1/selection", "generation-0/weights")
        }
        assert served.prefect("work-pool", "create", "posterity", "--type", "process")
        assert "posterity/quickstart" in served.prefect("deploy", "--all")
        [last] = [run for run in runs if run["name"].endswith("generation 1")]
        _pages_tell_all(served, last["id"])
        _a_failed_run_is_notified_of(served)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 3
    experiment = load_experiment(str(tmp_path / "small.toml"))
    assert first["name"] == f"{experiment.id} generation 0"
    with Warehouse(tmp_path / "whole.duckdb") as store:
        iterate(store, experiment, Watch(quiet=True))
    assert contents(served.warehouse) == contents(tmp_path / "whole.duckdb")
    assert list(tmp_path.rglob("*.partial")) == []


def test_a_server_that_refuses_is_not_waited_for() -> None:
    """A wrong key is no outage: waiting for it would never end."""
    request = httpx.Request("GET", "http://127.0.0.1:4200/api/health")
    for status, refuses in ((401, True), (403, True), (422, True), (404, False), (503, False)):
        answer = httpx.Response(status, request=request)
        error = httpx.HTTPStatusError("no", request=request, response=answer)
        wrapped = RuntimeError("Failed to reach API")
        wrapped.__cause__ = error
        for one in (error, wrapped):
            with pytest.raises(ComponentFailure, match=str(status)) if refuses else nullcontext():
                require_heard(one)
    require_heard(httpx.ConnectError("nobody"))
