"""Load users' own curators: a function in one of their files, named `module:function`.

The file is hashed before it is run: `verify` never runs other code than the experiment began with.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.curators import (
    CURATORS,
    SELECTED,
    Curator,
    NothingKept,
    Options,
    Selection,
    curate,
    keep,
)
from planners.errors import InvalidInput, require_one_of
from planners.files import files_hash

if TYPE_CHECKING:
    import pandas as pd

_RUN: dict[str, str] = {}
"""The hash of the code of each module that was run here."""
ASK = "name a function of a Python file in the working directory, as `my_module:longest`"


def curator_named(name: str, code: str | None = None) -> Curator:
    """Return one of CURATORS, or a user's function `module:function`.

    Raises InvalidInput if there is none, or if `code` is given and the file has another hash.
    """
    if ":" not in name:
        require_one_of("curator", name, CURATORS, f", or {ASK}")
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
        except (Exception, SystemExit) as error:  # whatever a user's file raises
            raise InvalidInput(
                f"the curator {name!r} cannot be loaded: {type(error).__name__}: {error}; {ASK}"
            ) from error
    if isinstance(choose, Curator):
        return guarded(choose)
    if not callable(choose):
        raise InvalidInput(f"the curator {name!r} is not a function; {ASK}")
    return guarded(Curator(name, choose, "unknown: a user's own curator", reads_text=True))


def guarded(curator: Curator) -> Curator:
    """A user's curator that is given a copy of the pool, and of which only decisions are taken: the
    facts beside them are the pool's. Whatever it raises, or returns instead, is InvalidInput.
    """

    def choose(pool: pd.DataFrame, options: Options) -> Selection:
        try:
            found = curator.choose(pool.copy(), options)
        except (Exception, SystemExit) as error:
            raise InvalidInput(
                f"the curator {curator.name!r} raised {type(error).__name__}: {error}; nothing was "
                "curated: fix it and run again"
            ) from error
        return _decided(found, pool, curator)

    return replace(curator, choose=choose)


def _decided(found: object, pool: pd.DataFrame, curator: Curator) -> Selection:
    """The decisions of a curator on every trace of its pool, one on each."""
    import pandas as pd

    if not isinstance(found, Selection):
        wrong = f"a {type(found).__name__}, not a curation.Selection"
    elif missing := set(SELECTED) - set(found.frame.columns):
        wrong = f"a selection without {', '.join(sorted(missing))}"
    elif not found.frame.columns.is_unique:
        wrong = "a selection that has a column twice"
    elif sorted(found.frame["trace"].tolist(), key=str) != sorted(pool["trace"].tolist()):
        wrong = f"decisions on {len(found.frame)} traces, of a pool of {len(pool)}"
    elif not found.frame["kept"].isin([True, False]).all():
        wrong = "traces that are neither kept nor dropped (`kept` is not True or False)"
    elif not found.frame["reason"].map(lambda reason: isinstance(reason, str)).all():
        wrong = "a reason that is no text"
    else:
        made = found.frame.set_index(found.frame["trace"].astype(str)).loc[pool["trace"]]
        weights = pd.to_numeric(made["weight"], errors="coerce")
        kept = weights[made["kept"].astype(bool)]
        if not np.isfinite(weights).all():
            wrong = "weights that are not finite"
        elif not curator.signed and (kept < 0).any():
            wrong = f"a weight below 0, {kept.min():g}"
        elif len(kept) and not kept.any():
            wrong = "a weight of 0 for all that it keeps"
        else:
            chosen = keep(pool, kept.astype(float).to_dict()).frame
            return Selection(chosen.assign(reason=made["reason"].astype(str).to_numpy()))
    ask = "return curation.keep(pool, ids), or keep(pool, {id: weight}), no weight below 0"
    raise InvalidInput(f"the curator {curator.name!r} returned {wrong}; {ask}")


def rehearse(curator: Curator, users: bool) -> None:
    """Have a user's curator choose from a few made-up traces, since it is asked to in earnest only
    when a generation was deployed. `users`: the pool has traces of users or sources, and feedback.

    Raises InvalidInput if it fails, or returns no Selection.
    """
    import pandas as pd

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
