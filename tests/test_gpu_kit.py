"""The GPU kit runs everywhere at tiny size, so that no GPU minute is spent on a typing error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment

PARTS = ("machine", "same", "sampling", "training", "attention", "quickstart", "smollm2")
"""Without `compiled`, which compiles for a minute, and `pretrained`, which is as the quickstart."""


@pytest.mark.slow  # a minute; `make gpu ARGS=--tiny` is the same
def test_its_parts_run_and_are_not_repeated(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", *PARTS]
    there = environment(tmp_path) | {"PYTHONPATH": os.getcwd()}
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads((tmp_path / "build" / "gpu-tiny.json").read_text("utf-8"))
        assert list(found) == list(PARTS)
        assert found["same"]["texts that are the same twice"] == 1
        assert found["same"]["trained weights are the same twice"]
        assert found["sampling"]["embedded float32, tokens/s"] > 0
    assert "left out" in found["smollm2"]
