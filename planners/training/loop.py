"""Train on (prompt, completion) rows, in a plain loop over batches of rows of similar length.

A plain loop, because it is no slower than a trainer class and can be read whole; it is fast because
rows of similar length share a batch. The loss covers completions only. Before the first step, every
row must have supervised tokens and end with end-of-sequence: otherwise training fails in silence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from planners.errors import ComponentFailure, InvalidInput
from planners.models.attention import shares_prompts
from planners.models.hardware import hardware, one_thread_each, out_of_memory, widest
from planners.models.likelihood import Row, supervised
from planners.records import derive_seed
from planners.training.objectives import completion_loss

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from planners.training.resuming import Resumable

    Objective = Callable[[PreTrainedModel, Sequence[Any]], torch.Tensor]

R = TypeVar("R", bound=Sequence[Any])
PART = 8
"""Rows of a small model whose gradient one core computes."""
WINDOW = 16
"""Batches whose rows are sorted by length together: little padding, order still random."""


Facts = dict[str, float | int | tuple[float, ...]]
"""The facts of a training run by name, those that are known. Losses are in nats per supervised
token: over the first and last tenth of the steps, on the held-out validation rows before and after
training, and of each step.
"""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """Settings of the optimizer: AdamW, with linear warm-up and cosine decay to a tenth.

    `micro`: rows whose activations are in memory at once, None for the whole batch; the gradient is
    that of the whole batch either way.
    """

    learning_rate: float
    warmup: int = 50
    micro: int | None = None

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        warmup = min(self.warmup, max(1, steps // 10))
        if step < warmup:
            return self.learning_rate * ((step + 1) / warmup)
        turn = math.pi * (step - warmup) / max(1, steps - warmup)
        return self.learning_rate * (0.55 + 0.45 * math.cos(turn))


def preflight(
    rows: Sequence[Row], eos: int, max_length: int, as_written: Collection[int] = ()
) -> int:
    """Check the rows, and return the fewest supervised tokens of any row. Those with the numbers
    `as_written` may end as they do.

    Raises InvalidInput on rows that teach nothing or are longer than `max_length` tokens.
    """
    if not rows:
        raise InvalidInput(
            "the training set is empty: no trace was kept, so there is nothing to learn"
        )
    for index, (prompt, completion) in enumerate(rows):
        if not supervised((prompt, completion)):
            raise InvalidInput(
                f"training row {index} has no supervised token: its completion is empty"
            )
        if completion[-1] != eos and index not in as_written:
            raise InvalidInput(
                f"training row {index} does not end with the end-of-sequence token: its completion "
                "was cut off; raise max_new_tokens, or use a curator that keeps only whole ones"
            )
        if len(prompt) + len(completion) > max_length:
            raise InvalidInput(
                f"training row {index} has {len(prompt) + len(completion)} tokens, "
                f"the model takes {max_length}; choose smaller tasks or a longer context"
            )
    return min(map(supervised, rows))


def length_batches(rows: Sequence[R], batch: int, rng: Random) -> Iterator[list[R]]:
    """One epoch of shuffled batches of rows of similar length; rows begin with two lists of ids."""
    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(order), batch * WINDOW):
        window = [rows[i] for i in order[start : start + batch * WINDOW]]
        yield from in_chunks(window, batch, rng)


def in_chunks(rows: list[R], batch: int, rng: Random) -> list[list[R]]:
    """Rows in batches of similar length, in random order."""
    rows.sort(key=lambda row: len(row[0]) + len(row[1]))
    chunks = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    rng.shuffle(chunks)
    return chunks


def fit(
    model: PreTrainedModel,
    batches: Iterable[Sequence[Any]],
    steps: int,
    how: Optimisation,
    objective: Objective | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    state: Resumable | None = None,
) -> list[float]:
    """Train in place for `steps` batches; returns each step's loss (nats per supervised token).

    Steps that `state` already holds for this run are not repeated, but their batches are drawn.
    """
    import torch

    # 1. The optimizer, restored from an interrupted run if there is one.
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=how.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    seed = torch.initial_seed()
    losses = state.restore(optimizer) if state else []
    # 2. It computes gradients, in parts if memory is short.
    learner = _Learner(model, objective or completion_loss, how.micro)
    model.train()
    begun = len(losses)
    with learner.at_work():
        for step, rows in zip(range(steps), batches, strict=False):
            if step < begun:  # done already
                on_step(step, losses[step])
                continue
            # 3. Sum the gradient over all processes, clip its norm, and step at the scheduled rate.
            optimizer.zero_grad(set_to_none=True)
            own = derive_seed(seed, step, _place()[0])
            losses.append(_added_up(model, learner.backward(rows, own)))
            norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
            if not math.isfinite(losses[-1] + norm):
                raise ComponentFailure(
                    f"step {step} has the loss {losses[-1]:g} and a gradient of {norm:g}, so that "
                    "nothing can be learned from here on: lower training.learning_rate, or look "
                    "for weights that are out of range"
                )
            optimizer.param_groups[0]["lr"] = how.rate(step, steps)
            optimizer.step()
            on_step(step, losses[-1])
            # 4. Save the state now and then, from one process only.
            if state and is_first():
                state.save_if_due(optimizer, losses)
    model.eval()
    return losses


def is_first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of several."""
    return _place()[0] == 0


