"""The containers as a user would start them: `python -m tests.flows.deployment.containers`.

Builds the image and starts `compose.yaml` under a project name of its own. Users ask through
OpenAI's client, the gateway is killed, and the schedule must make generation 1, which then answers.
With `--served`, a vLLM for CPUs answers, in a container as `compose.served.yaml` has it. Where an
image or torch's index cannot be reached, the variables BASE, POSTGRES_IMAGE and TORCH name others.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import openai

from tests.engines import UNWANTED, VLLM
from tests.gateway import body, experiment

ROOT = Path(__file__).parents[3]
URL = "http://127.0.0.1:8080/v1"
KEYS = {"POSTGRES_PASSWORD": "catalogue", "POSTERITY_USER_KEY": "users", "POSTERITY_API_KEYS": "k"}
PATIENCE = 600.0
"""Seconds until a state that must come counts as missing."""


SERVED = """
[model]
policy = "served"
[model.server]
urls = ["http://model:8000/v1"]
model = "base"
adapters = true
tolerance = 1e-3
[training]
steps = 4
batch = 8
lora = { rank = 8, alpha = 16 }
"""
BASE = "/data/base"
"""Where the model server finds the embedded base."""
COPY = f"""
import shutil
from planners.models.embedded import embedded_base
shutil.copytree(embedded_base(["blocksworld"]), {BASE!r})
"""
VLLM_IMAGE = f"""
ARG BASE=python:3.11-slim-bookworm
FROM ${{BASE}}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends libnuma1
RUN pip install {VLLM} && pip uninstall -y {" ".join(UNWANTED)}
ENV TORCH_COMPILE_DISABLE=1 VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1
ENTRYPOINT ["python", "-m", "vllm.entrypoints.openai.api_server", "--dtype=float32", \
    "--max-model-len=512"]
"""


class Containers:
    """A project of compose, which is gone with its volumes at the end."""

    def __init__(self, folder: Path, served: bool) -> None:
        os.chmod(folder, 0o755)
        toml = experiment(folder)
        if served:
            text = toml.read_text()
            for table in ("training", "model"):  # written below with what a server needs
                text = re.sub(rf"\[{table}\]\n([^\[]*\n)*", "", text)
            toml.write_text(text + SERVED)
        toml.chmod(0o644)
        made = {"EXPERIMENTS": str(folder), "EXPERIMENT": f"/experiments/{toml.name}"}
        self.env = os.environ | KEYS | made | {"CRON": "* * * * *"}
        two = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        program = ["docker", "compose"] if two else [shutil.which("docker-compose") or "docker"]
        self.compose = [*program, "--project-name", "posterity-test"]
        if served:
            self.env |= {"MODEL": BASE, "MODEL_IMAGE": "posterity-test-vllm", "LORA_RANK": "8"}
            (folder / "Dockerfile").write_text(VLLM_IMAGE)
            build = ["docker", "build", "--tag", "posterity-test-vllm", str(folder)]
            subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
            # As it is, but for the reservation of a GPU.
            whole = (ROOT / "compose.served.yaml").read_text()
            without, count = re.subn(r"    deploy:\n(      .*\n)+", "", whole)
            assert count == 1
            (folder / "served.yaml").write_text(without)
            files = [str(ROOT / "compose.yaml"), str(folder / "served.yaml")]
            self.compose += [word for file in files for word in ("--file", file)]
            self("run", "--rm", "--no-deps", "--entrypoint", "python", "first", "-c", COPY)

    def __call__(self, *words: str, check: bool = True) -> str:
        """What a command of compose prints."""
        done = subprocess.run(
            [*self.compose, *words], cwd=ROOT, env=self.env, capture_output=True, text=True
        )
        if check and done.returncode:
            raise RuntimeError(f"{words}: {done.stdout[-4000:]} {done.stderr[-4000:]}")
        return done.stdout

    def posterity(self, *words: str) -> str:
        """What a command of posterity prints beside them, on the same warehouse."""
        return self("run", "--rm", "--no-deps", "first", *words)


def until(true: Callable[[], bool], what: str) -> float:
    """Wait for it; gives the seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < PATIENCE, f"{what}: not after {PATIENCE:.0f} s"
        time.sleep(1)
    return time.monotonic() - began


def ask(client: openai.OpenAI, seed: int) -> str:
    """A user's request, accepted where the plan is valid; gives its trace's id."""
    asked = {**body(seed, attempts=4), "user": f"user {seed % 5}"}
    plan = client.post("/plans", body=asked, cast_to=object)
    if plan["valid"]:
        said = {"trace": plan["trace"], "feedback": "accept", "user": f"user {seed % 5}"}
        client.post("/feedback", body=said, cast_to=object)
    return plan["trace"]


def answers(client: openai.OpenAI, model: str) -> bool:
    """Whether the gateway has the model."""
    try:
        return any(one.id == model for one in client.models.list())
    except openai.APIConnectionError:
        return False


def main() -> None:
    """Build, start, ask, kill, wait for generation 1, and take all of it away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--served", action="store_true", help="with a model server")
    served = parser.parse_args().served
    client = openai.OpenAI(base_url=URL, api_key="k", max_retries=0)
    with tempfile.TemporaryDirectory() as folder:
        containers = Containers(Path(folder), served)
        try:
            containers("up", "--build", "--detach")
            took = until(lambda: answers(client, "small"), "the gateway")
            print(f"the base answers after {took:.0f} s", flush=True)
            asked = [ask(client, seed) for seed in range(30)]
            containers("kill", "gateway")
            containers("up", "--detach", "gateway")
            until(lambda: answers(client, "small"), "the killed gateway")
            asked += [ask(client, seed) for seed in range(30, 40)]
            took = until(lambda: answers(client, "small@1"), "generation 1")
            print(f"generation 1 is there {took:.0f} s later", flush=True)
            of_it = {**body(40), "model": "small@1"}
            plan = client.post("/plans", body=of_it, cast_to=object)
            assert plan["generation"] == 1, plan
            count = "SELECT count(*) AS n FROM traces WHERE purpose = 'request' AND trace IN "
            some = "(" + ", ".join(f"'{one}'" for one in asked) + ")"
            told = containers.posterity("query", count + some, "--format", "csv").split()
            assert int(told[-1]) == len(asked), f"{told} of {len(asked)} answers are kept"
            print(containers.posterity("verify"))
            open_to = containers("exec", "-T", "gateway", "id", "-u").strip()
            assert open_to != "0", "the gateway must not be root"
            containers("stop", "gateway", "schedule")
        except BaseException:
            print(containers("logs", "--tail", "40", check=False))
            raise
        finally:
            containers("down", "--volumes", check=False)


if __name__ == "__main__":
    main()
