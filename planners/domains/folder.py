"""Users' own tasks: a folder with a domain and its problems.

    my-tasks/domain.pddl
    my-tasks/train/*.pddl      deployed and learned from
    my-tasks/heldout/*.pddl    only measured (may be absent)
    my-tasks/larger/*.pddl     only measured, harder (may be absent)

Without train/, the problems are expected beside domain.pddl. If heldout/ is absent too, every fifth
of them, by name, is held out. A problem that equals an earlier one of its split up to the names of
its objects is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planners.errors import InvalidInput
from planners.files import naming, read_pddl
from planners.pddl import Task, canonical, read_domain, read_task
from planners.pddl.isomorphism import require_no_leak, shape
from planners.pddl.printing import print_problem, without_constants
from planners.records import content_hash

SPLITS = ("train", "heldout", "larger")
HELD_OUT = 5
"""In a folder without splits, one problem in this many is held out."""


@dataclass(frozen=True, slots=True)
class FolderTask:
    """A problem of a folder: its file's relative path, its text, the task, and its shape."""

    file: str
    text: str
    task: Task
    shape: str


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """A domain's text, the tasks of each split, and (copy, original) pairs of left-out files."""

    domain: str
    splits: dict[str, list[FolderTask]]
    copies: list[tuple[str, str]]

    @property
    def contents(self) -> str:
        """Hash of the domain and all tasks that are used, in the order of the files' names."""
        keys = [
            f"{split} {canonical_text(task)}" for split in SPLITS for task in self.splits[split]
        ]
        return content_hash(self.domain, *keys)


def read_folder(folder: Path) -> TaskFolder:
    """Read every problem of a folder of tasks.

    Raises InvalidInput (PddlError, NotJudged) with the file and, if known, the line. Also raises
    it if tasks of two splits are equal up to the names of their objects.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder; name one with a domain.pddl and problems")
    domain = read_pddl(folder / "domain.pddl")
    with naming(folder / "domain.pddl"):
        read_domain(domain)
    files = {split: _problems(folder / split) for split in SPLITS}
    flat = _problems(folder)
    if files["train"] and flat:
        raise InvalidInput(
            f"{folder} has problems in train/ and beside its domain.pddl, such as {flat[0].name}: "
            "move these into train/, heldout/ or larger/, or out of the folder"
        )
    if not files["train"] and not flat:
        raise InvalidInput(
            f"{folder} has no problems to train on: put *.pddl files beside its domain.pddl, or "
            "into a folder train/ (and heldout/, larger/)"
        )
    files["train"] += flat
    copies: list[tuple[str, str]] = []
    found = {
        split: [_read(folder, path, domain) for path in paths] for split, paths in files.items()
    }
    # Before copies are dropped, so that every file that leaks is found.
    require_no_leak({split: [(t.file, t.shape) for t in tasks] for split, tasks in found.items()})
    splits = {split: _without_copies(tasks, copies) for split, tasks in found.items()}
    # After copies are dropped, so that no held-out problem equals a training problem.
    if flat and not splits["heldout"]:
        beside = splits["train"]
        splits["heldout"] = beside[HELD_OUT - 1 :: HELD_OUT]
        splits["train"] = [task for i, task in enumerate(beside, 1) if i % HELD_OUT]
    return TaskFolder(domain, splits, copies)


def _problems(folder: Path) -> list[Path]:
    """The files of a folder that hold problems."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".pddl")
    return sorted(path for path in found if path.name != "domain.pddl")


def _read(folder: Path, path: Path, domain: str) -> FolderTask:
    text = read_pddl(path)
    with naming(path):
        task = read_task(domain, text)
    return FolderTask(str(path.relative_to(folder)), text, task, shape(task))


def _without_copies(tasks: list[FolderTask], copies: list[tuple[str, str]]) -> list[FolderTask]:
    """The tasks that do not equal an earlier one up to names; the others are added to `copies`."""
    first: dict[str, str] = {}
    for task in tasks:
        if first.setdefault(task.shape, task.file) != task.file:
            copies.append((task.file, first[task.shape]))
    return [task for task in tasks if first[task.shape] == task.file]


def canonical_text(found: FolderTask) -> str:
    """The problem as sorted PDDL, so that equal keys have equal texts; unsorted if numeric."""
    task = found.task
    if task.values or task.metric is not None:
        return found.text
    return print_problem(canonical(without_constants(task).problem))
