"""Our tasks, checker and figures in other libraries: `python -m tests.integrations trl mlflow`.

Each library runs from an environment of its own, since they pin different versions of the same
packages. A gateway answers them with a script: valid plans for half of the tasks. Each must find
that half of the answers are right.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.gateway import TOML
from planners import pose
from planners.processes import free_port
from tests.gateway import run, url_of
from tests.processes import environment, posterity
from warehouse.places.connect import VIEWS

ROOT = Path(__file__).parent.parent
COUNT = 4
NEEDS = {
    "verifiers": ["verifiers==0.4.0", "uv"],
    "inspect": ["inspect-ai==0.3.285", "openai==3.57.0", "duckdb==1.5.5",
                "duckdb-sqlalchemy==1.5.6.5", "sqlalchemy<2.1", "pandas", "pyarrow"],
    "lm-eval": ["lm-eval[api]==0.4.13", "annotated-types"],
    "trl": ["trl==1.16.0"],
    "dbt": ["dbt-core==1.10.23", "dbt-duckdb==1.11.1", "duckdb==1.5.5"],
    "mlflow": ["mlflow==3.17.2"],
    "trackers": ["mlflow-skinny==3.17.2", "wandb==0.31.0", "trackio==0.43.0"],
}  # fmt: skip
"""What each environment holds; all are MIT or Apache-2.0."""
VF_EVAL = "from verifiers.v1.cli.eval.main import main; main()"
GRPO = """
import sys
sys.path.insert(0, "integrations/trl")
from datasets import Dataset
from reward import rows, valid_plan
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from planners.models.embedded import embedded_base
folder = str(embedded_base(["blocksworld"]))
seen = []
def scored(completions, **columns):
    seen.extend(valid_plan(completions, columns["domain"], columns["problem"]))
    return seen[-len(completions):]
trainer = GRPOTrainer(
    AutoModelForCausalLM.from_pretrained(folder), scored,
    GRPOConfig(sys.argv[1], max_steps=1, num_generations=4, per_device_train_batch_size=4,
               max_completion_length=8, report_to="none", use_cpu=True),
    Dataset.from_list(rows(count=4)), processing_class=AutoTokenizer.from_pretrained(folder),
)
trainer.train()
solved = rows(count=1)[0]
from planners import pose
right = valid_plan([pose(count=1)[0].solution], [solved["domain"]], [solved["problem"]])
print("scored", len(seen), "and a right one", right)
"""


WANDB = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2 as pb
data, at, record, seen = open(sys.argv[1], "rb").read(), 7, b"", []
while at + 7 <= len(data):
    if (left := 32768 - at % 32768) < 7:
        at += left
        continue
    _, size, kind = struct.unpack("<IHB", data[at : at + 7])
    record += data[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):
        told, record = pb.Record.FromString(record), b""
        kind = told.WhichOneof("record_type")
        items = [i.key or list(i.nested_key) for i in told.history.item]
        seen.append(items if kind == "history" else kind)
print(json.dumps(seen))
"""
"""Reads an offline run: a log of records in blocks, as LevelDB writes it, after seven bytes."""


def python_of(name: str) -> Path:
    """The interpreter of a library's environment, which is made where it is missing, or held
    something else.
    """
    folder = Path(sys.prefix) / "integrations" / name
    held, needs = folder / "needs.txt", "\n".join(NEEDS[name])
    if not held.exists() or held.read_text() != needs:
        shutil.rmtree(folder, ignore_errors=True)
        partial = folder.with_name(folder.name + ".partial")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(partial)], check=True)
        if name in ("trl", "trackers"):  # they need what is here, such as torch
            own = next((partial / "lib").glob("python*/site-packages/"))
            here = next((Path(sys.prefix) / "lib").glob("python*/site-packages/"))
            (own / "here.pth").write_text(f"{here}\n")
        install = [str(partial / "bin/python"), "-m", "pip", "install", "-q", *NEEDS[name]]
        subprocess.run(install, check=True)
        partial.rename(folder)
        held.write_text(needs)
    return folder / "bin/python"


