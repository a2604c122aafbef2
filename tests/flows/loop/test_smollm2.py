"""A generation of a real pretrained model on a CPU, by the commands that its preset begins with.

Ten minutes, so it runs only where it is asked for: `make slow`.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment, posterity

pytestmark = pytest.mark.slow
LESS = ("tasks.train.count=8", "tasks.heldout.count=4", "training.steps=40")
"""A part of the preset's work."""


def give(folder: Path, *words: str) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(
        posterity(*words),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    return done.stdout


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(give(folder, "query", sql, "--format", "json"))
    return found


def test_smollm2_is_deployed_judged_trained_and_deployed_again(tmp_path: Path) -> None:
    easy = ("--size", "3-5", "--horizon", "1-3", "--count", "150", "--seed", "9")
    give(tmp_path, "tasks", "blocksworld", *easy, "--out", "warm", "--plans")
    give(tmp_path, "ingest", "warm/traces.jsonl", "--source", "warm")
    changes = [word for change in LESS for word in ("--set", change)]
    give(tmp_path, "run", "smollm2", "--plain", *changes)

    first, second = rows(
        tmp_path,
        "SELECT generation, count(*) AS answers, "
        "count(*) FILTER (WHERE outcome = 'NO_PLAN') / count(*) AS no_plan, "
        "count(*) FILTER (WHERE logprob < 0 AND sampling_logprob < 0) AS told "
        "FROM traces JOIN stg_verdicts USING (trace, generation) "
        "WHERE traces.purpose <> 'ingest' GROUP BY ALL ORDER BY ALL",
    )
    assert first["answers"] == first["told"] == 8 * 2 + 12 * 3
    assert second["answers"] == second["told"] == 12 * 3
    assert second["no_plan"] < first["no_plan"], "it learned what a plan looks like"

    [learned] = rows(tmp_path, "SELECT training FROM generations WHERE generation = 1")
    facts = json.loads(learned["training"])
    assert facts["last_loss"] < facts["first_loss"] / 2
    give(tmp_path, "verify")
