"""The machine that models run on: its device, its threads, and how it says that memory is full."""

from __future__ import annotations

import os


def hardware() -> str:
    """The device that models run on: "cuda" where torch finds one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(threads: int) -> int:
    """Fix torch's number of threads and return it; 0 takes one a core, at most eight."""
    import torch

    threads = threads or min(8, os.cpu_count() or 1)
    torch.set_num_threads(threads)
    return threads


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is torch's way to say that memory is full, on a GPU or a CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
