"""Fine-tuning on (prompt, completion) rows: a plain loop over length-sorted batches.

A plain loop, because it measures no slower than a trainer's and can be read whole; what makes it
fast is that rows of similar length stand in a batch. Loss is on the completions only. Before the
first step the facts that make such training fail in silence are checked: every row has supervised
tokens and ends with the end-of-sequence token.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from planners.errors import ComponentFailure, InvalidInput
from planners.models.hardware import out_of_memory
from planners.models.likelihood import Row
from planners.training.objectives import completion_loss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from planners.training.resuming import Resumable

    Objective = Callable[[PreTrainedModel, Sequence[Any]], torch.Tensor]

R = TypeVar("R", bound=Sequence[Any])
WINDOW = 16
"""Batches whose rows are sorted by length together: little padding, order still random."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a training run did. Losses are nats per supervised token, over the first and last
    tenth, and on the rows held back for validation before and after.
    """

    rows: int
    steps: int
    supervised_tokens: int
    min_supervised_tokens: int
    first_loss: float
    last_loss: float
    validation_rows: int = 0
    validation_loss_before: float | None = None
    validation_loss_after: float | None = None


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How steps are made. AdamW with linear warm-up and cosine decay to a tenth.

    `micro`: rows whose activations are in memory at once, None for all of a batch; the gradient is
    that of the whole batch either way.
    """

    learning_rate: float
    warmup: int = 50
    weight_decay: float = 0.01
    micro: int | None = None

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0."""
        warmup = min(self.warmup, max(1, steps // 10))
        if step < warmup:
            return self.learning_rate * ((step + 1) / warmup)
        turn = math.pi * (step - warmup) / max(1, steps - warmup)
        return self.learning_rate * (0.55 + 0.45 * math.cos(turn))


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


def length_batches(rows: Sequence[R], batch: int, rng: Random) -> Iterator[list[R]]:
    """Shuffled batches of rows of similar length, one epoch. A row begins with two lists of ids."""
    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(order), batch * WINDOW):
        window = [rows[i] for i in order[start : start + batch * WINDOW]]
        window.sort(key=lambda row: len(row[0]) + len(row[1]))
        chunks = [window[i : i + batch] for i in range(0, len(window), batch)]
        rng.shuffle(chunks)
        yield from chunks


def fit(
    model: PreTrainedModel,
    batches: Iterable[Sequence[Any]],
    steps: int,
    how: Optimisation,
    objective: Objective | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    state: Resumable | None = None,
) -> list[float]:
    """Train in place on `steps` batches; returns the loss of each step (nats per supervised token).

    Where `state` holds the state of this run, the steps it has are not made again, but their
    batches are drawn.
    """
    import torch

    # 1. The optimizer, in the state of an interrupted run where there is one.
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=how.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=how.weight_decay,
        fused=True,
    )
    losses = state.restore(optimizer) if state else []
    # 2. What makes gradients of a batch, in parts where memory is short.
    learner = _Learner(model, objective or completion_loss, how.micro)
    model.train()
    begun = len(losses)
    for step, rows in zip(range(steps), batches, strict=False):
        if step < begun:  # made before the interruption; only its batch had to be drawn again
            on_step(step, losses[step])
            continue
        # 3. Gradient, over all processes; a bound on its length; the step at its learning rate.
        optimizer.zero_grad(set_to_none=True)
        losses.append(_added_up(model, learner.backward(rows)))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = how.rate(step, steps)
        optimizer.step()
        on_step(step, losses[-1])
        # 4. Keep the state now and then; of several processes one writes.
        if state and is_first():
            state.save_if_due(optimizer, losses)
    model.eval()
    return losses


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of several."""
    return _place()[0] == 0


def _place() -> tuple[int, int]:
    """Which process this is, of how many that train together."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _added_up(model: PreTrainedModel, loss: float) -> float:
    """The loss over all processes; their gradients are added up in the model of each."""
    import torch
    from torch import distributed

    if _place()[1] == 1:
        return loss
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:  # no row of the batch was this process's
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
    told = torch.tensor(loss, device=model.device)
    distributed.all_reduce(told)
    return float(told)


class _Learner:
    """Gradients of batches, in parts of `micro` rows where a batch does not fit into memory."""

    def __init__(self, model: PreTrainedModel, objective: Objective, micro: int | None) -> None:
        self.model, self.objective, self.micro = model, objective, micro

    def backward(self, rows: Sequence[Any]) -> float:
        """Leave the gradient of a whole batch, or of this process's share of it, in the model;
        returns its loss. Raises ComponentFailure where not even one row fits.
        """
        while True:
            try:
                return self._backward(rows, min(self.micro or len(rows), len(rows)))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                half = min(self.micro or len(rows), len(rows)) // 2
                if not half:
                    longest = max(len(row[0]) + len(row[1]) for row in rows)
                    raise ComponentFailure(
                        f"training on one row of up to {longest} tokens does not fit into memory: "
                        f"{error}; set training.checkpointing, or train an adapter with "
                        "training.lora"
                    ) from error
                warnings.warn(f"out of memory: training in parts of {half} rows", stacklevel=1)
                self.micro = half
                self.model.zero_grad(set_to_none=True)

    def _backward(self, rows: Sequence[Any], micro: int) -> float:
        import torch

        told = 0.0
        tokens = sum(len(row[1]) for row in rows)
        device = self.model.device.type
        rank, processes = _place()
        mine = rows[rank::processes]
        for start in range(0, len(mine), micro):
            part = mine[start : start + micro]
            share = sum(len(row[1]) for row in part) / tokens
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = self.objective(self.model, part) * share
            loss.backward()
            told += loss.item()
        return told
