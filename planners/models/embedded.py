"""The bases that come with Posterity: which knows a domain, and what its tokenizer says of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.pddl import read_domain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EMBEDDED = Path(str(files("planners").joinpath("embedded")))
"""The bases that come with Posterity, a folder each."""


def embedded_base(domains: Collection[str]) -> Path:
    """The folder of the base that knows these domains, and as few others as possible; a domain may
    go by the name that its PDDL has.

    Raises InvalidInput where none does.
    """
    learned = {
        manifest.parent: json.loads(manifest.read_text("utf-8"))["domains"]
        for manifest in sorted(EMBEDDED.glob("*/pretraining.json"))
    }
    able = [
        folder
        for folder, known in learned.items()
        if set(domains) <= {*known, *names_in_pddl(known)}
    ]
    if able:
        return min(able, key=lambda folder: len(learned[folder]))
    known = "; ".join("+".join(of) for of in learned.values())
    raise InvalidInput(
        f"no embedded base knows {', '.join(domains)}, only {known}; make one with "
        f"`posterity pretrain --domains {','.join(domains)}` where they are of the ten, or name "
        "another model with model.base"
    )


def names_in_pddl(domains: Sequence[str]) -> list[str]:
    """What domains of the registry call themselves."""
    return [read_domain(DOMAINS[name].text).name for name in domains]


def object_names(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The object names a tokenizer knows as one token each; empty where it has no such pool."""
    return list(getattr(tokenizer, "init_kwargs", {}).get("object_names", []))


def in_order(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The domains in which a model was taught that an object's name says where it is."""
    return list(getattr(tokenizer, "init_kwargs", {}).get("in_order", []))
