"""A completion to learn, and the same under other object names and in another order."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from planners.models.embedded import in_order, object_names
from planners.pddl import Task, canonical
from planners.pddl.isomorphism import symmetries
from planners.pddl.renaming import rename, rename_plan, shuffle
from planners.prompts.formats import PROMPTS
from planners.records import Turn, turn_texts
from planners.training.settings import Training

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORD = re.compile(r"(\(\s*+)?([^\s()]++)")
"""A word, and whether it is the first one in its parentheses, as the name of an action is."""
_PLAIN = re.compile(r"(?:\([^\s()A-Z,;]++(?: [^\s()A-Z,;]++)*+\)\n?)*+")
"""A plan that is nothing but lines of actions, whose names are its words."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One completion to learn, and the task that it answers.

    `weight` is its advantage, of either sign, for REINFORCE and NFT. `logprob` is its
    log-probability under the policy that wrote it. `token_ids` are those that it was sampled as,
    if known: a text can be tokenised otherwise than it was written. `turns`: its turns, if it has
    several; the tool's are read and not learned, and so are the first `silent` ones.
    """

    task: Task
    completion: str
    weight: float = 1.0
    logprob: float | None = None
    token_ids: tuple[int, ...] = ()
    turns: tuple[Turn, ...] = ()
    silent: int = 0

    @property
    def is_weighed(self) -> bool:
        """Whether it is a failure that is weighed by how likely it has become since it was written:
        it is learned as it was, token by token.
        """
        return self.weight < 0 and self.logprob is not None

    @property
    def parts(self) -> list[str]:
        """The text of each turn."""
        return turn_texts(self.completion, [turn.characters for turn in self.turns])


def vary(
    lesson: Lesson, tokenizer: PreTrainedTokenizerFast, training: Training, prompt: str, rng: Random
) -> Lesson:
    """The same lesson with other object names and in another order, as the settings ask.

    In domains whose objects the model knows by sorted order, the new names are those of a symmetry
    of the task's map, so that a name still says where a cell is, and the order stays.
    """
    if lesson.task.domain.name in in_order(tokenizer):
        return _mirrored(lesson, prompt, rng) if training.rename else lesson
    names_of = PROMPTS[prompt].names
    pool = PROMPTS[prompt].pool or object_names(tokenizer) if training.rename else ()
    problem, constants = lesson.task.problem, dict(lesson.task.domain.constants)
    own = [name for name, _ in problem.objects if name not in constants]
    pool = [name for name in pool if name not in constants]
    # The completion has the names that the prompt gives: `written` leads from these to the names
    # of the varied problem, and what the prompt then gives comes on top.
    given = names_of(lesson.task)
    if len(pool) >= len(own):
        shown = {name: given.get(name, name) for name in own}
        problem = rename(problem, shown)
        written = dict(zip(shown.values(), rng.sample(pool, len(own)), strict=True))
        problem = rename(problem, written)
    else:
        written = {shown: name for name, shown in given.items()}
    if training.shuffle:
        problem = shuffle(problem, rng)
    task = replace(lesson.task, problem=problem)
    again = names_of(task)
    words = {**again, **{word: again.get(name, name) for word, name in written.items()}}
    named = {name: written.get(given.get(name, name), name) for name in own}
    return _answering(lesson, task, words, prompt, named)


def _mirrored(lesson: Lesson, prompt: str, rng: Random) -> Lesson:
    """The same lesson turned or mirrored by one of its map's symmetries, drawn at random."""
    mapped = rng.choice(symmetries(lesson.task))
    if all(name == image for name, image in mapped.items()):
        return lesson
    # The facts are sorted again, as the model knows them. The objects are the same ones as before.
    problem = canonical(rename(lesson.task.problem, mapped))
    task = replace(lesson.task, problem=replace(problem, objects=lesson.task.problem.objects))
    given, again = PROMPTS[prompt].names(lesson.task), PROMPTS[prompt].names(task)
    words = {
        given.get(name, name): again.get(mapped.get(name, name), mapped.get(name, name))
        for name in (*given, *mapped)
    }
    return _answering(lesson, task, words, prompt, mapped)


def _answering(
    lesson: Lesson, task: Task, words: dict[str, str], prompt: str, named: dict[str, str]
) -> Lesson:
    """The lesson for a task that is its own under other names. `words` of the completion and names
    of the task (`named`) lead to those names.

    An answer in another form, such as JSON, may be read otherwise than its words: then the lesson
    stays as it is, unless its plan is the renamed one.
    """
    parts = [
        _WORD.sub(lambda word: word[0] if word[1] else words.get(word[2], word[2]), part)
        for part in lesson.parts
    ]
    completion = "".join(parts)
    if not all(map(_PLAIN.fullmatch, (lesson.completion, completion))):
        read = PROMPTS[prompt].read
        before, after = (
            read(of, text).plan
            for of, text in ((lesson.task, lesson.completion), (task, completion))
        )
        if before is not None and (after is None or after != rename_plan(before, named, {})):
            return lesson
    if completion == lesson.completion:
        return replace(lesson, task=task)
    turns = tuple(Turn(len(part), 0) for part in parts) if lesson.turns else ()
    return replace(lesson, task=task, completion=completion, token_ids=(), turns=turns)
