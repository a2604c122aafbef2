"""Load users' own curators: a function in one of their files, named `module:function`.

The file is hashed before it is run: `verify` never runs other code than the experiment began with.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path

import pandas as pd

from curation.curators import CURATORS, Curator, NothingKept, Options, curate
from planners.errors import InvalidInput
from planners.files import files_hash

_RUN: dict[str, str] = {}
"""The hash of the code of each module that was run here."""
ASK = "name a function of a Python file in the working directory, as `my_module:longest`"


def curator_named(name: str, code: str | None = None) -> Curator:
    """Return one of CURATORS, or a user's function `module:function`.

    Raises InvalidInput if there is none, or if `code` is given and the file has another hash.
    """
    if ":" not in name:
        if name not in CURATORS:
            raise InvalidInput(f"unknown curator {name!r}; known: {', '.join(CURATORS)}, or {ASK}")
        return CURATORS[name]
    found = code_of(name)
    if found != code and code is not None:
        raise InvalidInput(
            f"the file of curator {name!r} has changed since the experiment was begun ({found}, "
            f"but {code} was recorded); put it back, or begin a new experiment"
        )
    module, _, function = name.partition(":")
    _forget(module, found)
    with _here():
        try:
            choose = getattr(importlib.import_module(module), function)
        except Exception as error:  # whatever a user's file raises
            raise InvalidInput(
                f"the curator {name!r} cannot be loaded: {type(error).__name__}: {error}; {ASK}"
            ) from error
    if isinstance(choose, Curator):
        return choose
    if not callable(choose):
        raise InvalidInput(f"the curator {name!r} is not a function; {ASK}")
    return Curator(name, choose, "unknown: a user's own curator", reads_text=True)


def rehearse(curator: Curator, users: bool) -> None:
    """Have a user's curator choose from a few made-up traces, since it is asked to in earnest only
    when a generation was deployed. `users`: the pool has traces of users or sources, and feedback.

    Raises InvalidInput if it fails, or returns no Selection.
    """
    plan = "(pickup b1)\n(stack b1 b2)\n"
    pool = pd.DataFrame(
        [
            ("rehearsal-1", "task-1", 0, "deploy", "VALID", 2, 0, plan, True),
            ("rehearsal-2", "task-1", 0, "deploy", "VALID", 4, 3, 2 * plan, False),
            ("rehearsal-3", "task-1", 1, "deploy", "GOAL_NOT_REACHED", 2, 0, plan, None),
            ("rehearsal-4", "task-2", 1, "deploy", "NO_PLAN", None, 0, "I do not know.", None),
            ("rehearsal-5", "task-2", 1, "deploy", None, 2, 0, plan, None),
        ],
        columns=[
            "trace", "task", "generation", "purpose", "outcome", "plan_length",
            "reasoning_tokens", "text", "accepted",
        ],
    )  # fmt: skip
    with suppress(NothingKept):  # it may well want other traces than these
        curate(curator, pool if users else pool.drop(columns="accepted"), 1, "all", Options())


def _forget(module: str, code: str) -> None:
    """Have a module run again on its next import, unless exactly this code of it was run here.

    Otherwise Python would go on with what it ran before the file was changed.
    """
    if _RUN.get(module) == code:
        return
    sys.modules.pop(module, None)
    if module in _RUN:  # the packages around it are part of the code
        for inner in range(1, module.count(".") + 1):
            sys.modules.pop(module.rsplit(".", inner)[0], None)
    _RUN[module] = code


def code_of(name: str) -> str:
    """Hash of the file of a user's curator and of the packages around it; runs none of them.

    Raises InvalidInput if there is no such module.
    """
    module = name.partition(":")[0]
    with _here():
        files = _files(module)
    if not files:
        raise InvalidInput(f"there is no module {module!r} for the curator {name!r}; {ASK}")
    return files_hash(files)


def _files(module: str) -> list[Path]:
    """Files that importing a dotted name runs, outermost package first; none if one is missing."""
    files: list[Path] = []
    places: list[str] | None = None
    for part in module.split("."):
        # importlib.util.find_spec would import, and so run, the packages around the module.
        spec = PathFinder.find_spec(part, places) if part.isidentifier() else None
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            return []
        files.append(Path(spec.origin))
        places = list(spec.submodule_search_locations or [])
    return files


@contextmanager
def _here() -> Iterator[None]:
    """Make modules of the working directory importable, as in `python script.py`."""
    importlib.invalidate_caches()
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(os.getcwd())
