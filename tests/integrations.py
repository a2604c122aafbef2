"""Our tasks and our checker in other libraries: `python -m tests.integrations verifiers inspect`.

Each library runs from an environment of its own, since they pin different versions of the same
packages. A gateway answers them with a script: valid plans for half of the tasks. Each must find
that half of the answers are right.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.gateway import TOML
from planners import pose
from tests.gateway import run, url_of
from tests.processes import environment, posterity

ROOT = Path(__file__).parent.parent
COUNT = 4
NEEDS = {
    "verifiers": ["verifiers==0.4.0", "uv"],
    "inspect": ["inspect-ai==0.3.285", "openai==3.57.0", "duckdb==1.5.5",
                "duckdb-sqlalchemy==1.5.6.5", "sqlalchemy<2.1", "pandas"],
    "lm-eval": ["lm-eval[api]==0.4.13"],
    "trl": ["trl==1.16.0"],
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


def python_of(name: str) -> Path:
    """The interpreter of a library's environment, which is made where it is missing."""
    folder = Path(sys.prefix) / "integrations" / name
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(partial)], check=True)
        if name == "trl":  # it needs torch, which is here
            own = next((partial / "lib").glob("python*/site-packages/"))
            here = next((Path(sys.prefix) / "lib").glob("python*/site-packages/"))
            (own / "here.pth").write_text(f"{here}\n")
        install = [str(partial / "bin/python"), "-m", "pip", "install", "-q", *NEEDS[name]]
        subprocess.run(install, check=True)
        partial.rename(folder)
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


TRIALS: dict[str, Callable[[str, Path], None]] = {
    "verifiers": verifiers, "inspect": inspect, "lm-eval": lm_eval, "trl": trl,
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
