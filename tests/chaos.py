"""Kills at random moments, and what is left: `python -m tests.chaos --kills 300 --seed 0`.

A small experiment runs again and again, in a file, on a lake, with workers, on a schedule, on a
disk that fills up, while something of it is killed (SIGKILL), asked to end (SIGTERM) or halted for
seconds (SIGSTOP) at random moments: the run, a firing, the schedule, a worker, a model server, the
pages, the Prefect server, PostgreSQL. Object storage halts, the clock jumps by an hour, and the
disk gets slow. What died is started again, as a supervisor would, and nothing else is mended. In
the end each warehouse must have the contents of an uninterrupted run, `posterity verify` must find
nothing, and no half file may lie about. The full disk needs root, the clock a C compiler (`cc`).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

import httpx

from flows.audit.verify import ONLY_SERVED, verify
from flows.experiments.reading import load_experiment
from flows.generations.lineage import next_generation
from flows.progress import Watch
from planners.errors import Busy, PosterityError
from planners.processes import free_port
from tests.conftest import contents
from tests.objects import BUCKET, object_storage
from tests.postgres import Postgres, create_database, server
from tests.processes import at_work, environment, kill, posterity, small_toml, sweep
from tests.tiny_gguf import write_tiny_gguf
from warehouse import schema
from warehouse.places.connect import MOMENT
from warehouse.store import Warehouse

BLOWS = (*[signal.SIGKILL] * 3, signal.SIGTERM, signal.SIGSTOP)
"""What may happen to a process, with their frequencies."""
HALT = 8.0
"""Seconds that a process is halted for, at most."""
CALM = 600.0
"""Seconds without a kill in which a run must end; longer, and it hangs."""


def halt(pid: int, seconds: float) -> None:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


class Round:
    """One experiment, run to its end while parts of it are killed."""

    options: tuple[str, ...] = ()
    victims: ClassVar[dict[str, str]] = {"run": ""}
    """What may be killed, with a part of its command line; none for the run itself."""
    most = 8
    """Kills after which it is left in peace."""
    pace = 1.0
    """Time between two blows, at most, as a part of what an uninterrupted run takes."""
    text = small_toml(train=40, generations=2)
    """The experiment; rounds of the same must end with the same."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng, self.kills = folder, rng, Counter[str]()
        self.place = str(folder / "w.duckdb")
        self.toml = folder / "chaos.toml"
        self.toml.write_text(self.text)
        self.environment = environment(folder)

    def without_digits(self, left: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """A warehouse's contents without what an uninterrupted run may have otherwise: nothing."""
        return left

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """What is there before the run starts, and after it."""
        yield

    def command(self) -> list[str]:
        return posterity("run", str(self.toml), "--warehouse", self.place, *self.options)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(),
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def finished(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether all is done. Raises RuntimeError on an end that is none of ours."""
        code = process.poll()
        if code is None:
            return False
        ours = (0, 3, -signal.SIGKILL, -signal.SIGTERM)
        if code not in ours and not self.may_end_with(code):
            told = process.stderr.read().decode()[-2000:] if process.stderr else ""
            raise RuntimeError(f"exit {code}: {told}")
        return code == 0

    def may_end_with(self, code: int) -> bool:
        return False

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        """Strike one of what may be killed and is at work."""
        name = self.rng.choice(sorted(self.victims))
        part = self.victims[name]
        pids = at_work(process.pid, part) if part else [process.pid]
        if pids:
            blow = self.rng.choice(BLOWS)
            pid = self.rng.choice(pids) if name == "worker" else pids[-1]
            with suppress(ProcessLookupError):
                if blow == signal.SIGSTOP:
                    halt(pid, self.rng.uniform(0.5, HALT))
                else:
                    os.kill(pid, blow)
            self.kills[name if blow == signal.SIGKILL else f"{name}, {blow.name}"] += 1

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
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self.rng.uniform(0.1, 1.0) * self.pace * whole)
                if process.poll() is None and not self.finished(process):
                    self.strike(process)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            sweep(process.pid)


class InAFile(Round):
    """The run alone, in plain Python."""

    options = ("--plain",)
    most = 12


class WithWorkers(Round):
    """Two Dask workers and a Prefect server of the run's own."""

    options = ("--set", "workers.runner=dask")
    most = 4
    victims: ClassVar = {
        "run": "",
        "worker": "spawn_main",
        "Prefect server": "prefect server start",
    }

    def may_end_with(self, code: int) -> bool:
        return code == 2  # a killed run's workers may still read what it has open


class WithRay(WithWorkers):
    """The same with two workers of Ray."""

    options = ("--set", "workers.runner=ray")
    victims: ClassVar = {"run": "", "worker": "ray::", "Prefect server": "prefect server start"}

    def may_end_with(self, code: int) -> bool:
        # Ray's own handler of SIGTERM ends a run with the signal's number.
        return super().may_end_with(code) or code == signal.SIGTERM


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
        # the lease of a killed run has not expired, or PostgreSQL is away; where it goes in the
        # middle of a transaction, DuckDB may abort the process
        return code in (2, -signal.SIGABRT)


class WithRowsElsewhere(OnALake):
    """The same with its rows on object storage, which halts now and then."""

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        with (
            object_storage(self.folder) as variables,
            patch.dict(os.environ, variables),
            super().surroundings(),
        ):
            self.environment |= variables
            self.place += f"&rows=s3://{BUCKET}/lake"
            yield

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        if self.rng.random() < 0.8:
            super().strike(process)
            return
        [storage] = at_work(os.getpid(), "moto.server")
        self.kills["object storage, SIGSTOP"] += 1
        halt(storage, self.rng.uniform(0.5, HALT))


class WithABadClock(Round):
    """A clock that jumps to an hour before or after, and a disk that gets slow and quick again."""

    options = ("--plain",)
    pace = 0.3

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        library, self.told = self.folder / "bad_machine.so", self.folder / "told"
        source = Path(__file__).with_name("bad_machine.c")
        made = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
        subprocess.run(made, check=True)
        self.told.write_bytes(struct.pack("=qq", 0, 0))
        self.environment |= {"LD_PRELOAD": str(library), "CHAOS_TOLD": str(self.told)}
        with super().surroundings():
            yield

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        if self.rng.random() < 0.5:
            super().strike(process)
            return
        off, slow = self.rng.choice([-3600, 0, 3600]), self.rng.choice([0, 2_000, 50_000])
        with self.told.open("r+b") as file:  # not another file: processes look at this one
            file.write(struct.pack("=qq", off, slow))
        self.kills["clock, disk"] += 1


class OnALakeWithABadClock(WithABadClock, OnALake):
    """The same on a lake: leases and transactions are PostgreSQL's, whose clock is right."""


class WithPages(Round):
    """The pages of the run are looked at all the time, and killed too."""

    options = ("--plain",)
    pace = 0.3
    text = small_toml(train=40, generations=8)
    """Long enough that pages answer before it ends, on a slow machine too."""

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        self.port, self.seen, self.over = free_port(), Counter[int](), threading.Event()
        self.pages: subprocess.Popen[bytes] | None = None
        self.answering = False
        reader = threading.Thread(target=self._look)
        reader.start()
        try:
            yield
        finally:
            self.over.set()
            reader.join()
            if self.pages:
                self.pages.kill()
                self.pages.wait()
        assert self.seen[200] or not self.kills.total(), "nobody saw a page"
        assert not [status for status in self.seen if status >= 500], self.seen

    def _look(self) -> None:
        """Ask for one page after another, until it is over."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as client:
            while not self.over.wait(0.1):
                with suppress(httpx.TransportError):
                    for path in ("/", "/traces", "/live", "/tasks"):
                        self.seen[client.get(path, follow_redirects=True).status_code] += 1
                        self.answering = True

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        if not Path(f"{self.place}.snapshot").exists():
            return  # there is nothing to look at yet
        if self.pages and self.pages.poll() is None:
            if not self.answering:
                return  # on a busy machine they take a while to start
            if self.rng.random() < 0.5:
                super().strike(process)
                return
            self.pages.kill()
            self.pages.wait()
            self.kills["pages"] += 1
        else:
            self.answering = False
            self.pages = subprocess.Popen(
                posterity("view", "--warehouse", self.place, "--port", str(self.port)),
                env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


class WithModelServers(Round):
    """Completions from two model servers over HTTP, of a model that only they have."""

    options = ("--plain",)
    text = small_toml(train=40, generations=0)

    def without_digits(self, left: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """What a server computed before moves the last digits of the log-probabilities it tells."""
        at = [column.name for column in schema.traces.columns].index("logprob")
        traces = [[*row[:at], str(round(float(row[at]))), *row[at + 1 :]] for row in left["traces"]]
        return {**left, "traces": traces, "ledger": [len(left["ledger"])]}

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        self.file = write_tiny_gguf(self.folder / "tiny.gguf")
        self.servers = {port: self._serve(port) for port in (free_port(), free_port())}
        urls = ", ".join(f'"http://127.0.0.1:{port}/v1"' for port in self.servers)
        self.toml.write_text(
            f'{self.text}policy = "served"\nbase = "tiny"\n'
            f"server = {{ urls = [{urls}], concurrency = 1 }}\n"
        )
        try:
            yield
        finally:
            for process in self.servers.values():
                process.kill()
                process.wait()

    def _serve(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.llama_server", str(self.file), str(port)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def strike(self, process: subprocess.Popen[bytes]) -> None:
        if self.rng.random() < 0.4:
            super().strike(process)
            return
        port = self.rng.choice(sorted(self.servers))
        self.servers[port].kill()
        self.servers[port].wait()
        self.kills["model server"] += 1
        self.servers[port] = self._serve(port)


class OnASchedule(Round):
    """A schedule that fires every two seconds."""

    victims: ClassVar = {
        "schedule": "", "firing": "spawn_main", "Prefect server": "prefect server start",
    }  # fmt: skip

    def __init__(self, folder: Path, rng: random.Random) -> None:
        super().__init__(folder, rng)
        self.port = free_port()

    def command(self) -> list[str]:
        return posterity(
            "serve", str(self.toml), "--warehouse", self.place, "--interval", "2",
            "--port", str(self.port),
        )  # fmt: skip

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
    most = 3

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        disk = self.folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=True)
        self.disk, self.place = disk, str(disk / "w.duckdb")
        try:
            yield
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


ROUNDS = (
    InAFile, OnALake, WithRowsElsewhere, WithModelServers, OnASchedule, WithWorkers, WithRay,
    OnAFullDisk, WithABadClock, OnALakeWithABadClock, WithPages,
)  # fmt: skip


class Calm(NamedTuple):
    """What an uninterrupted run of an experiment takes, and leaves."""

    seconds: float
    contents: dict[str, list[Any]]


def uninterrupted(kind: type[Round], folder: Path) -> Calm:
    """Run an experiment without a kill."""
    folder.mkdir()
    one = kind(folder, random.Random())
    with one.surroundings():
        started = time.monotonic()
        subprocess.run(one.command(), check=True, stdout=subprocess.DEVNULL)
        return Calm(time.monotonic() - started, contents(one.place))


def wait_until_free(place: str) -> None:
    """A firing of a schedule that was killed may still be at work, and ends by itself."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with Warehouse(place):
                return
        except Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def judged(kind: type[Round], folder: Path, rng: random.Random, calm: Calm) -> Counter[str]:
    """Run one round; how often what was killed. Raises AssertionError on what was left wrong."""
    folder.mkdir()
    one = kind(folder, rng)
    with one.surroundings():
        one.run(calm.seconds, lambda: one.kills.total() >= one.most)
        wait_until_free(one.place)
        left, meant = (one.without_digits(rows) for rows in (contents(one.place), calm.contents))
        other = [name for name, rows in meant.items() if left[name] != rows]
        assert not other, f"other contents than an uninterrupted run's: {', '.join(other)}"
        with Warehouse(one.place) as store:
            for check in verify(store, Watch(quiet=True)):
                assert not check.wrong, f"verify disagrees: {check.wrong}"
                assert not check.skipped or check.why == ONLY_SERVED, check.why
        half = [str(path) for path in folder.rglob("*.partial")]
        for landing in folder.rglob("*.landing"):  # who reads for a moment leaves his lock there
            half += [str(path) for path in landing.iterdir() if path.name != MOMENT]
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
        calm = dict[str, Calm]()
        for kind in ROUNDS:
            if kind.text not in calm and kind.text in {one.text for one in kinds}:
                calm[kind.text] = uninterrupted(kind, root / f"calm{len(calm)}")
        took = ", ".join(f"{one.seconds:.0f}" for one in calm.values())
        print(f"{asked.kills} kills, seed {asked.seed}; uninterrupted: {took} s", flush=True)
        for number in count():
            if total.total() >= asked.kills:
                break
            kind, folder = kinds[number % len(kinds)], root / f"round{number}"
            started = time.monotonic()
            kills = judged(kind, folder, rng, calm[kind.text])
            total += kills
            print(
                f"{kind.__name__}: {dict(kills)}, as it should be after "
                f"{time.monotonic() - started:.0f} s; {total.total()} so far", flush=True,
            )  # fmt: skip
            shutil.rmtree(folder, ignore_errors=True)
    print(f"nothing lost, nothing twice, nothing left: {dict(total)}")


if __name__ == "__main__":
    main()
