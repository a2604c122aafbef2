"""The trackers: each takes sheets, and is loaded only when it is asked for.

Sending the same sheet again adds nothing. Where a tracker's own environment variables say where it
is and who may write there (MLFLOW_TRACKING_URI, WANDB_API_KEY, ...), they hold.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.experiments.experiment import Experiment
from flows.progress import Watch
from flows.tracking.sheets import Sheet, sheets
from planners.errors import ComponentFailure, InvalidInput, PosterityError, harmless, require_one_of
from planners.models.checkpoint import checkpoint_files
from warehouse.store import Warehouse

PROJECT = "posterity"
"""The project that runs belong to, in trackers that have projects."""
AT_ONCE = 500
"""Values in one request to MLflow, whose server takes at most a thousand."""


class Tracker(ABC):
    """Takes the sheets of a run. `at`: where to, if not where its environment variables say."""

    name: str
    module: str
    takes_files = True

    def __init__(self, at: str | None = None) -> None:
        self.at = at
        try:
            self.library: Any = importlib.import_module(self.module)
        except ImportError as error:
            raise InvalidInput(
                f"{self.name} is not installed ({error}); install it with "
                f"`pip install 'posterity[{self.name}]'`"
            ) from error

    @abstractmethod
    def put(self, sheet: Sheet) -> None:
        """Send a sheet."""


class MLflow(Tracker):
    """A server of MLflow; an experiment there is an experiment here."""

    name, module = "mlflow", "mlflow"

    def __init__(self, at: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        super().__init__(at)
        address = self.at or os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            raise InvalidInput(
                "mlflow: no server is named; set MLFLOW_TRACKING_URI, for example to "
                "http://127.0.0.1:5000, or give --at"
            )
        self.client = self.library.MlflowClient(tracking_uri=address)

    def put(self, sheet: Sheet) -> None:
        from mlflow.entities import Metric, Param

        run = self._run_of(sheet)
        self.client.update_run(run, status="RUNNING")
        settings = [Param(_key(name), value[:6000]) for name, value in sheet.settings.items()]
        for part in _parts(settings, 100):
            self.client.log_batch(run, params=part)
        names = {name for _, values in sheet.points for name in values}
        told = [one for name in names for one in self.client.get_metric_history(run, name)]
        # The last is what counts: figures change when traces are judged anew.
        known = {
            (one.key, one.step): one.value for one in sorted(told, key=lambda one: one.timestamp)
        }
        now = int(time.time() * 1000)
        new = [
            Metric(name, value, now, step)
            for step, values in sheet.points
            for name, value in values.items()
            if known.get((name, step)) != value
        ]
        for part in _parts(new, AT_ONCE):
            self.client.log_batch(run, metrics=part)
        with _files(sheet) as folder:
            if folder is not None:
                self.client.log_artifacts(run, str(folder))
        self.client.set_terminated(run)

    def _run_of(self, sheet: Sheet) -> str:
        """The id of the run that a sheet was sent to before, or of a new one."""
        group = self.client.get_experiment_by_name(sheet.experiment)
        of = group.experiment_id if group else self.client.create_experiment(sheet.experiment)
        found = self.client.search_runs([of], f"tags.posterity_key = '{sheet.key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = self.client.create_run(of, run_name=sheet.title, tags={"posterity_key": sheet.key})
        return str(run.info.run_id)


class WandB(Tracker):
    """Weights & Biases; runs of an experiment are a group. `at`: a folder, for offline runs."""

    name, module = "wandb", "wandb"

    def put(self, sheet: Sheet) -> None:
        run = self.library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=sheet.experiment,
            id=_key(sheet.key),
            name=sheet.title,
            config=sheet.settings,
            resume="allow",
            mode="offline" if self.at else None,
            dir=self.at,
            settings=self.library.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True,
                disable_git=True, save_code=False,
            ),
        )  # fmt: skip
        try:
            for step, values in sheet.points:
                run.log(values, step=step)
            with _files(sheet) as folder:
                if folder is not None:
                    artifact = self.library.Artifact(_key(sheet.key), "generation")
                    artifact.add_dir(str(folder))
                    run.log_artifact(artifact)
        finally:  # else the next sheet would be written into this run
            run.finish()


class Trackio(Tracker):
    """Trackio keeps runs in a folder: `at`, or its own. A run is written anew each time."""

    name, module, takes_files = "trackio", "trackio", False

    def __init__(self, at: str | None = None) -> None:
        if at:  # read when it is imported
            os.environ["TRACKIO_DIR"] = at
        super().__init__(at)

    def put(self, sheet: Sheet) -> None:
        try:
            for run in self.library.Api().runs(PROJECT):
                if run.name == sheet.key:
                    run.delete()
        except ValueError:  # there is no such project yet
            pass
        self.library.init(
            PROJECT, sheet.key, group=sheet.experiment, config=sheet.settings, embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        for step, values in sheet.points:
            self.library.log(values, step=step)
        self.library.finish()


class TensorBoard(Tracker):
    """Event files in a folder, `at`; a run's folder is written anew each time."""

    name, module, takes_files = "tensorboard", "torch.utils.tensorboard", False

    def put(self, sheet: Sheet) -> None:
        folder = Path(self.at or "tensorboard") / sheet.experiment / sheet.key
        shutil.rmtree(folder, ignore_errors=True)
        writer = self.library.SummaryWriter(str(folder))
        rows = [f"| {name} | {harmless(value)} |" for name, value in sheet.settings.items()]
        writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]))
        for step, values in sheet.points:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
        writer.close()


