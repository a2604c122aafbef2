"""From lessons (a problem and a completion each) to the next generation's checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from planners.local import load, save
from planners.pddl import Task
from planners.prompts import PROMPTS, rename, shuffle
from planners.training import Fit, Row, fit, length_batches, preflight

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WORD = re.compile(r"[^\s()]+")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One completion to learn, and the task it answers."""

    task: Task
    completion: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How to fine-tune. `rename` draws new object names, `shuffle` a new order of facts, each
    epoch.
    """

    steps: int
    batch: int
    learning_rate: float
    rename: bool
    shuffle: bool
    prompt: str
    seed: int


def fine_tune(
    start: Path,
    lessons: Sequence[Lesson],
    settings: Settings,
    folder: Path,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, float | int]:
    """Train the checkpoint `start` on the lessons and write `folder`, whole or not at all.

    Returns the facts of the run. Raises InvalidInput where the lessons would teach nothing.
    """
    model, tokenizer = load(start)
    names = object_names(tokenizer) if settings.rename else []
    first = encode(lessons, tokenizer, settings.prompt)
    fewest = preflight(first, tokenizer.eos_token_id, model.config.max_position_embeddings)
    counted = [0]

    def batches() -> Iterator[list[Row]]:
        rng = Random(settings.seed)
        while True:
            rows = encode(
                [vary(lesson, names, settings, rng) for lesson in lessons],
                tokenizer,
                settings.prompt,
            )
            for batch in length_batches(rows, settings.batch, rng):
                counted[0] += sum(len(completion) for _, completion in batch)
                yield batch

    losses = fit(model, batches(), settings.steps, settings.learning_rate, on_step=on_step)
    tenth = max(1, len(losses) // 10)
    facts = Fit(
        rows=len(lessons),
        steps=len(losses),
        supervised_tokens=counted[0],
        min_supervised_tokens=fewest,
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
    )
    save(model, tokenizer, folder)
    return asdict(facts)


def encode(lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[Row]:
    """Token ids of prompts and completions, end-of-sequence behind each completion."""
    write = PROMPTS[prompt].write
    heads = tokenizer([write(lesson.task) for lesson in lessons])["input_ids"]
    tails = tokenizer([lesson.completion for lesson in lessons], add_special_tokens=False)[
        "input_ids"
    ]
    return [
        (head, [*tail, tokenizer.eos_token_id]) for head, tail in zip(heads, tails, strict=True)
    ]


def vary(lesson: Lesson, names: Sequence[str], settings: Settings, rng: Random) -> Lesson:
    """The same lesson under other object names and in another order, as the settings ask."""
    problem, completion = lesson.task.problem, lesson.completion
    constants = dict(lesson.task.domain.constants)
    if len(names) >= len(problem.objects) - len(constants):
        problem = rename(problem, PROMPTS[settings.prompt].names(lesson.task))
        own = [name for name, _ in problem.objects if name not in constants]
        table = dict(zip(own, rng.sample(names, len(own)), strict=True))
        problem = rename(problem, table)
        completion = _WORD.sub(lambda word: table.get(word[0], word[0]), completion)
    if settings.shuffle:
        problem = shuffle(problem, rng)
    return Lesson(replace(lesson.task, problem=problem), completion)


def object_names(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The object names a tokenizer knows as one token each; empty where it has no such pool."""
    return list(getattr(tokenizer, "init_kwargs", {}).get("object_names", []))


def weights_hash(folder: Path) -> str:
    """Hash of a checkpoint's weights."""
    digest = blake2b(digest_size=16)
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
