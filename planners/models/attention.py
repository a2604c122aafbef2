"""Attention for small models on a CPU, where samples of one prompt share its keys and values.

Elsewhere attention reads the prompt's keys and values once for each sample, which takes longer than
to calculate with them. Here it reads them once for each prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel

NAME = "posterity_shared_prompts"
"""The name of this attention in `transformers`."""
SMALL = 20_000_000
"""Parameters of a small model, at most. A larger one would need much memory for `_whole`, which
keeps the weights of every pair of positions."""


def use_shared_prompts(model: PreTrainedModel) -> None:
    """Let a model use this attention, if it is small, on a CPU, and a Llama without dropout."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    config = model.config
    if (
        model.device.type == "cpu"
        and config.model_type == "llama"
        and config.attention_dropout == 0
        and model.num_parameters() <= SMALL
    ):
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def shares_prompts(model: PreTrainedModel) -> bool:
    """Whether a model uses this attention."""
    return bool(model.config._attn_implementation == NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    prompts: Prompts | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function that `transformers` calls.

    `query` is (lines, heads, positions, size); returns (lines, positions, heads, size). With
    `prompts`, each line asks at one position, and `key` and `value` hold what it wrote since.
    """
    lines, heads, positions, size = query.shape
    # Heads that share a key are neighbours, so that they can be asked as more positions.
    asked = (query * scaling).reshape(lines, key.shape[1], -1, size)
    if prompts is None:
        found = _whole(asked, key, value, attention_mask, positions)
    else:
        found = prompts.attend(cast("int", module.layer_idx), asked, key, value)
    return found.view(lines, heads, positions, size).transpose(1, 2), None


def _whole(
    asked: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    positions: int,
) -> torch.Tensor:
    """Attention over all positions of `key`; without a mask over those up to each one's own."""
    import torch

    scores = asked @ key.transpose(2, 3)
    there = key.shape[2]
    if mask is None:
        mask = scores.new_ones((positions, there), dtype=torch.bool).tril(there - positions)
        mask = mask[None, None]
    by_head = scores.unflatten(2, (-1, positions))
    # Not minus infinity: a padded position that sees nothing would become NaN.
    hidden = by_head.masked_fill(~mask[:, :, None], torch.finfo(scores.dtype).min)
    return hidden.softmax(-1).flatten(2, 3) @ value


@dataclass(slots=True)
class Prompts:
    """Keys and values of distinct prompts, by layer: each (prompts, heads, positions, size).

    `hidden` (prompts, 1, 1, positions) is added to scores: minus infinity where a prompt is padded.
    `lines` (prompts, most samples) are each prompt's lines of the batch, filled up with any;
    `seats` (lines,) is where each line is in that.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    hidden: torch.Tensor | None
    lines: torch.Tensor
    seats: torch.Tensor

    @classmethod
    def read(cls, caches: Sequence[Cache], mask: torch.Tensor, owners: torch.Tensor) -> Prompts:
        """Prompts that a model has just read into caches, one part after the other, with their
        padding `mask` (1 where there is a token). `owners`, ascending, is the prompt of each line.
        """
        import torch

        layers = list(zip(*(cache.layers for cache in caches), strict=True))
        keys, values = (
            [torch.cat([getattr(part, name) for part in layer]) for layer in layers]
            for name in ("keys", "values")
        )
        hidden = None
        if not mask.all():
            hidden = torch.zeros(mask.shape).masked_fill(mask == 0, float("-inf"))[:, None, None]
        return cls(keys, values, hidden, *_seated(owners))

    def keep(self, owners: torch.Tensor) -> torch.Tensor:
        """Keep the prompts of the lines that are left, and return the new `owners`."""
        kept, owners = owners.unique_consecutive(return_inverse=True)
        if len(kept) < len(self.lines):
            self.keys = [layer[kept] for layer in self.keys]
            self.values = [layer[kept] for layer in self.values]
            self.hidden = None if self.hidden is None else self.hidden[kept]
        self.lines, self.seats = _seated(owners)
        return owners

    def attend(
        self, layer: int, asked: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Attention over the prompts and over what each line wrote, put together as if one."""
        import torch

        prompts, samples = self.lines.shape
        heads, group, size = asked.shape[1:]
        together = asked[self.lines].transpose(1, 2).reshape(prompts, heads, -1, size)
        scores = together @ self.keys[layer].transpose(2, 3)
        if self.hidden is not None:
            scores += self.hidden
        read = _part(scores, self.values[layer])
        read = read.view(prompts, heads, samples, group, -1).transpose(1, 2)
        read = read.reshape(-1, heads, group, size + 2)[self.seats]
        written = _part(asked @ key.transpose(2, 3), value)
        # Each part is relative to its own highest score: relative to the higher of both, they add.
        highest = torch.maximum(read[..., -1:], written[..., -1:])
        read, written = (
            part[..., :-1] * (part[..., -1:] - highest).exp() for part in (read, written)
        )
        summed = read + written
        return (summed[..., :-1] / summed[..., -1:]).to(value.dtype)


def _seated(owners: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The lines of each prompt, and the seat of each line, given its owner."""
    import torch

    counts, every = owners.bincount(), torch.arange(len(owners))
    samples = int(counts.max())
    seats = owners * samples + every - (counts.cumsum(0) - counts)[owners]
    lines = torch.zeros(len(counts) * samples, dtype=torch.long)
    lines[seats] = every
    return lines.view(-1, samples), seats


def _part(scores: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Sums over some positions: the weighted values, the weights, and the highest score."""
    import torch

    # Sums of bfloat16 would lose too much before they are divided.
    precise = scores if scores.dtype == torch.float64 else scores.float()
    highest = precise.amax(-1, keepdim=True)
    weights = (precise - highest).exp_()
    values = (weights.to(value.dtype) @ value).to(weights.dtype)
    return torch.cat([values, weights.sum(-1, keepdim=True), highest], -1)
