"""Reading users' PDDL and plan files, with the file named in every error, and writing folders."""

from __future__ import annotations

import codecs
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

from planners.errors import ComponentFailure, InvalidInput, NotJudged, PddlError

LARGEST = 32 * 1024 * 1024
"""Largest PDDL file that is read, in bytes; reading it takes about two gigabytes of memory."""


def read_pddl(path: Path) -> str:
    """The text of a PDDL file. Raises InvalidInput if it is missing, too large, or not UTF-8."""
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidInput(
                f"{path} has {path.stat().st_size / 2**20:.0f} MiB; PDDL files of up to "
                f"{LARGEST // 2**20} MiB are read"
            )
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text (byte {error.start})") from error


def read_plan(path: Path) -> str:
    """The text of a plan file, in UTF-8 or UTF-16. Raises InvalidInput if it cannot be read.

    Bytes that are neither become U+FFFD, which no name contains: they spoil only their own plan.
    """
    try:
        content = path.read_bytes()
        # As PowerShell writes.
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def files_hash(files: Iterable[Path]) -> str:
    """Hash of the contents of these files, in order."""
    digest = blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def require_new(folder: Path, hint: str = "") -> None:
    """Raise InvalidInput if a new folder cannot be made here: it is not empty, or not possible."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidInput(f"{folder} exists and is not empty; name another folder{hint}")
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        why = "" if above.is_dir() else f"{above} is no folder"
        if not why:  # whether it may be written to, only writing tells
            Path(mkdtemp(dir=above, prefix=".")).rmdir()
    except OSError as error:
        why = str(error.strerror)
    if why:
        raise InvalidInput(f"no folder can be made at {folder}: {why}; name another folder{hint}")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `folder` when all went well.

    Raises ComponentFailure if the machine cannot write it.
    """
    # Renamed at the end, so that `folder` is complete or absent, even after a crash.
    folder = folder.resolve()
    partial = folder  # nothing is deleted that was not made here
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
        made.mkdir()
        partial = made
        yield partial
        os.replace(partial, folder)
    except PermissionError as error:
        raise InvalidInput(
            f"the folder {folder} cannot be written: {error.strerror}; name another folder"
        ) from error
    except OSError as error:
        raise ComponentFailure(
            f"the folder {folder} cannot be written: {error.strerror}; free some space there, or "
            "name another, and run the same command again"
        ) from error
    finally:
        if partial != folder:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def one_process(file: Path) -> Iterator[None]:
    """Lock a file, which is made where it is missing: others that lock it wait until the block
    ends. Raises OSError where it cannot be made.
    """
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def naming(*paths: Path) -> Iterator[None]:
    """Put the names of the files in front of any PddlError raised inside."""
    names = " and ".join(map(str, paths))
    try:
        yield
    except NotJudged as error:
        raise NotJudged(f"{names}: {error.reason}") from error
    except PddlError as error:
        raise PddlError(f"{names}: {error}") from error
