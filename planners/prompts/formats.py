"""Prompt formats, each versioned: from a task to the text that a policy reads.

`compact` groups facts and goals by object. A small model reads what is true of b3, and what is
wanted of it, far more easily in one place than scattered over a list of facts and one of goals.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase

from planners.errors import InvalidInput
from planners.pddl import Task
from planners.pddl.literals import goal_atoms
from planners.pddl.reader import changing, compares
from planners.pddl.renaming import rename, rename_plan
from planners.prompts import language
from planners.prompts.extraction import Extraction, extract
from planners.records import Plan

_WORD = re.compile(r"(\(\s*+)?([^\s()]++)")
OBJECT_NAMES = tuple(f"b{i + 1}" for i in range(64))
"""Object names in compact prompts; the embedded base has one token for each."""


def compact(task: Task) -> str:
    """One line per object: its name and type, its facts, then its goals, marked `>`.

    A fact appears on the line of each of its arguments, followed by the others. `@` says that the
    line's object is the second argument, `@@` the third: `(on b3 b1)` is ` on b1` on the line of b3
    and ` @on b3` on that of b1. Facts without arguments come first, on a line of their own. Static
    facts appear only on the line of their first argument, by predicate: ` adjacent b2 up b7 left`.
    Raises InvalidInput for numeric conditions, goals beyond atoms, or too many objects.
    """
    _require_atoms(task, "compact")
    problem = rename(task.problem, compact_names(task))
    changed = changing(task.domain)
    lines = {
        name: [f" {name}" if kind == "object" else f" {name} :{kind}"]
        for name, kind in problem.objects
    }
    head: list[str] = []
    static: dict[tuple[str, str], list[str]] = {}
    for mark, atoms in ((" ", problem.init), (" >", goal_atoms(problem.goal))):
        for predicate, *arguments in atoms:
            if not arguments:
                head.append(mark + predicate)
            elif mark == " " and predicate not in changed:
                static.setdefault((arguments[0], predicate), []).extend(arguments[1:])
            else:
                for position, owner in enumerate(arguments):
                    others = arguments[:position] + arguments[position + 1 :]
                    words = [mark + "@" * position + predicate, *others]
                    lines[owner].append(" ".join(words))
    for (owner, predicate), others in static.items():
        lines[owner].append(" ".join([f" {predicate}", *others]))
    return "".join("".join(line) + "\n" for line in (head, *lines.values()))


def _require_atoms(task: Task, prompt: str) -> None:
    if compares(task.domain):
        raise InvalidInput(
            f"the {prompt} prompt cannot express numeric conditions, which actions of "
            f"{task.domain.name} use; choose another prompt format"
        )


def _named(task: Task, names: tuple[str, ...], prompt: str) -> dict[str, str]:
    """New names for a task's objects in a prompt; empty if all keep their own.

    Constants belong to the domain and always keep theirs, and no object is named like an action.
    Raises InvalidInput if there are more objects than names.
    """
    constants = dict(task.domain.constants)
    own = [name for name, _ in task.problem.objects if name not in constants]
    names = tuple(n for n in names if n not in constants and n not in task.domain.actions)
    if set(own) <= set(names):
        return {}
    if len(own) > len(names):
        raise InvalidInput(
            f"the {prompt} prompt names at most {len(names)} objects, {task.problem.name} has "
            f"{len(own)}; choose another prompt format or smaller tasks"
        )
    return dict(zip(own, names, strict=False))


compact_names = partial(_named, names=OBJECT_NAMES, prompt="compact")
LETTERS = (*ascii_lowercase, *(f"{one}{other}" for one in "ab" for other in ascii_lowercase))
"""Object names in prompts of letters; a tokenizer of English has a token for each of the first."""
letter_names = partial(_named, names=LETTERS, prompt="letters")


def letters(task: Task) -> str:
    """Like `compact`, but objects are letters, and one `>` stands before all that is wanted of an
    object. Half the tokens of `compact` for a model that learned English.

    Raises InvalidInput for numeric conditions, goals beyond atoms, or too many objects.
    """
    _require_atoms(task, "letters")
    problem = rename(task.problem, letter_names(task))
    head, lines = [""], {name: ["", ""] for name, _ in problem.objects}
    for wanted, atoms in enumerate((problem.init, goal_atoms(problem.goal))):
        for predicate, *arguments in atoms:
            if not arguments:
                head.append((" > " if wanted else " ") + predicate)
            for position, owner in enumerate(arguments):
                others = arguments[:position] + arguments[position + 1 :]
                lines[owner][wanted] += " ".join([" " + "@" * position + predicate, *others])
    kinds = dict(problem.objects)
    rows = ["".join(head)] + [
        (f" {name}" if kinds[name] == "object" else f" {name} :{kinds[name]}")
        + have
        + (" >" + want if want else "")
        for name, (have, want) in lines.items()
    ]
    return "".join(row + "\n" for row in rows)


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """How a task is written for a policy. Any change of the text needs a new version.

    `names` maps the task's names to those that the text uses instead: those of objects, and of
    actions too if `obscure` is set. `pool` has names that any model knows, to vary them in
    training. `bare` is set if the answer is expected to be a plan and nothing else.
    """

    name: str
    version: str
    write: Callable[[Task], str]
    names: Callable[[Task], dict[str, str]] = lambda task: {}
    bare: bool = False
    pool: tuple[str, ...] = ()
    obscure: bool = False

    def read(self, task: Task, completion: str) -> Extraction:
        """The plan of an answer to this prompt, translated into the task's own names."""
        names = self.names(task)
        if not names:
            return extract(completion, task.domain.actions)
        shown = self._actions(names)
        schemas = {shown.get(name, name): one for name, one in task.domain.actions.items()}
        found = extract(completion, schemas)
        if found.plan is None:
            return found
        # A name that the prompt does not show stands for nothing, not for what it names elsewhere:
        # no object's name begins with a question mark.
        own, actions = (
            {name: f"?{name}" for name in told} | {made_up: name for name, made_up in told.items()}
            for told in (names, shown)
        )
        return Extraction(rename_plan(found.plan, own, actions))

    def restate(self, task: Task, completion: str, plan: Plan) -> str:
        """An answer given in the task's own names, rewritten as an answer to this prompt."""
        names = self.names(task)
        restated = rename_plan(plan, names, self._actions(names))
        return str(restated) if names or self.bare else completion

    def renamed(self, task: Task, text: str) -> str:
        """A text in the task's own names, in those of this prompt."""
        names = self.names(task)
        heads = self._actions(names)

        def shown(word: re.Match[str]) -> str:
            return (word[1] or "") + (heads if word[1] else names).get(word[2], word[2])

        return _WORD.sub(shown, text)

    def _actions(self, names: dict[str, str]) -> dict[str, str]:
        """Those of the names that stand for actions: an object may be called like one."""
        return names if self.obscure else {}

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


