"""Encode prompts as the token ids that a model reads: plain text, or a user's chat message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planners.errors import InvalidInput
from planners.prompts.extraction import THINK_END

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def encode_prompts(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of each prompt.

    With a chat template, a prompt becomes a user message followed by the start of the answer.
    Without one, the text is encoded alone.
    """
    if tokenizer.chat_template is None:
        return tokenizer(list(prompts))["input_ids"]
    return tokenizer.apply_chat_template(
        [[{"role": "user", "content": prompt}] for prompt in prompts],
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]


BEFORE = "So far."
"""Stands for a model's turn, to see what a chat template writes after one."""


def told_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of what a model is told after its turn, up to the beginning of its next turn.

    With a chat template, it is a message of the user's. Raises InvalidInput if the template does
    not end a model's turn with the token that ends a text.
    """
    if tokenizer.chat_template is not None:
        chat = [
            {"role": "user", "content": "Begin."},
            {"role": "assistant", "content": BEFORE},
            {"role": "user", "content": text},
        ]
        whole = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        after, end = str(whole).rpartition(BEFORE)[2].lstrip(), str(tokenizer.eos_token)
        if not after.startswith(end):
            raise InvalidInput(
                f"the model's chat template does not end its turns with {end}, so that it cannot "
                "be told anything between them; set max_tool_calls = 0"
            )
        text = after.removeprefix(end)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def reasoning_tokens(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> int:
    """Tokens up to and including the last end-of-reasoning mark; 0 if there is none."""
    mark = tokenizer.convert_tokens_to_ids(THINK_END)
    if mark == tokenizer.unk_token_id:  # it has none
        return 0
    return len(ids) - list(ids)[::-1].index(mark) if mark in ids else 0


def unknown_id(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The id that stands for what a tokenizer does not know; None where it knows everything, or
    uses for it a token that is in every text.
    """
    found: int | None = tokenizer.unk_token_id
    ends = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    return None if found in ends else found


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of the tokens that end a completion: the tokenizer's and the model's own, sorted."""
    # None, one id or a list: a chat model may end a turn and a text with different tokens.
    own = getattr(model.generation_config, "eos_token_id", None)
    return sorted({tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})
