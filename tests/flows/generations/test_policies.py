"""Who answers: a planner, a script, a server that is started for each generation; and what a run
will cost.
"""

import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from flows.audit.verify import verify
from flows.commands.main import app
from flows.experiments.experiment import Experiment
from flows.experiments.reading import PRESETS, load_experiment
from flows.generations.policies import policy_of, unlearned
from flows.generations.tasks import tasks_for
from flows.iterate import iterate
from flows.loop.ingest import ingest
from flows.progress import Watch
from planners.checking.reference import reference_plan
from planners.errors import InvalidInput
from planners.policies.baselines import ScriptedPolicy
from planners.policies.model_server import serving
from planners.prompts.formats import PROMPTS
from tests.conftest import small
from tests.tiny_gguf import write_tiny_gguf
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
ONE = {"generations": 0, "evaluate": {"samples": 2, "max_new_tokens": 8}}


def coverage(warehouse: Warehouse) -> dict[str, float]:
    rows = warehouse.frame("SELECT split, sum(solved) / sum(tasks) AS c FROM coverage GROUP BY ALL")
    return dict(zip(rows["split"], rows["c"], strict=True))


FEW = {
    "domain": "blocksworld",
    "train": {"count": 3, "sizes": [3, 4], "horizons": [1, 2]},
    "heldout": {"count": 1, "sizes": [3, 4], "horizons": [1, 2]},
    "larger": {"count": 1, "sizes": [5, 6], "horizons": [1, 2]},
}
"""Tasks for what asks a planner about each: it takes a second to start."""


def disagreements(warehouse: Warehouse) -> list[str]:
    return [line for check in verify(warehouse, QUIET) for line in check.wrong]


def test_a_planner_solves_what_a_model_may_hope_for(warehouse: Warehouse) -> None:
    model = {"policy": "planner", "prompt": "task", "seconds": 20.0}
    iterate(warehouse, Experiment.model_validate(small(**ONE, model=model, tasks=FEW)), QUIET)
    assert coverage(warehouse) == {"train": 1.0, "heldout": 1.0, "larger": 1.0}
    assert not disagreements(warehouse)


def test_a_script_answers_by_prompt(warehouse: Warehouse, tmp_path: Path) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text("")
    model = {"policy": "scripted", "base": str(script), "prompt": "pddl"}
    draft = Experiment.model_validate(small(**ONE, model=model, tasks=FEW))
    with Warehouse(tmp_path / "draft.duckdb") as other:
        iterate(other, draft, QUIET)
        assert coverage(other)["train"] == 0
        train = [t for t in tasks_for(other, draft, "evaluate") if t.split == "train"]
    lines = []
    for task in train:
        prompt = PROMPTS["pddl"].write(task.parsed)
        plan = reference_plan(task.domain_pddl, task.pddl)
        lines.append(json.dumps({"prompt": prompt, "completions": [f"<plan>\n{plan}</plan>"]}))
    script.write_text("\n".join(lines))
    iterate(warehouse, draft, QUIET)
    assert coverage(warehouse) == {"train": 1.0, "heldout": 0.0, "larger": 0.0}
    assert not disagreements(warehouse)
    script.write_text("")
    changed = pytest.raises(
        InvalidInput, match=r"the policy is scripted .* was begun with scripted"
    )
    with changed, policy_of(warehouse, draft, 0, draft.deploy):
        pass
    script.write_text('{"prompt": "a", "completions": "b"}')
    with pytest.raises(InvalidInput, match="`completions` is no list"):
        unlearned(draft)
    script.write_text('{"prompt": "a", "completions": ["b\u2028c"]}\r\n', encoding="utf-8")
    policy = unlearned(draft)
    assert isinstance(policy, ScriptedPolicy)
    assert policy.answers("a") == ["b\u2028c"]
    script.write_text("")
    assert "no longer has the recorded hash scripted" in disagreements(warehouse)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"policy": "planner", "prompt": "task"}}, "learns nothing"),
        ({"model": {"policy": "planner"}}, "go together"),
        ({"model": {"policy": "served", "server": {}}}, "name the running servers"),
        ({"model": {"server": {"command": "x"}}}, "is for policy = 'served'"),
        (
            {"model": {"policy": "served", "server": {"urls": ["http://127.0.0.1:1/v1"]}}},
            "holds the base alone",
        ),
        ({"training": {"method": "reinforce"}}, "go together"),
        ({"curation": {"curator": "rollouts"}}, "go together"),
    ],
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Experiment.model_validate(small(**changes))


def test_where_a_server_is_does_not_make_another_experiment() -> None:
    def at(url: str) -> Experiment:
        server = {"urls": [url]}
        model = {"policy": "served", "base": "tiny", "server": server}
        return Experiment.model_validate(small(**ONE, model=model))

    assert at("http://127.0.0.1:1/v1").hash == at("http://127.0.0.1:2/v1").hash


