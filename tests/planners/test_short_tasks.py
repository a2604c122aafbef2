"""What bases are pretrained on: solvable, in the base's own words, the same for the same seed."""

from itertools import islice
from random import Random

import pytest

from planners.base import build_tokenizer
from planners.domains import DOMAINS
from planners.short_tasks import Pretraining, examples


@pytest.mark.parametrize("name", DOMAINS)
def test_examples_are_told_in_words_the_tokenizer_knows(name: str) -> None:
    settings = Pretraining((name,), names=64)
    tokenizer = build_tokenizer(settings.domains, settings.object_names)
    drawn = list(islice(examples(settings, Random(1)), 60))
    for prompt, plan in drawn:
        for text in (prompt, str(plan)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
    assert any(" >" in prompt for prompt, _ in drawn)
    assert drawn == list(islice(examples(settings, Random(1)), 60))