def of_library(name: str, module: str, *words: str, url: str, folder: Path) -> str:
    """What a library's command printed, run from the root of the project."""
    python = python_of(name)
    known = {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'integrations/verifiers'}", "OPENAI_API_KEY": "none",
        "GATEWAY_BASE_URL": url, "GATEWAY_API_KEY": "none", "HF_HUB_OFFLINE": "1",
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [str(python), *module.split(), *words], cwd=ROOT, env=environment(folder) | known,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def verifiers(url: str, folder: Path) -> None:
    """Its own evaluation of our taskset: rewards and metrics of each rollout."""
    of_library(
        "verifiers", "-c", VF_EVAL, "posterity_planning", "-m", "scripted",
        "--env.taskset.count", str(COUNT), "--no-push", "--client.type", "eval",
        "--client.base-url", url, "--client.api-key-var", "OPENAI_API_KEY",
        "--env.agent.harness.id", "null", "--env.agent.runtime.type", "subprocess",
        "--output-dir", str(folder / "outputs"), url=url, folder=folder,
    )  # fmt: skip
    [file] = (folder / "outputs").rglob("traces.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    scores = sorted(one["traces"][0]["rewards"]["valid"]["score"] for one in lines)
    assert scores == [0.0, 0.0, 1.0, 1.0], scores


def inspect(url: str, folder: Path) -> None:
    """Its own evaluation of our task; then a warehouse's traces as a log that it reads."""
    said = of_library(
        "inspect", "-m inspect_ai eval integrations/inspect_ai/planning.py", "-T",
        f"count={COUNT}", "--model", "openai-api/gateway/scripted", "--display", "plain",
        "--log-dir", str(folder / "logs"), url=url, folder=folder,
    )  # fmt: skip
    assert re.search(r"accuracy\s+0\.500", said), said
    made = run(folder, "run", "tiny", "--plain", "--set", "generations=0")
    assert made.returncode == 0, made.stderr
    name = re.search(r"tiny-[0-9a-f]{12}", made.stdout)
    assert name is not None
    out = folder / "traces.eval"
    script = "integrations/inspect_ai/traces.py"
    words = [str(folder / "w.duckdb"), name[0], "0", str(out)]
    of_library("inspect", script, *words, url=url, folder=folder)
    read = (
        "import sys; from inspect_ai.log import read_eval_log; log = read_eval_log(sys.argv[1]); "
        "print(len(log.samples), sum(s.scores['checker'].value == 'C' for s in log.samples))"
    )
    told = of_library("inspect", "-c", read, str(out), url=url, folder=folder).split()
    sql = (
        "SELECT count(*) AS traces, count(*) FILTER (WHERE outcome = 'VALID') AS valid "
        "FROM traces AS t JOIN stg_verdicts USING (trace) "
        "WHERE t.experiment LIKE 'tiny-%' AND t.purpose = 'evaluate'"
    )
    asked = run(folder, "query", sql, "--format", "csv")
    assert asked.returncode == 0, asked.stderr
    assert told == asked.stdout.split()[-1].split(","), (told, asked.stdout)


def lm_eval(url: str, folder: Path) -> None:
    """Its own evaluation of our task, through its client of chat completions."""
    said = of_library(
        "lm-eval", "-m lm_eval", "--model", "local-chat-completions", "--model_args",
        f"model=scripted,base_url={url}/chat/completions,num_concurrent=1,tokenized_requests=False",
        "--include_path", "integrations/lm_eval", "--tasks", "posterity_planning", "--metadata",
        json.dumps({"count": COUNT}), "--apply_chat_template", url=url, folder=folder,
    )  # fmt: skip
    assert re.search(r"valid\s*\|.*\|\s*0\.5\|", said), said


def trl(url: str, folder: Path) -> None:
    """A step of its GRPO with our reward, on the embedded base."""
    said = of_library("trl", "-c", GRPO, str(folder / "grpo"), url=url, folder=folder)
    assert "scored 4 and a right one [1.0]" in said, said


def mlflow(url: str, folder: Path) -> None:
    """A server of its own with an SQL store: it has each figure and file once, sent twice."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = [
        "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    server = subprocess.Popen(
        [str(python_of("mlflow")), "-m", "mlflow", *words], env=environment(folder),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{address}/health"):
                break
            time.sleep(0.1)
        name = tracked(folder, "mlflow", "--at", address, "--files")
        read = (
            "import json, sys; from mlflow import MlflowClient; c = MlflowClient(sys.argv[1]); "
            "[e] = [e for e in c.search_experiments() if e.name == sys.argv[2]]; print(json.dumps({"
            "r.data.tags['posterity_key']: {**{k: [(m.step, m.value) for m in "
            "c.get_metric_history(r.info.run_id, k)] for k in r.data.metrics}, 'files': "
            "[a.path for a in c.list_artifacts(r.info.run_id, 'checkpoint')], "
            "'status': r.info.status, 'params': r.data.params} "
            "for r in c.search_runs([e.experiment_id])}))"
        )
        found = json.loads(of_library("mlflow", "-c", read, address, name, url=url, folder=folder))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    figures, first = found[name], found[f"{name}-generation-001"]
    assert len(found) == 3, list(found)
    assert [step for step, _ in sorted(figures["coverage"])] == [0, 1], figures
    assert len(first["loss"]) == len({step for step, _ in first["loss"]}) > 10, first
    assert "checkpoint/model.safetensors" in first["files"], first["files"]
    assert (first["status"], first["params"]["parent"]) == ("FINISHED", "0"), first


def wandb(url: str, folder: Path) -> None:
    """Offline runs, which its own reader opens: figures, losses, and the files' manifest."""
    tracked(folder, "wandb", "--at", str(folder / "wb"), "--files")
    told = []
    for file in sorted((folder / "wb").rglob("*.wandb")):
        said = of_library("trackers", "-c", WANDB, str(file), url=url, folder=folder)
        told.append(json.loads(said))
    assert len(told) == 6, len(told)  # three runs, sent twice; its server merges them by id
    assert sum("loss" in str(one) for run in told for one in run) > 20, told
    assert sum("coverage" in str(one) for run in told for one in run) == 4, told
    assert any("artifact" in run or "request" in run for run in told), told


def trackio(url: str, folder: Path) -> None:
    """Its own command finds each run once, with every figure."""
    name = tracked(folder, "trackio", "--at", str(folder / "tio"))
    os.environ["TRACKIO_DIR"] = str(folder / "tio")
    read = (
        "import json, trackio, sys; from trackio.sqlite_storage import SQLiteStorage as S; "
        "print(json.dumps({r.name: S.get_logs('posterity', r.name) "
        "for r in trackio.Api().runs('posterity')}))"
    )
    said = of_library("trackers", "-c", read, url=url, folder=folder)
    found = json.loads(said.splitlines()[-1])
    # Generation 0 was not trained and has no loss, and Trackio keeps no run without values.
    assert set(found) == {name, f"{name}-generation-001"}, list(found)
    assert [row["step"] for row in found[name] if "coverage" in row] == [0, 1], found[name]
    losses = [row for row in found[f"{name}-generation-001"] if "loss" in row]
    assert len(losses) == len({row["step"] for row in losses}) > 10, losses


COMPARED = """
import duckdb, sys
from collections import Counter
c = duckdb.connect(sys.argv[1])
c.execute(f"ATTACH '{sys.argv[2]}' AS warehouse (READ_ONLY)")
names = [n for (n,) in c.execute("SELECT view_name FROM duckdb_views() "
    "WHERE database_name = 'warehouse' AND NOT internal").fetchall()]
def rows(name):
    return Counter(map(str, c.execute(f"FROM {name}").fetchall()))
differ = [n for n in names if rows(f"main.{n}") != rows(f"warehouse.{n}")]
print(len(names), *differ)
"""
"""How many views there are, and those whose rows are not the mart's."""


def dbt(url: str, folder: Path) -> None:
    """Its own build of our package, tests and all: every mart has the rows of its view."""
    made = run(folder, "run", "tiny", "--plain", "--set", "generations=1")
    assert made.returncode == 0, made.stderr
    paths = {
        "POSTERITY_SNAPSHOT": str(folder / "w.duckdb.snapshot"),
        "POSTERITY_DBT": str(folder / "dbt.duckdb"),
    }
    os.environ |= paths
    where = ["--project-dir", "integrations/dbt", "--profiles-dir", "integrations/dbt"]
    said = of_library(
        "dbt", "-m dbt.cli.main build", *where, "--target-path", str(folder / "target"),
        "--log-path", str(folder / "logs"), url=url, folder=folder,
    )  # fmt: skip
    assert re.search(r"ERROR=0 SKIP=0 .*TOTAL=[1-9]\d\d", said), said
    told = of_library("dbt", "-c", COMPARED, *reversed(paths.values()), url=url, folder=folder)
    assert told.split() == [str(len(VIEWS))], told


def tracked(folder: Path, *words: str) -> str:
    """The experiment that was made and sent to a tracker, twice."""
    made = run(folder, "run", "tiny", "--plain", "--set", "generations=1")
    assert made.returncode == 0, made.stderr
    name = re.search(r"tiny-[0-9a-f]{12}", made.stdout)
    assert name is not None
    for _ in range(2):
        of_library(
            "trackers", "-m flows track", words[0], "tiny", *words[1:],
            "--warehouse", str(folder / "w.duckdb"), url="", folder=folder,
        )  # fmt: skip
    return name[0]


TRIALS: dict[str, Callable[[str, Path], None]] = {
    "verifiers": verifiers, "inspect": inspect, "lm-eval": lm_eval, "trl": trl,
    "dbt": dbt, "mlflow": mlflow, "wandb": wandb, "trackio": trackio,
}  # fmt: skip


def main() -> None:
    """Each trial that is asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="LIBRARY", help=", ".join(TRIALS))
    chosen = parser.parse_args().names or list(TRIALS)
    if unknown := set(chosen) - set(TRIALS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(TRIALS)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        script = folder / "s.jsonl"
        lines = [
            {"prompt": one.prompt, "completions": ["(fly b1)" if number % 2 else one.solution]}
            for number, one in enumerate(pose(count=COUNT))
        ]
        script.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "small.toml").write_text(TOML.format(script=script))
        assert run(folder, "run", str(folder / "small.toml"), "--plain").returncode == 0
        command = posterity(
            "deploy", str(folder / "small.toml"), "--port", "0",
            "--warehouse", str(folder / "w.duckdb"),
        )  # fmt: skip
        for name in chosen:
            with subprocess.Popen(
                command, env=environment(folder), stdout=subprocess.PIPE, text=True
            ) as gateway:
                try:
                    TRIALS[name](url_of(gateway), folder)
                finally:
                    gateway.terminate()
                    gateway.wait()
            print(f"{name}: scored as it should be", flush=True)


if __name__ == "__main__":
    main()