def test_a_model_that_only_a_server_has(warehouse: Warehouse, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    command = f"{sys.executable} -m tests.llama_server {{checkpoint}} {{port}}"
    with serving(command, file) as url:
        model = {"policy": "served", "base": "tiny", "server": {"urls": [url]}}
        iterate(warehouse, Experiment.model_validate(small(**ONE, model=model)), QUIET)
    traces = warehouse.frame(
        "SELECT count(*) AS n, count(logprob) AS told, count(DISTINCT policy) AS policies, "
        "min(policy) AS policy, sum(plan_tokens) > 0 AS counted FROM traces"
    )
    assert traces.iloc[0].to_list() == [38, 38, 1, "served tiny", True]
    assert warehouse.frame("SELECT weights_hash FROM generations")["weights_hash"][0] == "unknown"
    assert not disagreements(warehouse)


def test_each_generation_is_served_by_a_server_of_its_own(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deploy, judge, train an adapter, deploy again: over HTTP, from a GGUF file on."""
    monkeypatch.setenv("POSTERITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    program = Path(sys.executable).with_name("transformers")
    grades = {"sizes": [3, 3], "horizons": [1, 2]}
    experiment = Experiment.model_validate(
        small(
            generations=1,
            tasks={"domain": "blocksworld", "train": {"count": 3, **grades}},
            model={
                "base": str(write_tiny_gguf(tmp_path / "tiny.gguf")),
                "policy": "served",
                "server": {
                    "command": f"{program} serve {{checkpoint}} --host 127.0.0.1 --port {{port}}",
                    "concurrency": 2,
                },
            },
            deploy={"samples": 1, "max_new_tokens": 4},
            evaluate={"samples": 2, "max_new_tokens": 4},
            curation={"sources": ["plans"]},
            training={"steps": 2, "batch": 2, "lora": {"rank": 2}, "rename": False},
        )
    )
    told = {"domain": "blocksworld", "completion": "(pickup a)\n(stack a b)\n"}
    problem = (
        "(define (problem p) (:domain blocksworld) (:objects a b) (:init (arm-empty) (clear a) "
        "(clear b) (on-table a) (on-table b)) (:goal (on a b)))"
    )
    ingest(warehouse, BytesIO(json.dumps({**told, "problem": problem}).encode()), "plans")
    iterate(warehouse, experiment, QUIET)
    names = warehouse.frame(
        "SELECT DISTINCT generation, policy FROM traces WHERE purpose <> 'ingest'"
    )
    weights = warehouse.frame("SELECT generation, weights_hash FROM generations")
    expected = {(g, f"served {w}") for g, w in weights.itertuples(index=False)}
    assert set(names.itertuples(index=False, name=None)) == expected
    assert len(expected) == 2
    assert not disagreements(warehouse)


def test_what_a_run_will_cost(tmp_path: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["plan", "quickstart"])
    assert done.exit_code == 0, done.output
    assert all(word in done.output for word in ("deploy", "28000", "evaluate", "6600", "train"))
    huge = ["--set", "deploy.samples=100000", "--set", "model.batch=100000000"]
    done = run.invoke(app, ["plan", "tiny", *huge])
    assert done.exit_code == 1
    assert "does not fit: deploy" in done.output
    done = run.invoke(app, ["run", "tiny", *huge, "--warehouse", str(tmp_path / "w.duckdb")])
    assert done.exit_code == 2
    assert "tiny does not fit: deploy takes" in done.output
    done = run.invoke(app, ["plan", "tiny", "--set", "deploy.max_new_tokens=1000"])
    assert done.exit_code == 2
    assert "exceed the model's context of 1024" in done.output
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for base in ("no/such-model", "no-such-folder", "package:no_such/file.gguf"):
        done = CliRunner().invoke(app, ["plan", "tiny", "--set", f"model.base={base}"])
        assert done.exit_code == 2
        assert base.split("/")[-1].split(".")[0] in done.output or "not installed" in done.output


@pytest.mark.parametrize("name", PRESETS)
def test_presets_say_who_answers(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.model.learns
    with pytest.raises(InvalidInput, match="unknown setting"):
        load_experiment(name, ["model.colour=blue"])


def test_numbers_of_sixteen_bits_are_another_policy(tmp_path: Path) -> None:
    sampled, first = [], "SELECT text, logprob FROM traces WHERE generation = 0 ORDER BY seed"
    for dtype in ("auto", "float32", "bfloat16"):
        model = {"threads": 1, "device": "cpu", "dtype": dtype}
        settings = small(generations=1, model=model)
        with Warehouse(tmp_path / f"{dtype}.duckdb") as store:
            iterate(store, Experiment.model_validate(settings), QUIET)
            assert not disagreements(store)
            sampled.append(store.frame(first))
    assert sampled[0].equals(sampled[1])
    assert not sampled[0].equals(sampled[2])


def test_a_missing_gpu_is_told_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    command = ["run", "tiny", "--set", "model.device=cuda", "--warehouse", str(file)]
    told = CliRunner().invoke(app, command)
    if not torch.cuda.is_available():
        assert told.exit_code == 2
        assert "torch finds no GPU here" in told.output
        assert not file.exists()
    assert load_experiment("tiny", ["model.device=cuda"]).hash == load_experiment("tiny").hash
    assert load_experiment("tiny", ["model.dtype=auto"]).hash == load_experiment("tiny").hash
    assert load_experiment("tiny", ["model.dtype=bfloat16"]).hash != load_experiment("tiny").hash
