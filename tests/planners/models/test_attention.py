"""Shared prompts and gradients in parts change nothing but the time they take."""

from itertools import cycle
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planners.models.attention import SMALL, Prompts, shares_prompts, use_shared_prompts
from planners.models.checkpoint import load
from planners.models.hardware import use_threads
from planners.policies.local import LocalPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Sampling
from planners.training.fine_tuning import encode
from planners.training.lessons import Lesson
from planners.training.loop import Optimisation, fit
from tests.conftest import blocks_task

PROMPT = PROMPTS["compact"].write


def test_samples_are_those_of_another_attention(tiny_checkpoint: Path) -> None:
    # Prompts of several lengths, so that some are padded; one to five samples of each; and
    # completions that end at different times, so that lines and prompts leave.
    texts = [PROMPT(blocks_task(3 + i % 4, 1, i)) for i in range(12) for _ in range(1 + i % 5)]
    found = []
    for attention in (None, "sdpa", "eager"):
        model, tokenizer = load(tiny_checkpoint)
        assert shares_prompts(model)
        if attention:
            model.set_attn_implementation(attention)
        with torch.no_grad():
            model.get_output_embeddings().weight[tokenizer.eos_token_id] *= 4
        policy = LocalPolicy(model, tokenizer, batch=20)
        drawn = policy.sample(texts, Sampling(max_new_tokens=30), range(len(texts)))
        pairs = [(text, "(pickup b1)\n(stack b1 b2)\n") for text in texts]
        found.append((drawn, policy.logprobs(pairs)))
    ours, logprobs = found[0]
    assert len({len(completion.token_ids) for completion in ours}) > 5
    for others, their_logprobs in found[1:]:
        assert [c.token_ids for c in ours] == [c.token_ids for c in others]
        assert [c.logprob for c in ours] == pytest.approx([c.logprob for c in others], abs=1e-3)
        assert logprobs == pytest.approx(their_logprobs, abs=1e-3)


def test_in_bfloat16_it_is_as_exact_as_another_attention(tiny_checkpoint: Path) -> None:
    texts = [PROMPT(blocks_task(3 + i % 4, 1, i)) for i in range(12) for _ in range(3)]
    pairs = [(text, "(pickup b1)\n(stack b1 b2)\n") for text in texts]
    model, tokenizer = load(tiny_checkpoint)
    true = LocalPolicy(model, tokenizer).logprobs(pairs)
    apart = {}
    for attention in (None, "sdpa"):
        model, tokenizer = load(tiny_checkpoint, dtype="bfloat16")
        if attention:
            model.set_attn_implementation(attention)
        policy = LocalPolicy(model, tokenizer)
        drawn = policy.sample(texts, Sampling(max_new_tokens=12), range(len(texts)))
        rows = zip(policy.encode(texts, 0), (list(c.token_ids) for c in drawn), strict=True)
        again = policy.row_logprobs(list(rows))
        told = max(abs(a - c.logprob) for a, c in zip(again, drawn, strict=True))
        apart[attention] = told, max(map(abs, np.subtract(policy.logprobs(pairs), true)))
    assert apart[None][0] < 2 * apart["sdpa"][0] + 0.01
    assert apart[None][1] < 2 * apart["sdpa"][1] + 0.01


@given(
    samples=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    read=st.integers(1, 9),
    written=st.integers(1, 4),
    group=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_two_parts_add_up_to_one_attention(
    samples: list[int], read: int, written: int, group: int, seed: int
) -> None:
    drawn, random = torch.Generator().manual_seed(seed), Random(seed)
    prompts, heads, size = len(samples), 2, 4

    def normal(*shape: int) -> torch.Tensor:
        return 3 * torch.randn(*shape, generator=drawn, dtype=torch.float64)

    keys, values = normal(prompts, heads, read, size), normal(prompts, heads, read, size)
    padding = torch.tensor([[int(i >= random.randrange(read)) for i in range(read)] for _ in keys])
    padding[:, -1] = 1
    owners = torch.tensor([p for p, count in enumerate(samples) for _ in range(count)])

    class Layer:
        pass

    layer, cache = Layer(), Layer()
    layer.keys, layer.values, cache.layers = keys, values, [layer]  # type: ignore[attr-defined]
    shared = Prompts.read([cache], padding, owners)  # type: ignore[arg-type]
    for _ in range(2):  # before and after some lines left
        lines = len(owners)
        asked, key, value = (
            normal(lines, heads, group, size),
            *(normal(lines, heads, written, size) for _ in range(2)),
        )
        ours = shared.attend(0, asked, key, value)
        every = torch.cat([keys[owners], key], 2), torch.cat([values[owners], value], 2)
        seen = torch.cat([padding[owners], torch.ones(lines, written)], 1).bool()
        plain = torch.nn.functional.scaled_dot_product_attention(
            asked, *every, attn_mask=seen[:, None, None], scale=1.0
        )
        assert torch.allclose(ours, plain, atol=1e-9)
        left = torch.tensor(sorted(random.sample(range(lines), random.randint(1, lines))))
        kept = owners[left].unique()
        keys, values, padding = keys[kept], values[kept], padding[kept]
        owners = shared.keep(owners[left])


def test_a_model_with_dropout_or_of_another_kind_keeps_its_attention(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("attention_dropout", 0.1), ("model_type", "qwen3")):
        model, _ = load(tiny_checkpoint)
        model.set_attn_implementation("sdpa")
        setattr(model.config, name, value)
        use_shared_prompts(model)
        assert not shares_prompts(model)
    assert model.num_parameters() < SMALL
    monkeypatch.setattr("planners.models.attention.SMALL", 10)
    assert not shares_prompts(load(tiny_checkpoint)[0])


def test_weights_do_not_depend_on_the_number_of_cores(tiny_checkpoint: Path) -> None:
    texts = ["(pickup b1)\n", "(pickup b1)\n(stack b1 b2)\n(unstack b1 b2)\n", ";\n"] * 9
    lessons = [Lesson(blocks_task(3 + i % 3, 1, i), text) for i, text in enumerate(texts)]
    found = []
    try:
        for threads in (1, 2, 3):
            use_threads(threads)
            model, tokenizer = load(tiny_checkpoint)
            rows = encode(lessons, tokenizer, "compact")
            losses = fit(model, cycle([rows, rows[:5]]), 4, Optimisation(learning_rate=1e-3))
            assert torch.get_num_threads() == threads
            found.append((losses, [p.detach().clone() for p in model.parameters()]))
    finally:
        use_threads(0)
    for losses, weights in found[1:]:
        assert losses == found[0][0]
        assert all(map(torch.equal, weights, found[0][1]))


def test_what_is_saved_does_not_name_the_attention(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model, _ = load(tiny_checkpoint)
    model.save_pretrained(tmp_path)
    assert "posterity" not in (tmp_path / "config.json").read_text("utf-8")
