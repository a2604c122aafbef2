"""A real pretrained language model on a CPU: warmed up, put to work, trained and measured again.

A quarter of an hour on one core, so it runs only where it is asked for: `make slow`.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment, posterity

pytestmark = pytest.mark.slow
LESS = (
    "generations=1", "tasks.train.count=40", "tasks.train.horizons=[2,3]",
    "tasks.heldout.count=20", "tasks.heldout.horizons=[2,3]", "tasks.larger.count=5",
)  # fmt: skip
"""A part of the preset's work."""


def give(folder: Path, *words: str) -> str:
    """The output of a command, which must succeed."""
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


def test_smollm2_is_warmed_up_deployed_judged_trained_and_measured(tmp_path: Path) -> None:
    changes = [word for change in LESS for word in ("--set", change)]
    give(tmp_path, "run", "smollm2", "--plain", *changes)
    base, first = rows(
        tmp_path,
        "SELECT generation, count(*) AS answers, "
        "count(*) FILTER (WHERE outcome = 'VALID') AS valid, "
        "count(*) FILTER (WHERE logprob < 0 AND sampling_logprob < 0) AS told "
        "FROM traces JOIN stg_verdicts USING (trace, generation) "
        "WHERE traces.purpose = 'evaluate' GROUP BY ALL ORDER BY ALL",
    )
    assert base["answers"] == first["answers"] == first["told"] == 65 * 3
    assert first["valid"] > base["valid"], "it learned from its own valid plans"
    for row in rows(tmp_path, "SELECT training FROM generations"):
        facts = json.loads(row["training"])
        assert facts["last_loss"] < facts["first_loss"]
    give(tmp_path, "verify")
