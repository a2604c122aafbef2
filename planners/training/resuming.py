"""Resume an interrupted training run: its weights, optimizer state and random draws.

The state is one safetensors file beside the future checkpoint; each save replaces it whole.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planners.errors import ComponentFailure

if TYPE_CHECKING:
    import torch

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""The state that AdamW keeps for each parameter."""


class Resumable:
    """The file that holds the state of one training run.

    `identity` says which run that is. `every`: seconds of training that an interruption may cost.
    """

    def __init__(self, file: Path, identity: str, every: float = 60.0) -> None:
        self.file, self.identity, self.every = file, identity, every
        self._saved = time.monotonic()

    def save_if_due(self, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> None:
        """Save the state if the last save is more than `every` seconds old, or longer ago where
        saving takes long: it may take a thirtieth of the time.
        """
        begun = time.monotonic()
        if begun - self._saved > self.every:
            self.save(optimizer, losses)
            self._saved = time.monotonic()
            self.every = max(self.every, 30 * (self._saved - begun))

    def save(self, optimizer: torch.optim.Optimizer, losses: Sequence[float]) -> None:
        """Save the state after the last of these steps. Raises ComponentFailure if it cannot."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {}
        for number, parameter in enumerate(_parameters(optimizer)):
            tensors[f"{number}.weight"] = parameter.detach()
            tensors |= {f"{number}.{name}": optimizer.state[parameter][name] for name in MOMENTS}
        # Renamed when complete, so that a kill while saving leaves the last state intact.
        partial = self.file.with_name(self.file.name + ".partial")
        told = {"identity": self.identity, "losses": json.dumps(list(losses))}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: t.contiguous() for name, t in tensors.items()}, partial, told)
            os.replace(partial, self.file)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise ComponentFailure(
                f"the training state {self.file} cannot be written: {error}; free some space there "
                "and run the same command again"
            ) from error

    def restore(self, optimizer: torch.optim.Optimizer) -> list[float]:
        """Load the state, if the file is of this very run; returns the losses of its steps."""
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file, "pt") as stored:
                told = stored.metadata() or {}
                if told.get("identity") != self.identity:
                    return []
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):  # absent or broken: start from the beginning
            return []
        with torch.no_grad():
            for number, parameter in enumerate(_parameters(optimizer)):
                parameter.copy_(tensors[f"{number}.weight"])
                state = {name: tensors[f"{number}.{name}"] for name in MOMENTS}
                optimizer.state[parameter] = {
                    name: tensor.to(parameter.device) for name, tensor in state.items()
                }
        return list(json.loads(told["losses"]))

    def forget(self) -> None:
        """Delete the state: the run is over."""
        self.file.unlink(missing_ok=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
