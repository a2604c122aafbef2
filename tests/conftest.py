"""Shared fixtures: small tasks, a small random model, a warehouse in a temporary folder."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from planners.domains import DOMAINS
from planners.models.hardware import use_hardware
from planners.pddl import Task, read_task
from planners.pddl.printing import print_problem
from warehouse import schema
from warehouse.store import Warehouse

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("posterity", deadline=None)
settings.load_profile("posterity")


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "w.duckdb") as store:
        yield store


def blocks_task(size: int, horizon: int, seed: int) -> Task:
    problem = DOMAINS["blocksworld"].generate(size, horizon, Random(seed))
    assert problem is not None
    return read_task(DOMAINS["blocksworld"].text, print_problem(problem))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the base's family, small enough to train in a test."""
    from planners.training.pretraining import build_model, build_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    build_model(0, len(tokenizer), layers=2, width=64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def small(**changes: Any) -> dict[str, Any]:
    """An experiment of seconds as a configuration dictionary."""
    grades = {"sizes": [3, 4], "horizons": [1, 2]}
    return {
        "name": "small",
        "generations": 2,
        "tasks": {
            "domain": "blocksworld",
            "train": {"count": 12, **grades},
            "heldout": {"count": 4, **grades},
            "larger": {"count": 3, "sizes": [5, 6], "horizons": [1, 2]},
        },
        "model": {"threads": 1},
        "deploy": {"samples": 3, "max_new_tokens": 48},
        "evaluate": {"samples": 3, "max_new_tokens": 48},
        "training": {"steps": 3, "batch": 8},
        **changes,
    }


def contents(where: Path | str) -> dict[str, list[Any]]:
    """Every row of every table of a warehouse, in a fixed order."""
    with Warehouse(where) as store:
        return {
            name: store.frame(f"SELECT * FROM {name} ORDER BY ALL").astype(str).to_numpy().tolist()
            for name in schema.metadata.tables
        }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of an experiment of seconds, run to its end; not to be changed."""
    from flows.experiments.experiment import Experiment
    from flows.iterate import iterate
    from flows.progress import Watch

    path = tmp_path_factory.mktemp("finished") / "w.duckdb"
    with Warehouse(path) as store:
        iterate(store, Experiment.model_validate(small()), Watch(quiet=True))
    return path


def copied(finished: Path, folder: Path) -> Path:
    """A copy of the run, to change."""
    path = folder / finished.name
    shutil.copy(finished, path)
    shutil.copytree(f"{finished}.checkpoints", f"{path}.checkpoints")
    return path


@pytest.fixture(autouse=True)
def hardware_as_it_was() -> Iterator[None]:
    """No test's precision or device is left to those after it in the same process."""
    yield
    use_hardware()
