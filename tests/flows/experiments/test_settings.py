"""Settings: declared once, defaults that can be written down, and hashes that stay."""

from dataclasses import fields

import pytest

from flows.experiments.experiment import ADDED_LATER, Experiment
from flows.experiments.reading import PRESETS, load_experiment
from flows.experiments.tables import Drawing, Judging, Model, Tasks
from planners.errors import InvalidInput
from planners.records import Sampling
from planners.training.settings import Adapter, Training
from tests.conftest import small

HASHES = {
    "quickstart": "689a895a5fd8",
    "blocksworld": "689a895a5fd8",
    "rovers": "83ee8d5d07af",
    "sokoban": "ee8267a45366",
    "ten-domains": "682c8a14f05a",
    "control": "9a868d305ac6",
    "reinforce": "442dc150c33f",
    "tiny": "5f6fd556b9e5",
    "deployed": "9d8911ae2c74",
    "smollm2": "4e86e4d46403",
    "smollm2-control": "6b01b2c6d8ff",
    "qwen3-0.6b": "47c2c0a28fac",
    "paper": "3b646a95631f",
    "validate": "1cd279edc8a1",
}
"""The hash of every preset. A setting that is added must leave them."""


def test_presets_keep_their_hashes() -> None:
    assert {name: load_experiment(name).hash for name in PRESETS} == HASHES


@pytest.mark.parametrize(
    "written",
    ["training.checkpointing=false", "training.method=sft", "training.validation=0",
     "training.validation=0.0", "training.processes=1", "model.policy=local", "judging.timeout=10"],
)  # fmt: skip
def test_a_default_can_be_written_down_and_changes_no_hash(written: str) -> None:
    assert load_experiment("tiny", [written]).hash == load_experiment("tiny").hash


def test_what_was_added_later_is_left_out_at_its_default_alone() -> None:
    drawing = Drawing(samples=1)
    of = {
        "training": Training(), "model": Model(), "judging": Judging(), "deploy": drawing,
        "evaluate": drawing, "tasks": Tasks(folder="mine"),
    }  # fmt: skip
    for table, defaults in ADDED_LATER.items():
        for name, default in defaults.items():
            assert getattr(of[table], name) == default
    for other in ("training.checkpointing=true", "training.validation=0.1"):
        assert load_experiment("tiny", [other]).hash != load_experiment("tiny").hash


def test_a_setting_is_declared_once() -> None:
    experiment = Experiment.model_validate(small(training={"lora": {"rank": 4}}))
    assert type(experiment.training) is Training
    assert type(experiment.training.lora) is Adapter
    assert isinstance(experiment.deploy, Sampling)
    more = {f.name for f in fields(Drawing)} - {f.name for f in fields(Sampling)}
    assert more == {"samples", "max_tool_calls"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.stepz=3", "unknown setting 'training.stepz'"),
        ("training.steps=0", "training.steps = 0: Input should be greater than 0"),
        ("training.steps='3'", "training.steps = '3': Input should be a valid integer"),
        ("training.lora={rank=0}", "training.lora.rank = 0"),
        ("training.validation=1", "training.validation = 1: Input should be less than 1"),
        ("training.method=ppo", "training.method = 'ppo'"),
        ("deploy.temperature=-1", "deploy.temperature = -1"),
        ("deploy.top_p=0", "deploy.top_p = 0"),
        ("deploy.samples=0", "deploy.samples = 0"),
        ("deploy.max_tool_calls=-1", "deploy.max_tool_calls = -1"),
        ("evaluate.sampels=3", "unknown setting 'evaluate.sampels'"),
        ("audit.traits={'a\", (SELECT 1) AS \"b'='size'}", "audit.traits"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(change: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load_experiment("tiny", [change])
    assert message in str(refused.value)
