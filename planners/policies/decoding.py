"""Parts of decoding: batching rows, drawing tokens, and a preallocated key-value cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planners.errors import ComponentFailure
from planners.records import Sampling

if TYPE_CHECKING:
    import torch
    from transformers import Cache

SMALL = 4096
"""Tokens of a vocabulary that is drawn from in float64."""
GREEDY = 1e-6
"""Temperature below which the likeliest token is drawn: dividing by it leaves no numbers."""
COLD = 1e-3
"""Temperature below which log-probabilities are shifted before they are divided by it."""
LIKELIEST = 128
"""Tokens among which a nucleus is looked for at first."""


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
    a token by inverting the cumulative distribution. A temperature of 0, or below 1e-6, is greedy.
    """
    import torch

    own = _number(logits).log_softmax(-1)
    if bool(own[:, 0].isnan().any()):  # then all of its row is
        raise ComponentFailure(
            "the model's weights give no numbers (NaN), so that nothing can be drawn: its training "
            "went wrong, or its files are damaged"
        )
    if sampling.temperature < GREEDY:
        token = own.argmax(-1)
        drawn = own.new_zeros(len(token))
        return token, own.gather(1, token[:, None]).squeeze(1), drawn
    drawn = own
    if sampling.temperature != 1:
        # Where it is close to 0, the likeliest must stay finite.
        top = own.amax(-1, keepdim=True) if sampling.temperature < COLD else 0.0
        drawn = ((own - top) / sampling.temperature).log_softmax(-1)
    tokens = None
    if sampling.top_p < 1:
        drawn, tokens = nucleus(drawn, sampling.top_p)
    cumulative = drawn.exp().cumsum(-1)
    # Scaled by the last sum, because rounding may leave that a little off 1. Rounding may also lift
    # the target to the sum itself: then it is the last token of any probability.
    total = cumulative[:, -1:].contiguous()
    target = uniform[:, None].to(cumulative.dtype) * total
    pick = torch.minimum(
        torch.searchsorted(cumulative, target, right=True), torch.searchsorted(cumulative, total)
    )
    token = pick if tokens is None else tokens.gather(1, pick)
    return token.squeeze(1), own.gather(1, token).squeeze(1), drawn.gather(1, pick).squeeze(1)


def _number(logits: torch.Tensor) -> torch.Tensor:
    """In float64 where that costs little. In float32, the sums over a vocabulary of 50,000 tokens
    are exact to 1e-6, at a third of the time.
    """
    return logits.double() if logits.shape[1] <= SMALL else logits.float()


def nucleus(logprobs: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest set of likeliest tokens whose probability reaches `top_p`, renormalised.

    Returns log-probabilities and token ids, both (rows, size of the largest set), in the order of
    the ids; beyond a row's own set the probability is 0.
    """
    vocabulary = logprobs.shape[1]
    likeliest = min(vocabulary, LIKELIEST)
    while True:
        # A sort of the whole vocabulary would take longer than the model.
        ranked, tokens = logprobs.topk(likeliest, dim=-1)
        total = ranked.exp().cumsum(-1)
        if likeliest == vocabulary or bool((total[:, -1] >= top_p).all()):
            break
        likeliest = min(vocabulary, 8 * likeliest)
    # Summed without the token itself, so that the one that crosses `top_p` stays.
    beyond = total - ranked.exp() >= top_p
    beyond[:, 0] = False  # also where `top_p` is 0 for this type of numbers
    kept = ranked.masked_fill(beyond, float("-inf"))
    tokens, order = tokens.sort(-1)
    return kept.gather(1, order).log_softmax(-1), tokens


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
