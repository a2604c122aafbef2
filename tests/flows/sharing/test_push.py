"""A generation goes to a hub with its card: by the real client, to a hub on loopback."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.audit.known import experiments
from flows.sharing.card import card
from flows.sharing.push import parcel
from planners.errors import InvalidInput
from planners.models.checkpoint import load, save, with_adapter
from tests.flows.commands.test_cli import posterity
from warehouse.records import Experiment
from warehouse.store import Warehouse

TOKEN = "hf_secretsecretsecret"


@contextmanager
def hub(refuses: bool = False, private: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    """A hub that takes everything: its address, and what it was sent."""
    sent: dict[str, Any] = {"paths": [], "files": {}}

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            sent["paths"].append(self.path)
            sent["token"] = self.headers.get("authorization")
            repository = f"http://{self.headers['host']}/me/plans"
            told: dict[str, Any] = {"url": repository}
            if self.path.endswith("/create"):
                sent["asked"] = json.loads(body)
            elif "/preupload/" in self.path:
                names = [one["path"] for one in json.loads(body)["files"]]
                modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
                told = {"files": modes}
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        value = line["value"]
                        sent["files"][value["path"]] = base64.b64decode(value["content"])
                told = {
                    "success": True,
                    "commitOid": "c0ffee",
                    "commitUrl": f"{repository}/commit/c0ffee",
                }
            self._answer(403 if refuses else 200, {"error": "no"} if refuses else told)

        def do_GET(self) -> None:
            sent["paths"].append(self.path)
            told = {"id": "me/plans", "siblings": [], "sha": "c0ffee", "private": private}
            self._answer(200, told)

        def _answer(self, status: int, told: dict[str, Any]) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        server.server_close()


def test_a_generation_goes_to_a_hub_with_its_card(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    words = ["push", "me/plans", "--warehouse", str(finished), "--license", "apache-2.0"]
    with hub() as (address, sent):
        monkeypatch.setenv("HF_ENDPOINT", address)
        told = posterity(*words, "--generation", "1", "--dry-run", folder=tmp_path)
        assert (told.returncode, sent["paths"]) == (0, []), told.stderr
        done = posterity(*words, "--generation", "1", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{address}/me/plans/commit/c0ffee\n"
    with Warehouse(finished, read_only=True) as store:
        [experiment] = [one.id for one in store.every(Experiment) if one.config != "{}"]
        made = store.generation(experiment, 1)
    assert made is not None
    asked = sent["asked"]
    assert (asked.get("private"), asked.get("visibility")) in ((True, None), (None, "private"))
    assert sent["token"] == f"Bearer {TOKEN}"
    folder = Path(f"{finished}.checkpoints") / made.checkpoint
    files = dict(sent["files"])
    text = files.pop("README.md").decode()
    assert files == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert f"{text}\n" in told.stdout
    size = len(files["model.safetensors"])
    assert f"would go to me/plans: model.safetensors, {size:,} bytes" in told.stdout
    fields = yaml.safe_load(text.split("---")[1])
    assert fields["license"] == "apache-2.0"
    assert {"posterity", "blocksworld"} <= set(fields["tags"])
    for fact in (made.weights_hash, made.training_set_hash, "## Limits", "| 1 |"):
        assert str(fact) in text
    assert "| 2 |" not in text, "nothing of later generations"


def test_what_cannot_be_pushed_is_one_message(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for words, reason in (
        (["plans"], "'plans' is no repository of a hub"),
        (["me/plans", "--generation", "9"], "has no generation 9"),
        (["me/../plans"], "is no repository of a hub"),
    ):
        told = posterity("push", *words, "--warehouse", str(finished), folder=tmp_path)
        assert told.returncode == 2
        assert reason in told.stderr
    with hub(refuses=True) as (address, _):
        monkeypatch.setenv("HF_ENDPOINT", address)
        told = posterity("push", "me/plans", "--warehouse", str(finished), folder=tmp_path)
    assert told.returncode == 3
    assert "the hub took nothing of me/plans: " in told.stderr
    assert "Traceback" not in told.stderr
    assert TOKEN not in told.stderr


def test_a_card_holds_no_markup_of_the_data(finished: Path, tmp_path: Path) -> None:
    place = tmp_path / "w.duckdb"
    place.write_bytes(finished.read_bytes())
    shutil.copytree(f"{finished}.checkpoints", f"{place}.checkpoints")
    odd = "<script>alert(1)</script> [x](http://y) `z` | **b**"
    done = posterity("promote", "1", "--reason", odd, "--warehouse", str(place), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with Warehouse(place, read_only=True) as store:
        [one] = experiments(store)[0]
        said = [line for line in card(store, one, 1).splitlines() if "promoted by person" in line]
    assert len(said) == 1
    assert not set("<>[]`|*") & set(said[0])


def test_the_card_of_the_base_claims_no_choice(finished: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        [one], _ = experiments(store)
        base, child = (card(store, one, generation) for generation in (0, 1))
    assert "It learned from no choice yet." in base
    assert "was not run on this generation" not in base
    assert "was not run on this generation" in child


def test_a_repository_that_everybody_reads_gets_nothing_unasked(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there already, so that nothing is created as private."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub(private=False) as (address, sent):
        monkeypatch.setenv("HF_ENDPOINT", address)
        refused = posterity("push", "me/plans", "--warehouse", str(finished), folder=tmp_path)
        assert refused.returncode == 2
        assert "exists already, and it is public; push with --public" in refused.stderr
        assert sent["files"] == {}


def test_an_adapter_names_its_base_as_others_do(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """And not by the folder in which it lies here."""
    folder = tmp_path / "adapter"
    model, tokenizer = load(tiny_checkpoint)
    save(with_adapter(model, 2, 4, 0.0), tokenizer, folder)
    with pytest.raises(InvalidInput, match="is an adapter of embedded, which is not on a hub"):
        parcel("me/plans", folder, "card", "embedded")
    found = parcel("me/plans", folder, "card", "Qwen/Qwen3-0.6B")
    told = json.loads(found._content(folder / "adapter_config.json"))
    assert (told["r"], told["base_model_name_or_path"]) == (2, "Qwen/Qwen3-0.6B")
    with pytest.raises(InvalidInput, match="which is not on a hub"):
        parcel("me/plans", folder, "card", "private/base.gguf")


def test_only_files_of_a_checkpoint_go(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Generation 0 may be a folder of the user's own, with much else in it."""
    folder = tmp_path / "own"
    shutil.copytree(tiny_checkpoint, folder)
    for name in (".env", "training_args.bin", "optimizer.pt", "notes.md"):
        (folder / name).write_text("secret")
    names = {name for name, _ in parcel("me/plans", folder, "card", "own").files()}
    assert names == {"README.md", *(file.name for file in tiny_checkpoint.iterdir())}
