"""An answer while it is being written: its tokens as pieces of text, for a stream."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from planners.records import Heard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DONE = -1
"""In place of a choice's number: nothing more will be drawn."""
ALL = sys.maxsize
"""In place of the number of tokens that were decoded: no further ones are."""


class Live:
    """One answer, whose choices are heard. Tokens are told by the thread that samples, and
    become text in the event loop that made this.
    """

    def __init__(self) -> None:
        self.generation, self.traces = -1, list[str]()
        self.sent: list[str] = []
        """By choice, the text that was given out."""
        self._loop = asyncio.get_running_loop()
        self._tokens: asyncio.Queue[tuple[int, int, int]] = asyncio.Queue()
        self._begun = asyncio.Event()

    def begin(
        self, generation: int, traces: list[str], tokenizer: PreTrainedTokenizerFast | None
    ) -> None:
        """Say who answers, before its first token is looked at."""
        from tokenizers.decoders import DecodeStream

        self.generation, self.traces = generation, traces
        self.sent = [""] * len(traces)
        self._tokenizer = tokenizer
        self._decoders = [DecodeStream(skip_special_tokens=True) for _ in traces]
        self._counts = [0] * len(traces)
        self._begun.set()

    def heard(self, choice: int) -> Heard:
        """To be told the tokens of a choice, by the thread that samples."""

        def tell(step: int, token: int) -> None:
            self._loop.call_soon_threadsafe(self._tokens.put_nowait, (choice, step, token))

        return tell

    def end(self) -> None:
        """Say that nothing more will be drawn."""
        self._tokens.put_nowait((DONE, 0, 0))

    async def text(self) -> tuple[int, str] | None:
        """The next piece of text, of which choice it is; None at the end."""
        while True:
            choice, step, token = await self._tokens.get()
            if choice == DONE:
                return None
            await self._begun.wait()  # the first token may be here before it is known who answers
            if step < self._counts[choice] or self._tokenizer is None:
                continue  # drawn again after memory ran out
            self._counts[choice] += 1
            # None where a character is not whole yet, or the token is none of a text.
            try:
                piece = self._decoders[choice].step(self._tokenizer.backend_tokenizer, token)
            except Exception:  # of bytes that are no text: the rest comes with the whole answer
                self._counts[choice] = ALL
                continue
            if piece:
                self.sent[choice] += piece
                return choice, piece
