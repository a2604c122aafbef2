"""The lines of a batch that a model writes. A prompt is read once, whatever its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from planners.errors import CheckpointError
from planners.models.attention import Prompts, shares_prompts
from planners.policies.decoding import preallocated_cache

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel


READ = 32
"""Prompts that a small model reads at once."""


class Lines(Protocol):
    """Completions that are being written, one line each."""

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Add a token to each line; returns the logits of the next one, (lines, vocabulary)."""

    def keep(self, left: torch.Tensor) -> None:
        """Keep only some lines, given by ascending index."""


def begin(
    model: PreTrainedModel, rows: Sequence[list[int]], room: int
) -> tuple[Lines, torch.Tensor]:
    """Read the prompts `rows`, equal ones next to each other, with room for so many tokens after.

    Returns a line for each row, and the logits of their first tokens.
    """
    import torch

    distinct: list[list[int]] = []
    owner: list[int] = []
    for row in rows:
        if not distinct or distinct[-1] != row:
            distinct.append(row)
        owner.append(len(distinct) - 1)
    # Padding on the left, so that every prompt ends at the last position.
    width = max(map(len, distinct))
    ids, mask = (
        torch.tensor(padded, device=model.device)
        for padded in (
            [[0] * (width - len(row)) + row for row in distinct],
            [[0] * (width - len(row)) + [1] * len(row) for row in distinct],
        )
    )
    owners = torch.tensor(owner, device=model.device)
    if shares_prompts(model):
        # A few prompts at a time, as more would not fit into a core's cache.
        parts = zip(ids.split(READ), mask.split(READ), strict=True)
        caches, ends = zip(*(_read(model, *part, width) for part in parts), strict=True)
        prompts = Prompts.read(caches, mask, owners)
        return _Sharing(model, prompts, owners, room), torch.cat(ends)[owners]
    cache, logits = _read(model, ids, mask, width + room)
    cache.batch_select_indices(owners)
    return _Copying(model, cache, None if mask.all() else mask[owners]), logits[owners]


def _read(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, length: int
) -> tuple[Cache, torch.Tensor]:
    """Keys and values of prompts in a cache of some length, and the logits of what follows."""
    cache = preallocated_cache(length)
    try:
        logits = model(
            input_ids=ids,
            attention_mask=None if mask.all() else mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
    except (IndexError, AttributeError) as error:
        if "out of range in self" in str(error):  # a token that the model has not
            raise
        raise CheckpointError(
            f"models of the kind {model.config.model_type!r} have layers that keep another state "
            f"than attention does, which nothing here holds ({type(error).__name__}: {error}); "
            "sample them by a model server: model.policy = 'served'"
        ) from error
    return cache, logits


class _Copying:
    """Each line has a copy of its prompt's keys and values, for any model."""

    def __init__(self, model: PreTrainedModel, cache: Cache, padding: torch.Tensor | None) -> None:
        self.model, self.cache, self.padding = model, cache, padding

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        import torch

        if self.padding is not None:
            seen = self.padding.new_ones(len(token), 1)
            self.padding = torch.cat([self.padding, seen], dim=1)
        found: torch.Tensor = self.model(
            input_ids=token[:, None],
            attention_mask=self.padding,
            position_ids=position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        return found

    def keep(self, left: torch.Tensor) -> None:
        self.cache.batch_select_indices(left)
        self.padding = None if self.padding is None else self.padding[left]


class _Sharing:
    """The samples of a prompt share its keys and values (`planners.models.attention`)."""

    def __init__(
        self, model: PreTrainedModel, prompts: Prompts, owners: torch.Tensor, room: int
    ) -> None:
        self.model, self.prompts, self.owners = model, prompts, owners
        self.cache = preallocated_cache(room)

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.model(
            input_ids=token[:, None],
            position_ids=position[:, None],
            past_key_values=self.cache,
            use_cache=True,
            prompts=self.prompts,
        ).logits[:, -1]
        return found

    def keep(self, left: torch.Tensor) -> None:
        if self.cache.get_seq_length():  # before the first token there is nothing to keep
            self.cache.batch_select_indices(left)
        self.owners = self.prompts.keep(self.owners[left])
