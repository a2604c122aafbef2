"""Figures go to a tracker: TensorBoard, whose own reader must find them. The others, which need
libraries of their own, are tried by `make integrations`.
"""

import json
from pathlib import Path

import pytest

from flows.audit.known import experiments
from flows.experiments.experiment import Experiment
from flows.experiments.reading import without_places
from flows.iterate import iterate
from flows.progress import Watch
from flows.tracking.sheets import Sheet, sheets
from flows.tracking.trackers import TRACKERS, Tracker, send
from planners.errors import ComponentFailure, InvalidInput
from tests.conftest import small
from tests.flows.commands.test_cli import posterity
from warehouse.store import Warehouse


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves in a folder of event files, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_figures_and_losses(finished: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time adds nothing
        done = posterity("track", "tensorboard", "--warehouse", str(finished), folder=tmp_path)
        assert done.returncode == 0, done.stderr
    with Warehouse(finished, read_only=True) as store:
        [experiment] = experiments(store)[0]
        made = store.generations(experiment.id)
        coverage = store.query("progress_of", experiment=experiment.id)["coverage"]
    assert f"tensorboard has {len(made) + 1} runs" in done.stdout
    folder = tmp_path / "tensorboard" / experiment.id
    figures = read(folder / experiment.id)
    assert [step for step, _ in figures["coverage"]] == [one.index for one in made]
    assert [value for _, value in figures["coverage"]] == pytest.approx(list(coverage))
    last = made[-1]
    losses = read(folder / f"{experiment.id}-generation-{last.index:03d}")["loss"]
    facts = json.loads(last.training or "")
    assert [step for step, _ in losses] == list(range(facts["steps"]))
    assert [value for _, value in losses] == pytest.approx(facts["losses"], rel=1e-6)


def test_a_run_is_followed_generation_by_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Experiment.model_validate(small(tracking=["tensorboard"], generations=1))
    assert settings.hash == Experiment.model_validate(small()).hash
    with Warehouse(tmp_path / "w.duckdb") as store:
        iterate(store, settings, Watch(quiet=True), last=0)
        assert len(read(tmp_path / "tensorboard" / settings.id / settings.id)["coverage"]) == 1
        iterate(store, settings, Watch(quiet=True))
    assert len(read(tmp_path / "tensorboard" / settings.id / settings.id)["coverage"]) == 2


def test_a_generation_carries_what_it_was_made_from(finished: Path) -> None:
    with Warehouse(finished, read_only=True) as store:
        [experiment] = experiments(store)[0]
        _, made = sheets(store, experiment, 1, files=True)
        kept = store.frame(
            "SELECT trace_id FROM decisions WHERE kept AND experiment = :of AND generation = 1",
            of=experiment.id,
        )
        at_home = {"base": "/home/ann/base", "policy": "model"}
        elsewhere = experiment.model_copy(
            update={"model": experiment.model.model_copy(update=at_home)}
        )
    assert without_places(elsewhere)["model"]["base"] == "base", "nobody's folders go to a tracker"
    assert made.settings["parent"] == "0"
    assert len(made.settings["weights_hash"]) == 32
    lines = [json.loads(line) for line in made.texts["training_set.jsonl"].splitlines()]
    assert {line["trace"] for line in lines} == set(kept["trace_id"])
    assert made.folder is not None
    assert (made.folder / "model.safetensors").is_file()


def test_a_tracker_that_fails_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tensorboard").write_text("a file where its folder would be")
    settings = Experiment.model_validate(small(tracking=["tensorboard"], generations=0))
    with Warehouse(tmp_path / "w.duckdb") as store:
        iterate(store, settings, Watch())
        assert store.generations(settings.id)
    assert "tracking: tensorboard did not take" in capsys.readouterr().out


def test_what_cannot_be_sent_is_said(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = Sheet("a", "b", "c", {}, (), {"x.txt": "x"})
    with pytest.raises(InvalidInput, match="known: mlflow, wandb, trackio, tensorboard"):
        send("excel", [sheet])
    with pytest.raises(InvalidInput, match="takes figures only; files go to mlflow, wandb"):
        send("tensorboard", [sheet], str(tmp_path), files=True)
    assert not list(tmp_path.iterdir()), "nothing was sent"

    class Absent(Tracker):
        name, module = "absent", "no_such_library"

        def put(self, sheet: Sheet) -> None:
            raise AssertionError

    monkeypatch.setitem(TRACKERS, "absent", Absent)
    with pytest.raises(InvalidInput, match=r"pip install 'posterity\[absent\]'"):
        send("absent", [sheet])

    class Failing(Absent):
        module = "json"

        def put(self, sheet: Sheet) -> None:
            raise OSError("no route to http://me:secret@host/")

    monkeypatch.setitem(TRACKERS, "failing", Failing)
    with pytest.raises(ComponentFailure, match="no route") as failed:
        send("failing", [sheet])
    assert "secret" not in str(failed.value)
    done = posterity(
        "track", "tensorboard", "--generation", "9", "--warehouse", str(finished), folder=tmp_path
    )
    assert done.returncode == 2
    assert "has no generation 9" in done.stderr
