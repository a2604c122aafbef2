"""Kills at random moments, and what is left: `python -m tests.chaos --kills 300 --seed 0`.

A small experiment runs again and again, in a file, on a lake, with workers, on a schedule, on a
disk that fills up, while something of it is killed (SIGKILL) at random moments: the run, a
firing, the schedule, a worker, the Prefect server, PostgreSQL. What died is started again, as a
supervisor would, and nothing else is mended. In the end each warehouse must have the contents
of an uninterrupted run, `posterity verify` must find nothing, and no half file may lie about.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from flows.lineage import next_generation
from flows.progress import Watch
from flows.settings import load_experiment
from flows.verify import verify_and_tell
from planners.errors import PosterityError
from planners.serving import free_port
from tests.postgres import Postgres, create_database, server
from tests.processes import at_work, kill
from warehouse import schema
from warehouse.store import Warehouse

TOML = """
name = "chaos"
extends = "tiny"
[tasks]
train = { count = 40, sizes = [3, 5], horizons = [1, 2] }
heldout = { count = 8, sizes = [3, 5], horizons = [1, 2] }
larger = { count = 4, sizes = [6, 7], horizons = [1, 2] }
[training]
steps = 6
batch = 8
[model]
threads = 1
"""
MAIN = "from flows.cli import main; main()"
CALM = 600.0
"""Seconds without a kill in which a run must end; longer, and it hangs."""
LEDGER = {"landed"}
"""Tables that say how rows came in, which differs with who brought them."""


class Round:
    """One experiment, run to its end while parts of it are killed."""

    options: tuple[str, ...] = ()
    victims: ClassVar[dict[str, str]] = {"run": ""}
    """What may be killed, with a part of its command line; none for the run itself."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng, self.kills = folder, rng, Counter[str]()
        self.place = str(folder / "w.duckdb")
        self.toml = folder / "chaos.toml"
        self.toml.write_text(TOML)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
            "PREFECT_HOME": str(folder / "prefect"),
            "OMP_NUM_THREADS": "1",
        }

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """What is there before the run starts, and after it."""
        yield

    def command(self) -> list[str]:
        return ["run", str(self.toml), "--warehouse", self.place, *self.options]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *self.command()],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def finished(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether all is done. Raises RuntimeError on an end that is none of ours."""
        code = process.poll()
        if code is None:
            return False
        if code not in (0, 3, -signal.SIGKILL) and not self.may_end_with(code):
            told = process.stderr.read().decode()[-2000:] if process.stderr else ""
            raise RuntimeError(f"exit {code}: {told}")
        return code == 0

    def may_end_with(self, code: int) -> bool:
        return False

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one of what may be killed and is at work."""
        name = self.rng.choice(sorted(self.victims))
        part = self.victims[name]
        pids = at_work(process.pid, part) if part else [process.pid]
        if pids:
            kill(self.rng.choice(pids) if name == "worker" else pids[-1])
            self.kills[name] += 1

    def run(self, whole: float, until: Callable[[], bool]) -> None:
        """Start, kill and start again until it is done; from `until` on nothing more is killed."""
        process = self.start()
        calm = time.monotonic()
        try:
            while not self.finished(process):
                if process.poll() is not None:
                    time.sleep(1)  # as a supervisor would
                    process = self.start()
                if until():
                    time.sleep(0.5)
                    if time.monotonic() - calm > CALM:
                        raise RuntimeError(f"nothing happens any more in {self.folder}")
                    continue
                calm = time.monotonic()
                self._wait(process, self.rng.uniform(0.1, 1.0) * whole)
                if process.poll() is None and not self.finished(process):
                    self.strike(process)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                kill(process.pid)
            sweep(process.pid)

    def _wait(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


class InAFile(Round):
    """The run alone, in plain Python."""

    options = ("--plain",)


class WithWorkers(Round):
    """Two Dask workers and a Prefect server of the run's own."""

    options = ("--set", "workers.runner=dask")
    victims: ClassVar = {
        "run": "",
        "worker": "spawn_main",
        "Prefect server": "prefect server start",
    }

    def may_end_with(self, code: int) -> bool:
        return code == 2  # a killed run's workers may still read what it has open


class OnALake(Round):
    """A DuckLake with its catalogue in PostgreSQL."""

    options = ("--plain",)
    postgres: Postgres

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        home = self.folder / "postgres"
        home.mkdir()
        with server(home) as self.postgres:
            catalogue = create_database(self.postgres.reach, "lake")
            self.place = f"ducklake:postgres:{catalogue}?data={self.folder / 'shared'}"
            yield

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        if self.rng.random() < 0.6:
            super().strike(process)
            return
        kill(self.postgres.pid)
        self.kills["PostgreSQL"] += 1
        self.postgres.start_again()

    def may_end_with(self, code: int) -> bool:
        return code == 2  # the lease of a killed run has not expired, or PostgreSQL is away


class OnASchedule(Round):
    """A schedule that fires every two seconds."""

    victims: ClassVar = {
        "schedule": "", "firing": "spawn_main", "Prefect server": "prefect server start",
    }  # fmt: skip

    def __init__(self, folder: Path, rng: random.Random) -> None:
        super().__init__(folder, rng)
        self.port = free_port()

    def command(self) -> list[str]:
        return [
            "serve", str(self.toml), "--warehouse", self.place, "--interval", "2",
            "--port", str(self.port),
        ]  # fmt: skip

    def finished(self, process: subprocess.Popen[bytes]) -> bool:
        super().finished(process)
        try:
            with Warehouse(self.place + ".snapshot", read_only=True) as store:
                return next_generation(store, load_experiment(str(self.toml))) is None
        except PosterityError:
            return False

    def may_end_with(self, code: int) -> bool:
        return code == 2  # the one that was killed has left its warehouse to a firing


class OnAFullDisk(Round):
    """A disk that is too small, until somebody makes room. Needs to be root, to mount one."""

    options = ("--plain",)

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        disk = self.folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=True)
        self.disk, self.place = disk, str(disk / "w.duckdb")
        try:
            yield
            shutil.copytree(disk, self.folder / "kept")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def start(self) -> subprocess.Popen[bytes]:
        if self.kills["disk"]:
            size = f"remount,size={3 + 4 * self.kills['disk']}m"
            subprocess.run(["mount", "-o", size, str(self.disk)], check=True)
        return super().start()

    def finished(self, process: subprocess.Popen[bytes]) -> bool:
        done = super().finished(process)
        self.kills["disk"] += process.poll() == 3
        return done


A_ROUND = {"InAFile": 12, "OnALake": 8, "OnASchedule": 8, "WithWorkers": 4, "OnAFullDisk": 3}
"""Kills of a round, after which it is left in peace."""
ROUNDS = (InAFile, OnALake, OnASchedule, WithWorkers, OnAFullDisk)


def sweep(group: int) -> None:
    """Kill what a killed process has left behind in its group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def contents(where: str | Path) -> dict[str, list[Any]]:
    """Every row of every table, in a fixed order."""
    with Warehouse(where) as store:
        return {
            name: store.frame(f"SELECT * FROM {name} ORDER BY ALL").astype(str).to_numpy().tolist()
            for name in schema.metadata.tables
            if name not in LEDGER
        }


def judged(kind: type[Round], folder: Path, rng: random.Random, whole: float, most: int,
           expected: dict[str, list[Any]]) -> Counter[str]:  # fmt: skip
    """Run one round; how often what was killed. Raises AssertionError on what was left wrong."""
    one = kind(folder, rng)
    with one.surroundings():
        one.run(whole, lambda: one.kills.total() >= most)
        assert contents(one.place) == expected, "contents differ from an uninterrupted run's"
        with Warehouse(one.place) as store:
            assert verify_and_tell(store, Watch(quiet=True)) == 0, "verify disagrees"
        half = [str(path) for path in folder.rglob("*.partial")]
        half += [str(path) for path in folder.rglob("*.landing")]
        assert not half, f"left behind: {half}"
    return one.kills


def main() -> None:
    """Kill as often as is asked for, and say what was left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[kind.__name__ for kind in ROUNDS])
    asked = parser.parse_args()
    kinds = [kind for kind in ROUNDS if asked.only in (None, kind.__name__)]
    rng, total = random.Random(asked.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        calm = InAFile(root, rng)
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", MAIN, *calm.command()], check=True)
        whole, expected = time.monotonic() - started, contents(calm.place)
        print(f"{asked.kills} kills, seed {asked.seed}; uninterrupted: {whole:.0f} s", flush=True)
        for number in count():
            if total.total() >= asked.kills:
                break
            kind, folder = kinds[number % len(kinds)], root / f"round{number}"
            folder.mkdir()
            started = time.monotonic()
            kills = judged(kind, folder, rng, whole, A_ROUND[kind.__name__], expected)
            total += kills
            print(
                f"{kind.__name__}: {dict(kills)}, as it should be after "
                f"{time.monotonic() - started:.0f} s; {total.total()} so far", flush=True,
            )  # fmt: skip
            shutil.rmtree(folder, ignore_errors=True)
    print(f"nothing lost, nothing twice, nothing left: {dict(total)}")


if __name__ == "__main__":
    main()
