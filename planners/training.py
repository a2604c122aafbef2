"""Supervised fine-tuning on (prompt, completion) rows: a plain loop over length-sorted batches.

Loss is on the completions only. Before the first step the facts that make such training fail in
silence are checked: every row has supervised tokens and ends with the end-of-sequence token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from planners.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion, end-of-sequence included."""
IGNORED = -100
WINDOW = 16
"""Batches whose rows are sorted by length together: little padding, order still random."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a training run did. Losses are nats per supervised token, over the first and last
    tenth.
    """

    rows: int
    steps: int
    supervised_tokens: int
    min_supervised_tokens: int
    first_loss: float
    last_loss: float


def preflight(rows: Sequence[Row], eos: int, max_length: int) -> int:
    """The fewest supervised tokens of any row. Raises InvalidInput on rows that teach nothing."""
    if not rows:
        raise InvalidInput(
            "the training set is empty: no trace was kept, so there is nothing to learn"
        )
    for index, (prompt, completion) in enumerate(rows):
        if not completion:
            raise InvalidInput(f"training row {index} has no supervised token")
        if completion[-1] != eos:
            raise InvalidInput(f"training row {index} does not end with the end-of-sequence token")
        if len(prompt) + len(completion) > max_length:
            raise InvalidInput(
                f"training row {index} has {len(prompt) + len(completion)} tokens, "
                f"the model takes {max_length}; choose smaller tasks or a longer context"
            )
    return min(len(completion) for _, completion in rows)


def length_batches(rows: Sequence[Row], batch: int, rng: Random) -> Iterator[list[Row]]:
    """Shuffled batches of rows of similar length, one epoch."""
    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(order), batch * WINDOW):
        window = [rows[i] for i in order[start : start + batch * WINDOW]]
        window.sort(key=lambda row: len(row[0]) + len(row[1]))
        chunks = [window[i : i + batch] for i in range(0, len(window), batch)]
        rng.shuffle(chunks)
        yield from chunks


def collate(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels, (rows, longest), padded right: causal attention never looks at the
    padding.
    """
    import torch

    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        labels[i, len(prompt) : end] = ids[i, len(prompt) : end]
    return ids, labels


def summed_logprobs(model: PreTrainedModel, rows: Sequence[Row]) -> torch.Tensor:
    """Log-probability (nats) of each row's completion given its prompt, (rows,), in float64."""
    import torch

    ids, labels = collate(rows)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    target = labels[:, 1:]
    told = target != IGNORED
    each = -torch.nn.functional.cross_entropy(logits[told].double(), target[told], reduction="none")
    return torch.zeros(len(rows), dtype=each.dtype).index_add(0, told.nonzero()[:, 0], each)


def by_length(rows: Sequence[Row], size: int) -> Iterator[list[int]]:
    """Indices of rows in batches of `size`, the shortest first, so that hardly any is padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def fit(
    model: PreTrainedModel,
    batches: Iterable[Sequence[Row]],
    steps: int,
    learning_rate: float,
    warmup: int = 50,
    weight_decay: float = 0.01,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train in place on `steps` batches; returns the loss of each step (nats per supervised token).

    AdamW with linear warm-up and cosine decay to a tenth.
    """
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=learning_rate,
        betas=(0.9, 0.98),
        weight_decay=weight_decay,
        fused=True,
    )
    warmup = min(warmup, max(1, steps // 10))

    def schedule(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    model.train()
    losses: list[float] = []
    for step, rows in zip(range(steps), batches, strict=False):
        loss = completion_loss(model, rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        on_step(step, losses[-1])
    model.eval()
    return losses


def completion_loss(model: PreTrainedModel, rows: Sequence[Row]) -> torch.Tensor:
    """Mean negative log-likelihood (nats) of the supervised tokens of a batch."""
    import torch

    ids, labels = collate(rows)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    supervised = target != IGNORED
    logits = model.get_output_embeddings()(hidden[supervised])
    return torch.nn.functional.cross_entropy(logits.float(), target[supervised])
