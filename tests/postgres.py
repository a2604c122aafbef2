"""A real PostgreSQL server of Debian's packages, for as long as a test session lasts."""

import os
import shutil
import socket
import subprocess
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


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start a server on loopback with its data in `folder`; gives how to reach it."""
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        for parent in folder.parents:
            if parent.owner() == "root" and parent.stat().st_mode & 0o005 != 0o005:
                parent.chmod(parent.stat().st_mode | 0o005)

    def call(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout} {done.stderr}")

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "data"
    call(_program("initdb"), "-D", str(data), "-A", "trust", "-U", USER)
    options = f"-k {folder} -h 127.0.0.1 -p {port}"
    control = _program("pg_ctl")
    call(control, "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        yield f"host=127.0.0.1 port={port} user={USER}"
    finally:
        call(control, "-D", str(data), "-m", "immediate", "stop")


def create_database(reach: str, name: str) -> str:
    """Make a database; gives how to reach it."""
    subprocess.run(
        [_program("psql"), "-q", f"{reach} dbname=postgres", "-c", f"CREATE DATABASE {name}"],
        check=True,
        capture_output=True,
    )
    return f"{reach} dbname={name}"