MADE_UP = language.made_up_names
PROMPTS = {
    "compact": PromptFormat("compact", "2", compact, compact_names, bare=True),
    "letters": PromptFormat("letters", "1", letters, letter_names, bare=True, pool=LETTERS[:12]),
    "pddl": PromptFormat("pddl", "2", language.whole_pddl),
    "natural": PromptFormat("natural", "4", language.plain_words),
    "validate": PromptFormat("validate", "3", language.with_tool),
    "task": PromptFormat("task", "2", language.bare_task, bare=True),
    "obfuscated": PromptFormat("obfuscated", "3", language.obfuscated, MADE_UP, obscure=True),
}
"""`compact` is for the embedded base, `task` for planners, the others for language models;
`letters` for one that was warmed up on it, `validate` for one that may call that tool.
"""
OLDER = (
    PromptFormat("natural", "2", partial(language.plain_words, version=2)),
    PromptFormat("natural", "3", partial(language.plain_words, version=3)),
    PromptFormat("obfuscated", "2", partial(language.obfuscated, version=2), MADE_UP, obscure=True),
    PromptFormat("validate", "1", partial(language.with_tool, version=2)),
    PromptFormat("validate", "2", partial(language.with_tool, version=3)),
)
READABLE = {str(prompt): prompt for prompt in (*OLDER, *PROMPTS.values())}
"""The same and older versions, by name and version as traces record them: `compact-2`."""
