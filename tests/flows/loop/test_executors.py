"""Workers on real local clusters: whoever samples and judges, the contents are the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.experiments.experiment import Experiment
from flows.experiments.tables import Workers
from flows.loop.executors import shares
from tests.conftest import contents, small

SPREAD = """
import json, sys
from flows.experiments.experiment import Experiment
from flows.schedule.orchestrate import iterate_with_prefect
from flows.progress import Watch
from warehouse.store import Warehouse
if __name__ == "__main__":
    with Warehouse(sys.argv[1]) as store:
        experiment = Experiment.model_validate(json.loads(sys.argv[2]))
        iterate_with_prefect(store, experiment, Watch(quiet=True))
"""


def test_shares_are_whole_in_order_and_nearly_even() -> None:
    workers = Workers(count=3)
    for length in range(20):
        found = shares(range(length), workers)
        assert [item for share in found for item in share] == list(range(length))
        assert len(found) == min(length, 6)
        assert not found or max(map(len, found)) - min(map(len, found)) <= 1


def test_workers_are_no_part_of_the_identity() -> None:
    alone = Experiment.model_validate(small())
    assert Experiment.model_validate(small(workers={"runner": "ray"})).id == alone.id


ADDRESS = """
from flows.experiments.tables import Workers
from flows.schedule.workers import ENGINES
with ENGINES["ray"](Workers(runner="ray", count=1)):
    import ray
    print([node["NodeManagerAddress"] for node in ray.nodes()])
"""


def test_ray_stays_on_loopback() -> None:
    """It would ask a public server for this machine's address, and listen there."""
    done = subprocess.run([sys.executable, "-c", ADDRESS], capture_output=True, text=True)
    assert done.stdout.strip() == "['127.0.0.1']", done.stderr[-2000:]


@pytest.mark.slow  # `make chaos` has runs with workers of both kinds too
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_two_workers_leave_what_one_process_leaves(
    runner: str, finished: Path, tmp_path: Path
) -> None:
    script, path = tmp_path / "spread.py", tmp_path / "w.duckdb"
    script.write_text(SPREAD)
    configuration = json.dumps(small(workers={"runner": runner, "count": 2}))
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, str(script), str(path), configuration],
        env={**os.environ, **home}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(path) == contents(finished)
    assert not (tmp_path / "w.duckdb.landing").exists()
