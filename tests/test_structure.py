"""The packages form a total order, and the light ones stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("planners", "curation", "warehouse", "flows")


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("package", ORDER)
def test_imports_only_to_the_left(package: str) -> None:
    later = set(ORDER[ORDER.index(package) + 1 :])
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        names = imported(file)
        assert not names & later, f"{file} imports {names & later}"
        if package != "flows":
            assert not names & {"prefect", "typer", "rich"}, file
        if package != "warehouse":
            assert not names & {"sqlalchemy", "duckdb"}, file


def test_light_packages_load_neither_torch_nor_prefect() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for package in ORDER[:3]
        for file in sorted((ROOT / package).rglob("*.py"))
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
        "print([m for m in ('torch', 'transformers', 'prefect') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"