TRACKERS: dict[str, type[Tracker]] = {
    tracker.name: tracker for tracker in (MLflow, WandB, Trackio, TensorBoard)
}


def send(
    name: str,
    found: Iterable[Sheet],
    at: str | None = None,
    on_sheet: Callable[[Sheet], None] = lambda sheet: None,
    files: bool = False,
) -> int:
    """Send sheets to a tracker by name, with `files` or without; returns how many.

    Raises InvalidInput where there is no such tracker, it is not installed or takes no files, and
    ComponentFailure where it fails; what was sent stays, and the same call sends the rest.
    """
    require_one_of("tracker", name, TRACKERS)
    if files and not TRACKERS[name].takes_files:
        takers = ", ".join(one.name for one in TRACKERS.values() if one.takes_files)
        raise InvalidInput(f"{name} takes figures only; files go to {takers}")
    tracker, count = tracker_of(name, at), 0
    for sheet in found:
        try:
            tracker.put(sheet)
        except Exception as error:  # whatever a library or its server may say
            raise ComponentFailure(
                f"{name} did not take {sheet.key}: {type(error).__name__}: "
                f"{str(error).strip()[:500]}; see that it can be reached, and run "
                "`posterity track` again: what was sent is not sent twice"
            ) from error
        on_sheet(sheet)
        count += 1
    return count


def require_trackers(experiment: Experiment) -> None:
    """Raise InvalidInput unless every tracker of an experiment is installed and has an address."""
    for name in experiment.tracking:
        tracker_of(name)


def tracker_of(name: str, at: str | None = None) -> Tracker:
    """A tracker by its name. Raises InvalidInput where it is not installed or takes no address."""
    try:
        return TRACKERS[name](at)
    except PosterityError:
        raise
    except Exception as error:  # whatever a library may say of an address
        raise InvalidInput(f"{name}: it cannot be used at its address: {error}") from error


def follow(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Send a finished generation to the trackers of its experiment. A run does not fail because one
    of them does.
    """
    for name in experiment.tracking:
        try:
            send(name, sheets(warehouse, experiment, generation))
        except PosterityError as error:
            watch.say(f"tracking: {error}")


def _key(text: str) -> str:
    """A name that every tracker takes."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _files(sheet: Sheet) -> Iterator[Path | None]:
    """A folder of a sheet's files while the block runs; None where it has none."""
    if not sheet.texts and sheet.folder is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in sheet.texts.items():
            (Path(scratch) / name).write_text(text, "utf-8")
        if sheet.folder is not None:
            for file in checkpoint_files(sheet.folder):
                kept = Path(scratch) / "checkpoint" / file.relative_to(sheet.folder)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, kept)
        yield Path(scratch)
