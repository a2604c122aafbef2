"""The device and threads that models run on, and how torch reports full memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from planners.errors import InvalidInput

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "fastest"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where models run, "cpu" or "cuda", and the type of their numbers: "auto" is float32 on a CPU
    and the type of the stored weights on a GPU. "fastest" became one of the others in `hardware`.
    """

    device: str
    dtype: Dtype = "auto"

    @property
    def stored(self) -> str:
        """The type that weights are loaded with, as transformers names it."""
        return "float32" if self.dtype == "auto" and self.device == "cpu" else self.dtype

    @property
    def mixed(self) -> bool:
        """Whether training calculates in bfloat16, with weights in float32."""
        return self.dtype == "bfloat16" or (self.dtype == "auto" and self.device == "cuda")


_chosen: tuple[Device, Dtype] = ("auto", "auto")


def use_hardware(device: Device = "auto", dtype: Dtype = "auto") -> None:
    """Let this process's models run there; "auto" is the GPU where torch finds one."""
    global _chosen
    _chosen = device, dtype


def hardware(device: Device | None = None, dtype: Dtype | None = None) -> Hardware:
    """The hardware in use, or the one that is named. Raises InvalidInput if its GPU is missing."""
    import torch

    device, dtype = device or _chosen[0], dtype or _chosen[1]
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise InvalidInput(
            "model.device = 'cuda', but torch finds no GPU here; set 'cpu' or 'auto', or install a "
            "torch built for this machine's GPU"
        )
    used = "cuda" if found and device != "cpu" else "cpu"
    if dtype == "fastest":
        dtype = "bfloat16" if used == "cuda" or calculates_in_bfloat16() else "float32"
    return Hardware(used, dtype)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit torch to one thread per caller while the block runs.

    Several batches at once, one per core, beat one batch on all cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def widest() -> Iterator[None]:
    """Multiply float32 matrices at a processor's full width while the block runs.

    MKL, which torch calls for that, uses half of the width of an AMD processor with AVX-512. oneDNN
    uses all of it, in float32 too, and torch calls it where it may calculate less exactly; with the
    tiles of AMX it would. Planning a product takes it long, so that many shapes are not worth it.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    if _flagged("avx512f") and not _flagged("amx_tile") and "AuthenticAMD" in _processor():
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _processor() -> str:
    """Linux's words on the processor; none elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text("ascii", "ignore")
    except OSError:
        return ""


def _flagged(flag: str) -> bool:
    return bool(re.search(rf"^(flags|Features)\s*:.*\b({flag})\b", _processor(), re.M))


def calculates_in_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16; without them it takes a hundred times
    as long. Told by what the system says of it, not by a measurement, which could change from one
    run to the next.
    """
    return _flagged("avx512_bf16|amx_bf16|bf16")


def cores(threads: int) -> int:
    """The number of cores that a setting of threads stands for; 0 means all, at most eight."""
    return threads or min(8, os.cpu_count() or 1)


_processes = 1


def share_with(processes: int) -> None:
    """Leave cores to other processes: so many work side by side, this one among them."""
    global _processes
    _processes = processes


def use_threads(threads: int) -> int:
    """Set torch's number of threads and return it; 0 means one per core, at most eight."""
    import torch

    count = max(1, cores(threads) // _processes)
    torch.set_num_threads(count)
    return count


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is torch's error for full memory, on a GPU or a CPU."""
    import torch

    # On a CPU, torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
