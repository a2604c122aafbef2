"""The plan of the house: packages and wings in their order, small folders, light imports."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = {
    "planners": (
        "fronts", "errors", "clock", "records", "files", "processes", "pddl", "prompts", "checking",
        "domains", "models", "policies", "training",
    ),
    "curation": (
        "curators", "own", "rewards", "price", "tasks", "strata", "preferences", "vocabulary",
        "equivalence", "diversity", "forecasts", "influence",
    ),
    "warehouse": (
        "records", "verdicts", "findings", "schema", "load", "choice", "migrations", "places",
        "sandbox", "reading", "store", "landing", "pool", "integrity", "export",
    ),
    "flows": (
        "experiments", "progress", "generations", "importing", "deployment", "audit", "loop",
        "tracking", "iterate", "front", "report", "sharing", "schedule", "study", "pages", "web",
        "commands",
    ),
}  # fmt: skip
"""Packages from left to right, and the wings of each: imports go to the left only."""
WINGS = [f"{package}.{wing}" for package, wings in HOUSE.items() for wing in wings]
MOST = 12
"""Files in a folder, its `__init__` aside."""
SQL = re.compile(r"\bSELECT\b[^\"']*\bFROM\b", re.S)


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the product by its dotted name."""
    for package in HOUSE:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), file


def imported(file: Path) -> set[str]:
    """The dotted names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wing_of(name: str) -> str | None:
    """The wing that a dotted name lies in; None for other packages and a package's own front."""
    wing = ".".join(name.split(".")[:2])
    return wing if wing in WINGS else None


def test_every_module_has_its_wing() -> None:
    fronts = {*HOUSE, "flows.__main__"}
    assert {name for name, _ in modules() if wing_of(name) is None} <= fronts


@pytest.mark.parametrize("wing", WINGS)
def test_wings_import_only_to_the_left(wing: str) -> None:
    place, later = WINGS.index(wing), set()
    for name, file in modules():
        if wing_of(name) == wing:
            others = {wing_of(other) for other in imported(file)} - {None}
            later |= {f"{name}: {other}" for other in others if WINGS.index(str(other)) > place}
    assert not later


def test_no_import_cycle() -> None:
    """Within a wing files import each other in one direction; cycles of any length are found."""
    known = dict(modules())
    waiting = {
        name: {
            target
            for other in imported(file)
            for target in (other, other.rpartition(".")[0])
            if target in known and target != name and known[target].name != "__init__.py"
        }
        for name, file in known.items()
    }
    while free := {name for name, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {name: needs for name, needs in waiting.items() if name not in free}
    assert not waiting, sorted(waiting)


def test_packages_keep_to_their_libraries() -> None:
    for name, file in modules():
        package = name.split(".")[0]
        libraries = {other.split(".")[0] for other in imported(file)}
        if package != "flows":
            assert not libraries & {"prefect", "typer", "rich"}, file
        if package != "warehouse":
            assert not libraries & {"sqlalchemy", "duckdb"}, file


def test_a_folder_holds_no_more_than_twelve_files() -> None:
    folders = Counter(file.parent for _, file in modules() if not file.stem.startswith("__"))
    assert not {folder: count for folder, count in folders.items() if count > MOST}
    assert all(file.read_text("utf-8").count("\n") <= 350 for _, file in modules())


def test_sql_has_one_home() -> None:
    elsewhere = [
        name
        for name, file in modules()
        if not name.startswith("warehouse") and SQL.search(file.read_text("utf-8"))
    ]
    assert not elsewhere


def test_light_packages_load_neither_torch_nor_prefect() -> None:
    names = [name for name, _ in modules() if not name.startswith("flows")]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print([m for m in ('torch', 'transformers', 'prefect') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


EDGES = {"to_json", "parameters", "besides"}
"""Where a dictionary leaves for JSON, or for Prefect."""


def test_records_cross_borders_and_dictionaries_do_not() -> None:
    loose = []
    for name, file in modules():
        if name.split(".")[0] not in ("flows", "curation"):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                told = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs)]
                signature = " ".join(ast.unparse(one) for one in (*told, node.returns) if one)
                if "dict[str, Any]" in signature and node.name not in EDGES:
                    loose.append(f"{name}.{node.name}")
    assert not loose
    rows = [n for n, f in modules() if '["domain_pddl"]' in f.read_text() and "warehouse" not in n]
    assert not rows


def test_no_docstring_begins_with_what() -> None:
    assert not [name for name, file in modules() if '"""What ' in file.read_text("utf-8")]
