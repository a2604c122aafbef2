"""Log-probabilities of completions given their prompts, over rows of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion, end-of-sequence included. A token of the completion
that the model was told, and did not write, stands as `~id`, which is negative (see `heard`).
"""


def heard(ids: Sequence[int]) -> list[int]:
    """Token ids as those that a model was told."""
    return [~one for one in ids]


def own_tokens(ids: Sequence[int], turns: Sequence[int] | None) -> list[int]:
    """A sampled completion as that of a row, given the number of tokens of each of its turns, if it
    has several: every other turn is the tool's.
    """
    found, at = list(ids), 0
    for number, tokens in enumerate(turns or ()):
        if number % 2:
            found[at : at + tokens] = heard(found[at : at + tokens])
        at += tokens
    return found


def supervised(row: Sequence[Any]) -> int:
    """The number of tokens of a row's completion that the model wrote itself."""
    return sum(one >= 0 for one in row[1])


MEASURED = 16
"""Completions per batch when log-probabilities are computed, at most."""
SLICE = 512
"""Tokens whose logits are in double precision at once."""
LOGITS = 2**28
"""Logits of a batch when log-probabilities are computed, at most: 1 GiB of them in float32."""
IGNORED = -100
"""Label of positions without loss, which torch's cross-entropy skips by default."""


def collate(rows: Sequence[Sequence[Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, each (rows, longest row), padded on the right.

    A row begins with a prompt and a completion. Right padding needs no mask: causal attention never
    looks there.
    """
    import torch

    width = max(len(prompt) + len(completion) for prompt, completion, *_ in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (prompt, completion, *_) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        labels[i, len(prompt) : end] = ids[i, len(prompt) : end]
    told = ids < 0
    return ids.where(~told, ~ids), labels.where(~told, IGNORED)


def summed_logprobs(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float = 1.0
) -> torch.Tensor:
    """Log-probability (nats) of each row's completion given its prompt, (rows,), in float64."""
    import torch

    each, row = _each(model, rows, temperature)
    return torch.zeros(len(rows), dtype=each.dtype, device=each.device).index_add(0, row, each)


def logprobs_of(model: PreTrainedModel, rows: Sequence[Row], temperature: float) -> torch.Tensor:
    """The same for any number of rows, on the CPU and without gradients."""
    import torch

    found = torch.zeros(len(rows), dtype=torch.float64)
    # Where other positions have logits too, those of the whole row count.
    whole = not ends_with_head(model)
    longest = max((len(row) + whole * len(prompt) for prompt, row in rows), default=1)
    fitting = LOGITS // (max(1, longest) * model.config.get_text_config().vocab_size)
    with torch.inference_mode():
        for chosen in by_length(rows, max(1, min(MEASURED, fitting))):
            found[chosen] = summed_logprobs(model, [rows[i] for i in chosen], temperature).cpu()
    return found


def token_logprobs(model: PreTrainedModel, row: Row) -> list[float]:
    """Log-probability (nats) of each token of a completion, given its prompt and those before."""
    import torch

    with torch.inference_mode():
        return _each(model, [row], 1.0)[0].tolist()


def _each(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of each token of all completions, and the row that it is of."""
    import torch

    logits, target, row = supervised_logits(model, rows)
    # A slice at a time, as the double precision of all of them would be the largest tensor.
    each = [
        torch.nn.functional.cross_entropy(some.double() / temperature, goal, reduction="none")
        for some, goal in zip(logits.split(SLICE), target.split(SLICE), strict=True)
    ]
    return -torch.cat(each), row


def supervised_logits(
    model: PreTrainedModel, rows: Sequence[Sequence[Any]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of the supervised tokens (tokens, vocabulary), those tokens, and the row of each.

    The logits are those that the model samples by. They are the largest tensor, so only supervised
    positions get them.
    """
    ids, labels = (part.to(model.device) for part in collate(rows))
    # The logits at a position predict the next token, so logits and labels shift by one.
    target = labels[:, 1:]
    told = target != IGNORED
    if ends_with_head(model):
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        logits = model.get_output_embeddings()(hidden[told])
    else:
        anywhere = told.any(0).nonzero()[:, 0]
        kept = model(input_ids=ids, use_cache=False, logits_to_keep=anywhere).logits
        logits = kept[told[:, anywhere]]
    return logits, target[told], told.nonzero()[:, 0]


_ENDS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
_ASKED = Lock()


def ends_with_head(model: PreTrainedModel) -> bool:
    """Whether a model's logits are its head's output for its last hidden states, as they are.

    Some families scale or cap them besides (Granite, Gemma, Cohere). This is seen once for each
    model, on a few tokens and bit for bit: a cap changes small logits in their last bits alone.
    """
    import torch

    with _ASKED:
        if model not in _ENDS:
            seen: dict[str, Any] = {}
            head = model.get_output_embeddings()
            hooks = [
                model.base_model.register_forward_hook(
                    lambda module, given, out: seen.update(
                        hidden=getattr(out, "last_hidden_state", None)
                    )
                ),
                head.register_forward_hook(
                    lambda module, given, out: seen.update(given=given[0], out=out.clone())
                ),
            ]
            try:
                # Dropout must draw nothing here: an interrupted training sees this twice.
                here = [model.device] if model.device.type == "cuda" else []
                with torch.no_grad(), torch.random.fork_rng(here):
                    # Several different tokens, as the padding token's embedding may be zero.
                    ids = torch.arange(4, device=model.device)[None]
                    logits = model(input_ids=ids, use_cache=False).logits
            finally:
                for hook in hooks:
                    hook.remove()
            # A family whose parts are called otherwise, such as OPT, tells nothing of it.
            hidden = seen.get("hidden")
            _ENDS[model] = (
                hidden is not None
                and torch.equal(seen["given"], hidden)
                and torch.equal(seen["out"], logits)
            )
        return _ENDS[model]


def by_length(rows: Sequence[Row], size: int) -> Iterator[list[int]]:
    """Indices of rows in batches of `size`, the shortest first, so that there is little padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    for start in range(0, len(order), size):
        yield order[start : start + size]
