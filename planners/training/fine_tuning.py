"""Train the next generation's checkpoint on lessons (a task and a completion each)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from planners.errors import InvalidInput, require_one_of
from planners.models.chat import encode_prompts, told_ids
from planners.models.checkpoint import (
    ADAPTER,
    adapted,
    context_of,
    load,
    read_tokenizer,
    save,
    weights_hash,
    with_adapter,
)
from planners.models.embedded import with_words
from planners.models.likelihood import Row, heard, own_tokens, supervised
from planners.prompts.formats import PROMPTS
from planners.records import content_hash
from planners.training.lessons import Lesson, vary
from planners.training.loop import (
    Facts,
    Optimisation,
    fit,
    is_first,
    length_batches,
    preflight,
)
from planners.training.objectives import OBJECTIVES, Advised, mean_loss
from planners.training.resuming import Resumable
from planners.training.settings import Training

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from planners.training.loop import Objective


def fine_tune(
    start: Path,
    lessons: Sequence[Lesson],
    training: Training,
    folder: Path,
    *,
    prompt: str,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    base: Path | None = None,
    plain: bool = False,
) -> Facts:
    """Train the checkpoint `start` on the lessons and write `folder`, whole or not at all.

    `prompt` names the prompt format. If `start` is an adapter, `base` is its base. `plain`: without
    the start's chat template, from here on, and with a token for each word of the lessons. An
    interrupted run continues when called again. Returns its facts. Raises
    InvalidInput if there is no such prompt format, the lessons would teach nothing or have weights
    that the method cannot learn, and CheckpointError if `start` is no checkpoint.
    """
    import torch

    require_one_of("prompt format", prompt, PROMPTS)
    objective = objective_of(lessons, training.method)
    _require_known(lessons, training.method)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # 1. The model, and the rows that it is trained and validated on.
        outer, model, tokenizer = _learner(start, training, base)
        if plain:
            tokenizer.chat_template = None
            tokenizer = with_words(model, tokenizer, [one.completion for one in lessons])
        learned, held = hold_back(lessons, training.validation, seed)
        objective_of(learned, training.method)  # which says so if all that teaches is held back
        rows = encode(learned, tokenizer, prompt)
        context, end = context_of(model.config), tokenizer.eos_token_id
        fewest = preflight(rows, end, context, _as_written(learned))
        # What is to become less likely says nothing of how well the rest is learned.
        held = [lesson for lesson in held if lesson.weight > 0]
        unseen = encode(held, tokenizer, prompt)
        if held:
            preflight(unseen, end, context, _as_written(held))
        at_once = min(training.micro or training.batch, training.batch)
        before = mean_loss(model, unseen, at_once) if held else None
        # 2. The steps, continuing an interrupted run.
        source = Batches(learned, tokenizer, training, prompt, seed)
        state = Resumable(
            folder.with_name(folder.name + ".training"),
            _identity(start, lessons, training, prompt, seed),
        )
        losses = fit(
            model,
            source,
            training.count(len(learned)),
            Optimisation(training.learning_rate, micro=training.micro),
            objective,
            on_step,
            state,
        )
        # 3. The outcome. Only one of several processes writes.
        after = mean_loss(model, unseen, at_once) if held else None
    tenth = max(1, len(losses) // 10)
    facts = {
        "rows": len(learned),
        "steps": len(losses),
        "supervised_tokens": source.supervised_tokens,
        "min_supervised_tokens": fewest,
        "first_loss": sum(losses[:tenth]) / tenth,
        "last_loss": sum(losses[-tenth:]) / tenth,
        "validation_rows": len(held),
        "validation_loss_before": before,
        "validation_loss_after": after,
        "losses": tuple(round(loss, 5) for loss in losses),
    }
    if is_first():
        save(outer, tokenizer, folder)
        state.forget()
    return {name: value for name, value in facts.items() if value is not None}


def objective_of(lessons: Sequence[Lesson], method: str) -> Objective:
    """The loss that a method minimises over these lessons.

    Raises InvalidInput if supervised learning gets a weight below zero, or none above it.
    """
    weights = {lesson.weight for lesson in lessons}
    known = [lesson.logprob for lesson in lessons if lesson.logprob is not None]
    if not all(map(math.isfinite, (*weights, *known))):
        raise InvalidInput(
            "a lesson has a weight or log-probability that is infinite or NaN; see what "
            "weights the curator returns"
        )
    if method != "sft":
        return OBJECTIVES[method]
    if lessons and (min(weights) < 0 or max(weights) == 0):
        raise InvalidInput(
            f"the training set has weights from {min(weights):g} to {max(weights):g}: supervised "
            "learning needs weights of at least 0, and one above it; for advantages, set "
            "training.method = 'reinforce'"
        )
    return OBJECTIVES["sft"] if weights <= {1.0} else OBJECTIVES["weighted"]


def _require_known(lessons: Sequence[Lesson], method: str) -> None:
    """Raise InvalidInput where none of the failures can be learned from."""
    failed = [lesson for lesson in lessons if lesson.weight < 0]
    if method != "sft" and failed and all(lesson.logprob is None for lesson in failed):
        raise InvalidInput(
            f"none of {len(failed)} failures has the log-probability with which the model itself "
            f"wrote it, so that training.method = {method!r} learns nothing from them: sample in "
            "this process, at temperature 1, or with a server that tells the model's own "
            "(vLLM: --logprobs-mode raw_logprobs)"
        )


def _learner(
    start: Path, training: Training, base: Path | None
) -> tuple[Any, PreTrainedModel, PreTrainedTokenizerFast]:
    """The model to save, the model inside it to train, and the tokenizer."""
    if (start / ADAPTER).is_file():
        outer = adapted(start, base, trainable=True)
        model, tokenizer = outer.get_base_model(), read_tokenizer(start)
    else:
        # An adapter is trained on weights as they are sampled; weights that are trained themselves
        # would lose their small updates to half precision.
        model, tokenizer = load(start, dtype=None if training.lora else "float32")
        outer = model
        if training.lora is not None:
            lora = training.lora
            outer = with_adapter(model, lora.rank, lora.alpha, lora.dropout)
    if training.checkpointing:
        cast("PreTrainedModel", model).gradient_checkpointing_enable()
        # With frozen weights, a checkpointed layer has a gradient only if its input requires one.
        cast("PreTrainedModel", model).enable_input_require_grads()
    return outer, model, tokenizer


def hold_back(
    lessons: Sequence[Lesson], share: float, seed: int
) -> tuple[list[Lesson], list[Lesson]]:
    """Split lessons into those to train on, at least one, and a held-out share for validation."""
    count = min(round(share * len(lessons)), len(lessons) - 1)
    held = set(Random(seed).sample(range(len(lessons)), max(0, count)))
    parts: tuple[list[Lesson], list[Lesson]] = ([], [])
    for number, lesson in enumerate(lessons):
        parts[number in held].append(lesson)
    return parts


@dataclass(slots=True)
class Batches:
    """Endless batches, with every lesson once per epoch; counts their supervised tokens.

    A row is a prompt, a completion, the lesson's weight and its log-probability.
    """

    lessons: Sequence[Lesson]
    tokenizer: PreTrainedTokenizerFast
    training: Training
    prompt: str
    seed: int
    supervised_tokens: int = 0

    def __iter__(self) -> Iterator[list[Advised]]:
        rng = Random(self.seed)
        while True:
            # New names and a new order in each epoch.
            # A failure is weighed by how likely it has become since it was written, as it was.
            varied = [
                lesson
                if lesson.is_weighed
                else vary(lesson, self.tokenizer, self.training, self.prompt, rng)
                for lesson in self.lessons
            ]
            rows = [
                (*row, lesson.weight, lesson.logprob)
                for row, lesson in zip(
                    encode(varied, self.tokenizer, self.prompt), self.lessons, strict=True
                )
            ]
            for batch in length_batches(rows, self.training.batch, rng):
                self.supervised_tokens += sum(map(supervised, batch))
                yield batch


def _identity(
    start: Path, lessons: Sequence[Lesson], training: Training, prompt: str, seed: int
) -> str:
    """Hash of a training run's inputs; an interrupted run continues only if it is the same."""
    learned = (
        f"{lesson.task.key} {lesson.weight!r} {lesson.logprob} {lesson.token_ids} "
        f"{lesson.completion}{lesson.turns or ''}{lesson.silent}"
        for lesson in lessons
    )
    return content_hash(weights_hash(start), repr(training), prompt, str(seed), *learned)


