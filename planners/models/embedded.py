"""The base models that come with Posterity, and facts that their tokenizers record."""

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
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

EMBEDDED = Path(str(files("planners").joinpath("embedded")))
"""The folder of the base models that come with Posterity, one subfolder each."""


def embedded_base(domains: Collection[str]) -> Path:
    """The folder of the base that knows these domains and the fewest others.

    A domain may be named as in the registry or as in its PDDL. Raises InvalidInput if no base knows
    all of them.
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
        f"no embedded base knows {', '.join(domains)}, only {known}; name a language model with "
        'model.base, and model.prompt = "pddl"; or, if they are built-in domains, make one with '
        f"`posterity pretrain --domains {','.join(domains)}`"
    )


def names_in_pddl(domains: Sequence[str]) -> list[str]:
    """The names that domains of the registry have in their PDDL."""
    return [read_domain(DOMAINS[name].text).name for name in domains]


def object_names(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The object names that are one token each in a tokenizer; empty if it lists none."""
    return list(tokenizer.init_kwargs.get("object_names", []))


def in_order(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Domains (PDDL names) where the model learned that an object's name says where it is."""
    return list(tokenizer.init_kwargs.get("in_order", []))


def with_words(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> PreTrainedTokenizerFast:
    """The tokenizer, where its tokens are whole words with one more for each word of these texts
    that it lacks. The model gets an embedding for each.
    """
    from tokenizers import Tokenizer, models

    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, models.WordLevel):
        return tokenizer
    split = backend.pre_tokenizer.pre_tokenize_str
    words = {piece for text in set(texts) for piece, _ in split(text)}
    missing = sorted(words - tokenizer.get_vocab().keys())
    if not missing:
        return tokenizer
    described = json.loads(backend.to_str())
    known = described["model"]["vocab"]
    known |= {word: len(tokenizer) + number for number, word in enumerate(missing)}
    model.resize_token_embeddings(len(tokenizer) + len(missing), mean_resizing=False)
    larger = Tokenizer.from_str(json.dumps(described))
    return type(tokenizer)(**{**tokenizer.init_kwargs, "tokenizer_object": larger})
