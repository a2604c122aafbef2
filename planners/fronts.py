"""Lazy exports: a public name is imported when it is first used, so that importing the package
alone loads nothing heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exporting(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__`, and its `__dir__`, by which a prompt completes the names.

    `modules` maps each module to the public names that it defines, separated by blanks.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return find, lambda: sorted({*vars(sys.modules[package]), *homes})
