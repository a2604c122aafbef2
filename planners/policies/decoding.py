"""Parts of decoding: batching rows, drawing tokens, and a preallocated key-value cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from planners.records import Sampling

if TYPE_CHECKING:
    import torch
    from transformers import Cache


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit torch to one thread per caller while the block runs.

    Several batches at once, one per core, beat one batch on all cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def even_batches(rows: list[int], most: int, threads: int) -> list[list[int]]:
    """Cut rows into even batches of at most `most`, enough to keep all threads busy."""
    count = -(-len(rows) // most)
    count = min(len(rows), -(-count // threads) * threads)
    return [rows[i * len(rows) // count : (i + 1) * len(rows) // count] for i in range(count)]


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw the next token of each row.

    Returns the tokens, their log-probabilities under the model, and those under the sampling
    distribution, each (rows,). `logits` is (rows, vocabulary). `uniform` (rows,), in [0, 1), picks
    a token by inverting the cumulative distribution. Temperature 0 is greedy.
    """
    own = logits.double().log_softmax(-1)
    if sampling.temperature == 0:
        token = own.argmax(-1)
        drawn = own.new_zeros(len(token))
        return token, own.gather(1, token[:, None]).squeeze(1), drawn
    tempered = (own / sampling.temperature).log_softmax(-1)
    if sampling.top_p < 1:
        tempered = nucleus(tempered, sampling.top_p)
    # Scaled by the last sum, because rounding may leave that a little off 1.
    cumulative = tempered.exp().cumsum(-1)
    token = (
        (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logits.shape[1] - 1)
    )
    pick = token[:, None]
    return token, own.gather(1, pick).squeeze(1), tempered.gather(1, pick).squeeze(1)


def nucleus(logprobs: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the smallest set of likeliest tokens whose probability reaches `top_p`; renormalise."""
    ranked, index = logprobs.sort(-1, descending=True)
    # Summed without the token itself, so that the one that crosses `top_p` stays.
    before = ranked.exp().cumsum(-1) - ranked.exp()
    dropped = (before >= top_p).scatter(1, index, before >= top_p)
    return logprobs.masked_fill(dropped, float("-inf")).log_softmax(-1)


def preallocated_cache(length: int) -> Cache:
    """A key-value cache with room for `length` positions from the start.

    No step copies it. When rows leave the batch, the remaining rows are copied once.
    """
    import torch
    from transformers import Cache
    from transformers.cache_utils import DynamicLayer

    class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values are views of larger buffers; each step fills one more position."""

        buffers: Any = None
        keys: Any
        values: Any

        def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
                room = max(length, keys.shape[2])
                self.buffers = [one.new_empty(_with(one, 2, room)) for one in (keys, values)]
            used = self.get_seq_length()
            end = used + keys.shape[2]
            for buffer, fresh in zip(self.buffers, (keys, values), strict=True):
                buffer[:, :, used:end] = fresh
            self._show(end)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            used, chosen = self.get_seq_length(), []
            for old in self.buffers:
                chosen.append(old.new_empty(_with(old, 0, len(indices))))
                torch.index_select(old[:, :, :used], 0, indices, out=chosen[-1][:, :, :used])
            self.buffers = chosen
            self._show(used)

        def _show(self, end: int) -> None:
            self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)

    def _with(states: Any, dimension: int, size: int) -> list[int]:
        shape = list(states.shape)
        shape[dimension] = size
        return shape

    return Cache(layer_class_to_replicate=PreallocatedLayer)
