"""A real PostgreSQL server of Debian's packages, for as long as a test session lasts."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import pytest

USER = "posterity"


def _program(name: str) -> str:
    found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))
    path = found[-1] if found else shutil.which(name)
    if path is None:
        problem = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        if os.environ.get("CI"):
            raise RuntimeError(problem)
        pytest.skip(problem)
    return path


class Postgres:
    """A server on loopback with its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self.as_user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(folder, "postgres")
            for parent in folder.parents:
                if parent.owner() == "root" and parent.stat().st_mode & 0o005 != 0o005:
                    parent.chmod(parent.stat().st_mode | 0o005)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._call(_program("initdb"), "-D", str(self.data), "-A", "trust", "-U", USER)

    @property
    def reach(self) -> str:
        """How to reach it."""
        return f"host=127.0.0.1 port={self.port} user={USER}"

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        options = f"-k {self.folder} -h 127.0.0.1 -p {self.port}"
        log = str(self.folder / "log")
        self._control("-l", log, "-o", options, "-w", "start")

    def start_again(self) -> None:
        """After it was killed: its other processes take a while to notice."""
        for _ in range(30):
            try:
                return self.start()
            except RuntimeError:
                time.sleep(1)
        self.start()

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    def _control(self, *words: str) -> None:
        self._call(_program("pg_ctl"), "-D", str(self.data), *words)

    def _call(self, *command: str) -> None:
        done = subprocess.run(
            [*self.as_user, *command], cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout} {done.stderr}")


@contextmanager
def server(folder: Path) -> Iterator[Postgres]:
    """A server for as long as the block runs."""
    postgres = Postgres(folder)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def create_database(reach: str, name: str) -> str:
    """Make a database; gives how to reach it."""
    subprocess.run(
        [_program("psql"), "-q", f"{reach} dbname=postgres", "-c", f"CREATE DATABASE {name}"],
        check=True,
        capture_output=True,
    )
    return f"{reach} dbname={name}"
