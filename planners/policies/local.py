"""A policy that samples from a causal language model of `transformers` in this process.

It is faster than a plain `generate` call. Prompts are sorted by length and batched, a prompt is
read once for all its samples, finished rows leave the batch, and the key-value cache is allocated
once. Every row has its own random stream, so its text does not depend on the other rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from planners.errors import ComponentFailure, InvalidInput
from planners.models.chat import encode_prompts, reasoning_tokens, stop_ids, unknown_id
from planners.models.checkpoint import context_of
from planners.models.hardware import one_thread_each, out_of_memory
from planners.models.likelihood import Row, logprobs_of
from planners.policies.decoding import draw, even_batches
from planners.policies.lines import begin
from planners.records import Completion, Heard, Policy, Prompt, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OPERATIONS = 2e12
"""Operations of a batch on a CPU, at most: less than a minute at 40 GFLOP/s, as a core does."""
SHRINK = 0.8
"""Finished rows leave the batch once fewer than this share of its rows is unfinished."""


class LocalPolicy(Policy):
    """Samples from a loaded model, `batch` rows at a time.

    On a CPU, `threads` batches are decoded in parallel.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        name: str = "local",
        batch: int = 256,
        threads: int = 1,
    ) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.batch = batch
        self.threads = threads if model.device.type == "cpu" else 1
        self.stops = stop_ids(model, tokenizer)
        self.parameters = sum(weights.numel() for weights in model.parameters())

    def encode(self, prompts: Sequence[Prompt], room: int) -> list[list[int]]:
        """Token ids of each prompt; each must leave `room` tokens of the context.

        Raises InvalidInput on unknown words of texts and on prompts that are too long.
        """
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        read = iter(encode_prompts(self.tokenizer, texts) if texts else [])
        encoded = [next(read) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        context = context_of(self.model.config)
        long = [len(ids) for ids in encoded if len(ids) + room > context]
        if long:
            raise InvalidInput(
                f"{len(long)} of {len(prompts)} prompts, the longest of {max(long)} tokens, with "
                f"{room} to be sampled exceed the model's context of {context}; choose smaller "
                "tasks or a smaller max_new_tokens"
            )
        for prompt, ids in zip(prompts, encoded, strict=True):
            unknown = unknown_id(self.tokenizer)
            if isinstance(prompt, str) and unknown is not None and unknown in ids:
                at = ids.index(unknown)
                word = self.tokenizer.decode(ids[max(0, at - 3) : at + 1])
                raise InvalidInput(
                    f"the model {self.name} does not know a word of the prompt, after {word!r}: "
                    f"{prompt[:80]!r}; use object and predicate names in its vocabulary, or "
                    "another model"
                )
        return encoded

    def require_room(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Raise InvalidInput if a prompt has unknown words or leaves no room for an answer."""
        self.encode(list(dict.fromkeys(prompts)), sampling.max_new_tokens)

    def stream(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        seeds: Sequence[int],
        known: Collection[int] = (),
        heard: Sequence[Heard] | None = None,
    ) -> Iterator[dict[int, Completion]]:
        """Yield the completions of one batch after the other, without batches that are all known.

        Equal prompts in a batch share a prefill. The batches are the same whatever is known, so
        that rounding errors are the same too. `heard[i]` is told each token of row i as it is
        drawn.
        """
        import torch

        distinct = list(dict.fromkeys(prompts))
        ids = dict(zip(distinct, self.encode(distinct, sampling.max_new_tokens), strict=True))
        # Sorting by length saves padding; sorting by ids brings equal prompts together.
        order = sorted(
            range(len(prompts)), key=lambda i: (len(ids[prompts[i]]), ids[prompts[i]], i)
        )
        already = set(known)
        batches = [
            rows
            for rows in even_batches(order, self._at_once(ids.values(), sampling), self.threads)
            if not already.issuperset(rows)
        ]

        def decode(rows: list[int]) -> list[Completion]:
            with torch.inference_mode():
                return self._decode_within_memory(
                    [ids[prompts[i]] for i in rows], sampling, [seeds[i] for i in rows],
                    heard and [heard[i] for i in rows],
                )  # fmt: skip

        with one_thread_each(), ThreadPoolExecutor(self.threads) as pool:
            try:
                for rows, done in zip(batches, pool.map(decode, batches), strict=True):
                    yield dict(zip(rows, done, strict=True))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # not every batch that waits
                raise

    def _at_once(self, prompts: Iterable[list[int]], sampling: Sampling) -> int:
        """Rows of a batch: `batch`, or on a CPU fewer where they would take it minutes.

        Finished batches are kept where a run is killed, so that this bounds what is lost.
        """
        if self.model.device.type != "cpu":
            return self.batch
        tokens = max(map(len, prompts), default=0) + sampling.max_new_tokens
        return max(1, min(self.batch, int(OPERATIONS / (2 * self.parameters * tokens))))

    def _decode_within_memory(
        self, rows: list[list[int]], sampling: Sampling, seeds: list[int],
        heard: Sequence[Heard] | None,
    ) -> list[Completion]:  # fmt: skip
        """Decode one batch, in halves if it exceeds memory: no text depends on its batch.

        Raises ComponentFailure if not even one row fits.
        """
        try:
            return self._decode(rows, sampling, seeds, heard)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            half = len(rows) // 2
            if not half:
                raise ComponentFailure(
                    f"one prompt of {len(rows[0])} tokens with {sampling.max_new_tokens} to be "
                    f"sampled does not fit into memory: {error}"
                ) from error
            warnings.warn(
                f"out of memory with {len(rows)} rows: retrying with halves of the batch",
                stacklevel=1,
            )
        # Outside the except block, whose traceback would keep the failed batch in memory.
        return [
            completion
            for part in (slice(half), slice(half, None))
            for completion in self._decode_within_memory(
                rows[part], sampling, seeds[part], heard and heard[part]
            )
        ]

    def _decode(
        self, rows: list[list[int]], sampling: Sampling, seeds: list[int],
        heard: Sequence[Heard] | None,
    ) -> list[Completion]:  # fmt: skip
        """Decode one batch; finished rows leave it.

        A *row* is a requested completion; a *line* is its place in the batch, which changes when
        other rows leave. `alive` maps lines to rows.
        """
        import torch

        device, most = self.model.device, sampling.max_new_tokens
        # 1. Random numbers first: they depend on a row's seed alone, not on the other rows.
        uniform = torch.from_numpy(np.stack([_uniform(seed, most) for seed in seeds])).to(device)
        # 2. One prefill per distinct prompt; then one line per row.
        lines, logits = begin(self.model, rows, most)
        # 3. By row: its tokens (-1: none yet), their log-probability under the model and under the
        #    sampling distribution, and the length of its prompt.
        tokens = torch.full((len(rows), most), -1, device=device)
        scores = torch.zeros((len(rows), 2), dtype=torch.float64, device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        # 4. By line: its row, and whether that is still being written.
        alive = torch.arange(len(rows), device=device)
        writing = torch.ones(len(rows), dtype=torch.bool, device=device)
        stops = torch.tensor(self.stops, device=device)
        for step in range(most):
            # 5. Draw a token for each line; only rows still being written take it.
            token, own, drawn = draw(logits, uniform[alive, step], sampling)
            live = alive[writing]
            tokens[live, step] = token[writing]
            scores[live, 0] += own[writing]
            scores[live, 1] += drawn[writing]
            if heard:
                for row, fresh in zip(live.tolist(), token[writing].tolist(), strict=True):
                    heard[row](step, fresh)
            writing &= ~torch.isin(token, stops)
            if not writing.any() or step + 1 == most:
                break
            # 6. Finished lines leave together, once they are a fifth: leaving copies the cache.
            if writing.sum() < SHRINK * len(alive):
                left = writing.nonzero().squeeze(1)
                lines.keep(left)
                alive, token, writing = alive[left], token[left], writing[left]
            # 7. One forward pass over the remaining lines.
            logits = lines.forward(token, lengths[alive] + step)
        return self._completions(tokens.tolist(), scores.tolist())

    def _completions(self, tokens: list[list[int]], scores: list[list[float]]) -> list[Completion]:
        """Cut each row at its end and decode it as text."""
        cut = [[t for t in row if t >= 0] for row in tokens]
        texts = self.tokenizer.batch_decode(cut, skip_special_tokens=True)
        return [
            Completion(
                text,
                "stop" if ids[-1] in self.stops else "length",
                tuple(ids),
                own,
                drawn,
                reasoning_tokens(self.tokenizer, ids),
            )
            for text, ids, (own, drawn) in zip(texts, cut, scores, strict=True)
        ]

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Summed log-probability (nats) of each completion and its end token, given its prompt."""
        if not pairs:
            return []
        eos = self.tokenizer.eos_token_id
        heads = self.encode([prompt for prompt, _ in pairs], 0)
        tails = self.tokenizer([text for _, text in pairs], add_special_tokens=False)["input_ids"]
        rows = [(head, [*tail, eos]) for head, tail in zip(heads, tails, strict=True)]
        return self.row_logprobs(rows)

    def row_logprobs(self, rows: Sequence[Row], temperature: float = 1.0) -> list[float]:
        """The same for token ids as they were sampled, of the model at a temperature."""
        return logprobs_of(self.model, rows, temperature).tolist()


def _uniform(seed: int, count: int) -> np.ndarray:
    """The random numbers of one row, in [0, 1), one per token."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)
