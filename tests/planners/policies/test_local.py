"""Sampling from a real model: equal to plain `generate`, whatever the batching, with true
log-probabilities.
"""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from planners.errors import CheckpointError, InvalidInput
from planners.models.checkpoint import load
from planners.policies.decoding import draw, even_batches
from planners.policies.local import Heard, LocalPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Completion, Sampling
from tests.conftest import blocks_task

PROMPT = PROMPTS["compact"].write


@pytest.fixture(scope="module")
def policy(tiny_checkpoint: Path) -> LocalPolicy:
    model, tokenizer = load(tiny_checkpoint)
    # a random model hardly ever ends; favour the end so that rows leave the batch one by one
    with torch.no_grad():
        model.get_output_embeddings().weight[tokenizer.eos_token_id] *= 4
    return LocalPolicy(model, tokenizer, batch=7, threads=2)


def prompts(count: int) -> list[str]:
    return [PROMPT(blocks_task(3 + i % 4, 1 + i % 2, i)) for i in range(count)]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 4))
def test_even_batches(rows: int, most: int, threads: int) -> None:
    batches = even_batches(list(range(rows)), most, threads)
    assert [row for batch in batches for row in batch] == list(range(rows))
    sizes = [len(batch) for batch in batches]
    assert max(sizes, default=1) <= most
    assert max(sizes, default=1) - min(sizes, default=1) <= 1
    assert 0 not in sizes


def test_greedy_equals_generate(policy: LocalPolicy) -> None:
    texts = prompts(9)
    sampling = Sampling(temperature=0, max_new_tokens=20)
    ours = policy.sample(texts, sampling, range(9))
    for text, completion in zip(texts, ours, strict=True):
        ids = policy.tokenizer([text], return_tensors="pt")
        plain = policy.model.generate(
            ids["input_ids"],
            attention_mask=ids["attention_mask"],
            max_new_tokens=20,
            do_sample=False,
        )
        assert tuple(plain[0, ids["input_ids"].shape[1] :].tolist()) == completion.token_ids
        assert completion.sampling_logprob == 0.0


def test_a_text_does_not_depend_on_its_neighbours(policy: LocalPolicy) -> None:
    texts = [text for text in prompts(6) for _ in range(3)]
    seeds = [100 + i for i in range(len(texts))]
    sampling = Sampling(max_new_tokens=24)
    together = policy.sample(texts, sampling, seeds)
    alone = [policy.sample([t], sampling, [s])[0] for t, s in zip(texts, seeds, strict=True)]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert len({c.text for c in together}) > 6
    assert len({len(c.token_ids) for c in together}) > 2


def test_log_probabilities_are_those_of_the_model(policy: LocalPolicy) -> None:
    texts = prompts(8)
    warm = policy.sample(texts, Sampling(temperature=0.7, top_p=0.9, max_new_tokens=24), range(8))
    # a random model also writes special tokens, which the text does not show
    shown = [(t, c) for t, c in zip(texts, warm, strict=True) if not {0, 1, 3} & set(c.token_ids)]
    ended = [(t, c) for t, c in shown if c.finish_reason == "stop"]
    assert ended
    again = policy.logprobs([(t, c.text) for t, c in ended])
    assert again == pytest.approx([c.logprob for _, c in ended], abs=1e-4)
    assert all(c.sampling_logprob > c.logprob for _, c in ended)
    plain = policy.sample(texts, Sampling(max_new_tokens=24), range(8))
    assert [c.sampling_logprob for c in plain] == pytest.approx([c.logprob for c in plain])


def test_draw_follows_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125]])).repeat(8, 1)
    uniform = (torch.arange(8) + 0.5).double() / 8
    token, own, drawn = draw(logits, uniform, Sampling())
    assert token.tolist() == [0, 0, 0, 0, 1, 1, 2, 3]
    assert own.tolist() == pytest.approx(drawn.tolist())
    token, _, drawn = draw(logits, uniform, Sampling(top_p=0.6))
    assert set(token.tolist()) == {0, 1}
    assert drawn.exp()[0] == pytest.approx(2 / 3)


@given(
    st.integers(2, 6000), st.floats(0.01, 1.0), st.sampled_from([0.3, 1.0, 1.7]), st.integers(0, 9)
)
def test_a_nucleus_needs_no_sort_of_the_vocabulary(
    vocabulary: int, top_p: float, temperature: float, seed: int
) -> None:
    """The oracle sorts everything, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(5, vocabulary, generator=generator)
    uniform = torch.rand(5, generator=generator, dtype=torch.float64)
    token, own, drawn = draw(logits, uniform, Sampling(temperature=temperature, top_p=top_p))
    exact = logits.double().log_softmax(-1)
    tempered = (exact / temperature).log_softmax(-1)
    ranked, index = tempered.sort(-1, descending=True)
    dropped = (ranked.exp().cumsum(-1) - ranked.exp() >= top_p).scatter(
        1, index, ranked.exp().cumsum(-1) - ranked.exp() >= top_p
    )
    if top_p < 1:
        tempered = tempered.masked_fill(dropped, -torch.inf).log_softmax(-1)
    pick, total = token[:, None], tempered.exp().cumsum(-1)
    assert own.tolist() == pytest.approx(exact.gather(1, pick).squeeze(1).tolist(), abs=1e-4)
    assert drawn.tolist() == pytest.approx(tempered.gather(1, pick).squeeze(1).tolist(), abs=2e-3)
    # The token's own stretch of the cumulative distribution holds the random number.
    upper = total.gather(1, pick).squeeze(1)
    assert bool((uniform <= upper + 1e-5).all())
    assert bool((uniform >= upper - drawn.exp() - 1e-5).all())


def test_a_random_number_that_rounds_to_one_still_picks_a_possible_token() -> None:
    logits = torch.full((1, 5000), -torch.inf)
    logits[0, :3] = 0.0
    token, own, _ = draw(logits, torch.tensor([1 - 1e-12], dtype=torch.float64), Sampling())
    assert token.item() == 2
    assert own.isfinite().all()


def test_tokens_are_told_while_they_are_drawn(policy: LocalPolicy) -> None:
    """Each row's in order, and those of a batch before it is done."""
    told: dict[int, list[int]] = {row: [] for row in range(20)}

    def listener(row: int) -> Heard:
        def hear(step: int, token: int) -> None:
            assert step == len(told[row])
            told[row].append(token)

        return hear

    found: dict[int, Completion] = {}
    some = prompts(20)
    sampling, seeds = Sampling(max_new_tokens=20), range(20)
    for done in policy.stream(some, sampling, seeds, heard=[listener(row) for row in range(20)]):
        assert all(tuple(told[row]) == one.token_ids for row, one in done.items())
        found |= done
    assert [found[row] for row in seeds] == policy.sample(some, sampling, seeds)


def test_cut_completions_say_so(policy: LocalPolicy) -> None:
    [completion] = policy.sample(prompts(1), Sampling(temperature=0, max_new_tokens=1), [0])
    assert len(completion.token_ids) == 1
    assert completion.finish_reason == ("stop" if completion.token_ids[0] == 2 else "length")


def test_unknown_words_and_long_prompts_are_refused(policy: LocalPolicy) -> None:
    with pytest.raises(InvalidInput, match="does not know a word"):
        policy.sample([" zebra clear"], Sampling(), [0])
    with pytest.raises(InvalidInput, match="exceed the model's context"):
        policy.sample([" b1 clear" * 600], Sampling(), [0])


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)
