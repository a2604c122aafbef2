"""The device and threads that models run on, and how torch reports full memory."""

from __future__ import annotations

import os


def hardware() -> str:
    """The device that models run on: "cuda" where torch finds one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(threads: int) -> int:
    """Set torch's number of threads and return it; 0 means one per core, at most eight."""
    import torch

    threads = threads or min(8, os.cpu_count() or 1)
    torch.set_num_threads(threads)
    return threads


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is torch's error for full memory, on a GPU or a CPU."""
    import torch

    # On a CPU, torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
