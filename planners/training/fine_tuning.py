"""From lessons (a problem and a completion each) to the next generation's checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from planners.models.chat import encode_prompts
from planners.models.checkpoint import (
    ADAPTER,
    adapted,
    load,
    read_tokenizer,
    save,
    weights_hash,
    with_adapter,
)
from planners.models.embedded import in_order, object_names
from planners.models.likelihood import Row
from planners.pddl import Task
from planners.pddl.renaming import rename, shuffle
from planners.prompts.formats import PROMPTS
from planners.records import content_hash
from planners.training.loop import Fit, Optimisation, fit, is_first, length_batches, preflight
from planners.training.objectives import OBJECTIVES, mean_loss
from planners.training.resuming import Resumable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_WORD = re.compile(r"[^\s()]+")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One completion to learn and the task it answers; for REINFORCE how much better than expected
    it is (its advantage), and its log-probability under the policy that wrote it.
    """

    task: Task
    completion: str
    advantage: float = 1.0
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter of every linear layer (Hu et al. 2021)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """How to fine-tune. `rename` draws new object names, `shuffle` a new order of facts, each
    epoch, but not in domains that the model knows in order (`in_order`).

    `epochs`, where given, stands for the steps that so many passes take; `micro` and
    `checkpointing` save memory; `validation` is the share of lessons held back to measure on;
    without `lora` all weights are trained; `method` is "sft", "reinforce" or "nft".
    """

    steps: int
    batch: int
    learning_rate: float
    rename: bool
    shuffle: bool
    prompt: str
    seed: int
    epochs: int | None = None
    micro: int | None = None
    checkpointing: bool = False
    validation: float = 0.0
    lora: Lora | None = None
    method: str = "sft"

    def count(self, lessons: int) -> int:
        """How many steps so many lessons make."""
        return self.steps if self.epochs is None else self.epochs * -(-lessons // self.batch)


def fine_tune(
    start: Path,
    lessons: Sequence[Lesson],
    settings: Settings,
    folder: Path,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    base: Path | None = None,
) -> dict[str, float | int]:
    """Train the checkpoint `start` on the lessons and write `folder`, whole or not at all; an
    adapter that `start` holds is one of `base`.

    Interrupted and called again, it goes on. Returns the facts of the run. Raises InvalidInput
    where the lessons would teach nothing.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        outer, model, tokenizer = _learner(start, settings, base)
        learned, held = hold_back(lessons, settings)
        rows = encode(learned, tokenizer, settings.prompt)
        fewest = preflight(rows, tokenizer.eos_token_id, model.config.max_position_embeddings)
        unseen = encode(held, tokenizer, settings.prompt)
        before = mean_loss(model, unseen, settings.batch) if held else None
        counted = [0]
        state = Resumable(
            folder.with_name(folder.name + ".training"), _identity(start, lessons, settings)
        )
        losses = fit(
            model,
            _batches(learned, tokenizer, settings, counted),
            settings.count(len(learned)),
            Optimisation(settings.learning_rate, micro=settings.micro),
            OBJECTIVES[settings.method],
            on_step,
            state,
        )
        after = mean_loss(model, unseen, settings.batch) if held else None
    tenth = max(1, len(losses) // 10)
    facts = Fit(
        rows=len(learned),
        steps=len(losses),
        supervised_tokens=counted[0],
        min_supervised_tokens=fewest,
        first_loss=sum(losses[:tenth]) / tenth,
        last_loss=sum(losses[-tenth:]) / tenth,
        validation_rows=len(held),
        validation_loss_before=before,
        validation_loss_after=after,
    )
    if is_first():
        save(outer, tokenizer, folder)
        state.forget()
    return {name: value for name, value in asdict(facts).items() if value is not None}


def _learner(
    start: Path, settings: Settings, base: Path | None
) -> tuple[Any, PreTrainedModel, PreTrainedTokenizerFast]:
    """What is saved, the model inside it that is trained, and the tokenizer."""
    if (start / ADAPTER).is_file():
        outer = adapted(start, base, trainable=True)
        model, tokenizer = outer.get_base_model(), read_tokenizer(start)
    else:
        model, tokenizer = load(start)
        outer = model
        if settings.lora is not None:
            lora = settings.lora
            outer = with_adapter(model, lora.rank, lora.alpha, lora.dropout)
        else:
            model.float()  # what is trained must be able to change by little
    if settings.checkpointing:
        cast("PreTrainedModel", model).gradient_checkpointing_enable()
        cast("PreTrainedModel", model).enable_input_require_grads()
    return outer, model, tokenizer


def hold_back(lessons: Sequence[Lesson], settings: Settings) -> tuple[list[Lesson], list[Lesson]]:
    """The lessons that are learned, and those that only measure; never all of either."""
    count = min(round(settings.validation * len(lessons)), len(lessons) - 1)
    held = set(Random(settings.seed).sample(range(len(lessons)), max(0, count)))
    parts: tuple[list[Lesson], list[Lesson]] = ([], [])
    for number, lesson in enumerate(lessons):
        parts[number in held].append(lesson)
    return parts


def _batches(
    lessons: Sequence[Lesson],
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    counted: list[int],
) -> Iterator[list[Any]]:
    """Endless batches, every lesson once an epoch; counts the supervised tokens it hands out."""
    rng = Random(settings.seed)
    advised = settings.method != "sft"
    while True:
        varied = [vary(lesson, tokenizer, settings, rng) for lesson in lessons]
        rows: list[Any] = encode(varied, tokenizer, settings.prompt)
        if advised:
            rows = [
                (*row, lesson.advantage, lesson.logprob)
                for row, lesson in zip(rows, lessons, strict=True)
            ]
        for batch in length_batches(rows, settings.batch, rng):
            counted[0] += sum(len(row[1]) for row in batch)
            yield batch


def _identity(start: Path, lessons: Sequence[Lesson], settings: Settings) -> str:
    """What a training run is made of: an interrupted one goes on only where it is the same."""
    learned = (f"{lesson.task.key} {lesson.advantage!r} {lesson.completion}" for lesson in lessons)
    return content_hash(weights_hash(start), repr(settings), *learned)


def encode(lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[Row]:
    """Token ids of prompts and completions, end-of-sequence behind each completion."""
    if not lessons:
        return []
    write = PROMPTS[prompt].write
    heads = encode_prompts(tokenizer, [write(lesson.task) for lesson in lessons])
    texts = [lesson.completion for lesson in lessons]
    tails = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [
        (head, [*tail, tokenizer.eos_token_id]) for head, tail in zip(heads, tails, strict=True)
    ]


def vary(
    lesson: Lesson, tokenizer: PreTrainedTokenizerFast, settings: Settings, rng: Random
) -> Lesson:
    """The same lesson under other object names and in another order, as the settings ask; just the
    same in a domain that the model knows in order.
    """
    if lesson.task.domain.name in in_order(tokenizer):
        return lesson
    names = object_names(tokenizer) if settings.rename else []
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
    return replace(lesson, task=replace(lesson.task, problem=problem), completion=completion)
