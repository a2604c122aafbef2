"""Estimate a model's memory and time before it runs, from its shape and measured machine speed.

For dense decoders, a forward pass takes 2 operations per parameter and token. With the gradient it
takes 6 (Kaplan et al. 2020, section 2.1), or 8 if activations are computed twice.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planners.errors import CheckpointError
from planners.models.checkpoint import OURS, context_of
from planners.models.hardware import Device, Dtype, Hardware, hardware

ADAM = 16
"""Bytes per trained parameter: its value, its gradient and Adam's two moments, in float32."""
KEPT = 34
"""Numbers kept for the gradient, per layer, token and unit of width (Korthikanti et al. 2022)."""
PROBED = 1024
"""Side of the square matrices that are multiplied to measure the machine."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that models run on.

    `memory` is in bytes, `rate` in operations per second (dense products), `bandwidth` in bytes per
    second.
    """

    hardware: Hardware
    memory: int
    rate: float
    bandwidth: float

    @property
    def device(self) -> str:
        """Where models run: "cpu" or "cuda"."""
        return self.hardware.device

    @property
    def width(self) -> int:
        """Bytes per number when sampling."""
        return 4 if self.hardware.stored == "float32" else 2


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that decide its costs.

    `cached`: numbers in the key-value cache per token. `adapter`: parameters of a rank-1 adapter.
    """

    parameters: int
    layers: int
    hidden: int
    cached: int
    vocabulary: int
    context: int
    adapter: int


def this_machine(device: Device = "auto", dtype: Dtype = "auto") -> Machine:
    """This machine's device and memory, without measuring: its rates are infinite."""
    import torch

    used = hardware(device, dtype)
    if used.device == "cuda":
        memory = torch.cuda.mem_get_info()[1]
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(used, memory, math.inf, math.inf)


def measured(machine: Machine) -> Machine:
    """The same machine with its rates, which takes about half a second to measure."""
    import torch

    device = machine.device
    number = torch.float32 if machine.width == 4 else torch.bfloat16
    square = torch.ones((PROBED, PROBED), device=device, dtype=number)
    many = torch.ones(1 << 25, device=device)
    product = _seconds(lambda: square @ square)
    copy = _seconds(many.clone)
    return replace(machine, rate=2 * PROBED**3 / product, bandwidth=2 * many.nbytes / copy)


def _seconds(work: Any) -> float:
    """The shortest time of several runs."""
    import torch

    found = []
    for _ in range(8):
        begun = time.perf_counter()
        work()
        # A GPU works asynchronously: without this, only the launch would be timed.
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return min(found)


def shape_of(folder: Path) -> Shape:
    """The shape of a checkpoint's model, from its configuration alone. Raises CheckpointError."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, **OURS)
        # On the meta device, parameters have a shape and take no memory.
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        linear = [m for m in model.base_model.modules() if isinstance(m, torch.nn.Linear)]
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return Shape(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            cached=2 * config.num_hidden_layers * heads * head,
            vocabulary=config.vocab_size,
            context=context_of(config),
            adapter=sum(m.in_features + m.out_features for m in linear),
        )
    except Exception as error:  # of odd settings, transformers raises many types
        raise CheckpointError(f"the configuration in {folder} cannot be used: {error}") from error


def sampling_memory(shape: Shape, machine: Machine, rows: int, tokens: int) -> int:
    """Bytes to sample `rows` completions at once, each of `tokens` tokens with its prompt."""
    cache = rows * tokens * shape.cached
    return machine.width * (shape.parameters + cache) + 4 * rows * shape.vocabulary


def sampling_seconds(
    shape: Shape, machine: Machine, prompts: int, rows: int, read: float, written: float,
    at_once: int,
) -> float:  # fmt: skip
    """Seconds to read `prompts` once each and to write `rows` completions, `at_once` together.

    `read` and `written` are the tokens of one prompt and of one completion.
    """
    prefill = 2 * shape.parameters * prompts * read / machine.rate
    # A decoding step is limited by arithmetic, or by reading the weights and a cache that holds on
    # average the prompt and half of the completion.
    one = max(
        2 * shape.parameters * at_once / machine.rate,
        (machine.width * (shape.parameters + at_once * (read + written / 2) * shape.cached))
        / machine.bandwidth,
    )
    return prefill + one * written * -(-rows // at_once)


def training_memory(
    shape: Shape, machine: Machine, rows: int, tokens: int, rank: int | None, checkpointing: bool
) -> int:
    """Bytes to train on `rows` rows of `tokens` tokens at once.

    All weights are trained if `rank` is None, else an adapter of that rank.
    """
    trained = shape.parameters if rank is None else rank * shape.adapter
    weights = ADAM * trained + (0 if rank is None else machine.width * shape.parameters)
    # With checkpointing, layers keep only their input, and one at a time is computed again.
    kept = shape.layers * (1 if checkpointing else KEPT) + (KEPT if checkpointing else 0)
    return weights + rows * tokens * (machine.width * kept * shape.hidden + 8 * shape.vocabulary)


def training_seconds(shape: Shape, machine: Machine, tokens: float, checkpointing: bool) -> float:
    """Seconds to train on `tokens` tokens, prompts included."""
    return (8 if checkpointing else 6) * shape.parameters * tokens / machine.rate