def encode(
    lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast, prompt: str,
    as_sampled: bool = False,
) -> list[Row]:  # fmt: skip
    """Token ids of prompts and completions, with end-of-sequence after each completion but those of
    failures that are weighed by their log-probability; `as_sampled`, after none whose ids are
    known.
    """
    if not lessons:
        return []
    write = PROMPTS[prompt].write
    heads = encode_prompts(tokenizer, [write(lesson.task) for lesson in lessons])
    texts = [lesson.completion for lesson in lessons]
    tails = tokenizer(texts, add_special_tokens=False)["input_ids"]
    end, special = tokenizer.eos_token_id, set(tokenizer.all_special_ids)
    rows = []
    for head, tail, lesson in zip(heads, tails, lessons, strict=True):
        if lesson.turns:
            rows.append((head, _ids_of_turns(lesson, tokenizer, as_sampled)))
            continue
        ids = list(lesson.token_ids)
        if ids and (as_sampled or lesson.is_weighed):  # another token more would be another text
            rows.append((head, ids))
            continue
        # Sampled ids end with the end of the text, with no such token where they were cut, or with
        # another one, which is not what training should teach.
        ids = ids or tail
        rows.append((head, [*(ids[:-1] if ids and ids[-1] in special else ids), end]))
    return rows


def _as_written(lessons: Sequence[Lesson]) -> set[int]:
    """The numbers of lessons whose row is what was sampled, however that ended."""
    return {number for number, one in enumerate(lessons) if one.is_weighed and one.token_ids}


def _ids_of_turns(
    lesson: Lesson, tokenizer: PreTrainedTokenizerFast, as_sampled: bool
) -> list[int]:
    """Token ids of a completion of several turns; those of the tool, and silent ones, as heard."""
    end = tokenizer.eos_token_id
    if lesson.token_ids:
        ids = own_tokens(lesson.token_ids, [turn.tokens for turn in lesson.turns])
        if lesson.is_weighed or as_sampled:  # another token more would be another text
            return ids
    else:
        ids = []
        for number, text in enumerate(lesson.parts):
            if number % 2:
                ids += heard(told_ids(tokenizer, text))
            else:
                said = [*tokenizer(text, add_special_tokens=False)["input_ids"], end]
                ids += heard(said) if number < lesson.silent else said
    if ids[-1] in tokenizer.all_special_ids:
        ids.pop()
    return [*ids, end]
