"""Verify: silent on what a run leaves behind, and it names whatever was changed afterwards."""

import shutil
from pathlib import Path

import duckdb
import pytest

from flows.audit.verify import verify
from flows.progress import Watch
from warehouse.store import Warehouse


def found(path: Path) -> dict[str, list[str]]:
    """What is wrong, by check; every check has looked at something and skipped nothing."""
    with Warehouse(path, read_only=True) as store:
        checks = list(verify(store, Watch(quiet=True)))
    assert all(check.looked_at for check in checks if check.name != "ingested")
    assert not any(check.skipped for check in checks)
    return {check.name: check.wrong for check in checks if check.wrong}


def test_a_run_verifies(finished: Path) -> None:
    assert found(finished) == {}


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        ("DELETE FROM traces WHERE sample = 0 AND generation = 0", {"references", "parts"}),
        ("UPDATE tasks SET pddl = replace(pddl, 'on-table b1', 'on-table b2')", {"tasks"}),
        ("UPDATE domains SET pddl = pddl || ' '", {"tasks"}),
        ("UPDATE experiments SET config = replace(config, '3', '4')", {"experiments"}),
        ("UPDATE traces SET seed = seed + 1 WHERE sample = 1", {"traces"}),
        ("UPDATE traces SET text = '(pickup b1)' WHERE purpose = 'deploy'", {"judgements"}),
        ("UPDATE judgements SET outcome = 'VALID' WHERE outcome <> 'VALID'", {"judgements"}),
        ("UPDATE selections SET kept = NOT kept", {"selections", "generations"}),
        ("UPDATE selections SET reason = 'no reason' WHERE kept", {"selections"}),
        ("UPDATE generations SET training_set_hash = 'x'", {"generations"}),
        ("UPDATE generations SET weights_hash = 'x'", {"generations"}),
        ("UPDATE canaries SET outcome = 'VALID'", {"canaries"}),
        ("DELETE FROM marks WHERE stage = 'evaluate'", {"parts"}),
    ],
)
def test_what_was_changed_is_named(
    finished: Path, tmp_path: Path, change: str, checks: set[str]
) -> None:
    path = tmp_path / finished.name
    shutil.copy(finished, path)
    shutil.copytree(f"{finished}.checkpoints", f"{path}.checkpoints")
    with duckdb.connect(path) as connection:
        connection.execute(change)
    with Warehouse(path, read_only=True) as store:
        wrong = {check.name for check in verify(store, Watch(quiet=True)) if check.wrong}
    assert checks <= wrong
