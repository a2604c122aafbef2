"""The settings of fine-tuning, declared once for all code that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from planners.records import STRICT


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A low-rank adapter (LoRA) on every linear layer (Hu et al. 2021)."""

    __pydantic_config__ = STRICT

    rank: Annotated[int, Gt(0)] = 16
    alpha: Annotated[int, Gt(0)] = 32
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.05


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a checkpoint is fine-tuned.

    `start`: from the base or the parent. `rename`, `shuffle`: new object names and a new order of
    facts each epoch. In domains whose objects the model knows by sorted order, the order stays, and
    the new names turn or mirror the map where it has such a symmetry. `epochs`: passes over the
    lessons, instead of `steps`. `micro`: rows in memory at once. `checkpointing`: compute
    activations twice to save memory. `validation`: held-out share of the lessons. `lora`: train an
    adapter instead of all weights. `method`: "reinforce" and "nft" also learn from failures
    (curator "rollouts"). `processes`: how many share each batch, one GPU each.
    """

    __pydantic_config__ = STRICT

    start: Literal["base", "parent"] = "base"
    steps: Annotated[int, Gt(0)] = 300
    batch: Annotated[int, Gt(0)] = 64
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    rename: bool = True
    shuffle: bool = True
    epochs: Annotated[int, Gt(0)] | None = None
    micro: Annotated[int, Gt(0)] | None = None
    checkpointing: bool = False
    validation: Annotated[float, Ge(0), Lt(1)] = 0.0
    lora: Adapter | None = None
    method: Literal["sft", "reinforce", "nft"] = "sft"
    processes: Annotated[int, Gt(0)] = 1

    def count(self, lessons: int) -> int:
        """The number of steps to train on this many lessons."""
        return self.steps if self.epochs is None else self.epochs * -(-lessons // self.batch)