def _place() -> tuple[int, int]:
    """The rank of this process, and the number of processes that train together."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _added_up(model: PreTrainedModel, loss: float) -> float:
    """Sum the gradients of all processes, in place, and return the sum of their losses."""
    import torch
    from torch import distributed

    if _place()[1] == 1:
        return loss
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:  # this process had no row of the batch
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
    told = torch.tensor(loss, device=model.device)
    distributed.all_reduce(told)
    return float(told)


class _Learner:
    """Computes gradients of batches, in parts of `micro` rows if a batch exceeds memory.

    A small model's batches are always cut, into parts of at most PART rows: a core for each part is
    faster than all cores for each matrix. The parts are the same on any number of cores, and so are
    the weights in the end.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective, micro: int | None) -> None:
        self.model, self.objective, self.micro = model, objective, micro
        self.learned = [one for one in model.parameters() if one.requires_grad]
        self.cores: Executor | None = None
        # What is drawn at random would depend on which part comes first.
        drawn = any(getattr(module, "p", 0) for module in model.modules())
        self.cut = shares_prompts(model) and not drawn and not model.is_activation_checkpointing
        if self.cut:
            self.micro = min(micro or PART, PART)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep a thread for each core that torch may use while the block runs."""
        import torch

        if not self.cut:
            yield
            return
        cores = torch.get_num_threads()
        with widest(), one_thread_each(), ThreadPoolExecutor(cores) as self.cores:
            yield

    def backward(self, rows: Sequence[Any], seed: int) -> float:
        """Add the gradient of a batch, or of this process's share of it, to the model. `seed` is
        for dropout: a step draws the same whatever came before, such as a kill or a failed attempt.

        Returns the loss. Raises ComponentFailure if not even one row fits into memory.
        """
        import torch

        while True:
            torch.manual_seed(seed)
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
                # The failed attempt may have left part of its gradient behind.
                self.model.zero_grad(set_to_none=True)

    def _backward(self, rows: Sequence[Any], micro: int) -> float:
        import torch

        told = 0.0
        tokens = sum(map(supervised, rows))
        device = self.model.device.type
        rank, processes = _place()
        # Every n-th row: rows come sorted by length, so all processes get similar work.
        mine = rows[rank::processes]
        parts = [mine[start : start + micro] for start in range(0, len(mine), micro)]

        def loss_of(part: Sequence[Any]) -> torch.Tensor:
            # Relative to the whole batch, so that parts and processes add up to its mean.
            share = sum(map(supervised, part)) / tokens
            with torch.autocast(device, torch.bfloat16, enabled=hardware().mixed):
                return self.objective(self.model, part) * share

        def gradient_of(part: Sequence[Any]) -> tuple[float, tuple[torch.Tensor, ...]]:
            loss = loss_of(part)
            return loss.item(), torch.autograd.grad(loss, self.learned)

        if self.cores:
            # Added up in the order of the parts, whichever is ready first.
            for value, gradient in self.cores.map(gradient_of, parts):
                told += value
                for parameter, more in zip(self.learned, gradient, strict=True):
                    parameter.grad = more if parameter.grad is None else parameter.grad.add_(more)
            return told
        for part in parts:
            loss = loss_of(part)
            loss.backward()
            told += loss.item()
        return told
