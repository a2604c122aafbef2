"""A stream's pieces of text: whole characters, each token once, the text that is kept."""

import asyncio
import threading

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from flows.web.live import Live

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTES = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.BPE({one: i for i, one in enumerate(ALPHABET)}, []))
)
BYTES.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
BYTES.backend_tokenizer.decoder = decoders.ByteLevel()


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=3), st.integers(0, 30))
def test_pieces_make_the_text(texts: list[str], again: int) -> None:
    """A token is a byte here, so most characters come in parts. After some tokens memory runs out,
    and all are drawn from the first on again.
    """
    ids = [BYTES.encode(text) for text in texts]

    async def listened() -> list[tuple[int, str]]:
        live = Live()
        listeners = [live.heard(choice) for choice in range(len(texts))]
        live.begin(0, ["trace"] * len(texts), BYTES)

        def draw() -> None:
            for most in (again, 10**6):
                for hear, tokens in zip(listeners, ids, strict=True):
                    for step, token in enumerate(tokens[:most]):
                        hear(step, token)

        sampling = threading.Thread(target=draw)
        sampling.start()
        await asyncio.to_thread(sampling.join)
        live.end()
        found = []
        while (piece := await live.text()) is not None:
            found.append(piece)
        made = ["".join(text for at, text in found if at == choice) for choice in range(len(ids))]
        assert made == live.sent == texts
        return found

    found = asyncio.run(listened())
    assert all("\N{REPLACEMENT CHARACTER}" not in text for _, text in found) or any(
        "\N{REPLACEMENT CHARACTER}" in text for text in texts
    )
