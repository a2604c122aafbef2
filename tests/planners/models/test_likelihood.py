"""Log-probabilities, and the loss, are those of what a model samples by, whatever its family."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    Lfm2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen3Config,
)

from planners.errors import CheckpointError
from planners.models import likelihood
from planners.models.likelihood import ends_with_head, heard, logprobs_of, summed_logprobs
from planners.training.objectives import completion_loss

ROWS = [([1, 2, 3], [4, 5, 6]), ([1, 2, 3, 7, 8], [4, *heard([5]), 6, 9, 2])]


def model_of(family: Any, **settings: Any) -> PreTrainedModel:
    """A random model of a family. Large weights, so that a cap on its logits tells."""
    torch.manual_seed(0)
    config = family(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
        initializer_range=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings,
    )  # fmt: skip
    found: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return found


def by_hand(model: PreTrainedModel) -> list[float]:
    """The log-probability of each row's own tokens, from all logits of that row alone."""
    found = []
    for prompt, completion in ROWS:
        told = [token if token >= 0 else ~token for token in completion]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *told]])).logits[0].double()
        each = logits.log_softmax(-1)
        own = [(i, token) for i, token in enumerate(completion) if token >= 0]
        found.append(sum(each[len(prompt) + i - 1, token].item() for i, token in own))
    return found


@pytest.mark.parametrize(
    ("family", "settings", "plain"),
    [
        (LlamaConfig, {}, True), (Qwen3Config, {}, True),
        (GraniteConfig, {"logits_scaling": 8.0}, False), (CohereConfig, {}, False),
        (Gemma2Config, {"final_logit_softcapping": 3.0}, False),
    ],
)  # fmt: skip
def test_logits_that_are_scaled_or_capped_are_learned_as_they_are_sampled(
    family: Any, settings: dict[str, float], plain: bool
) -> None:
    model = model_of(family, **settings)
    assert ends_with_head(model) is plain
    expected = by_hand(model)
    assert summed_logprobs(model, ROWS).tolist() == pytest.approx(expected, rel=1e-5)
    assert completion_loss(model, ROWS).item() == pytest.approx(-sum(expected) / 7, rel=1e-5)


def test_a_family_whose_parts_are_called_otherwise_is_learned_all_the_same() -> None:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=50, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=32, max_position_embeddings=64, init_std=0.5, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    assert not ends_with_head(model)
    assert summed_logprobs(model, ROWS).tolist() == pytest.approx(by_hand(model), rel=1e-5)


def test_layers_that_keep_another_state_are_refused_before_anything_is_sampled() -> None:
    from planners.policies.lines import _read

    torch.manual_seed(0)
    config = Lfm2Config(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention"],
    )  # fmt: skip
    model, ids = AutoModelForCausalLM.from_config(config).eval(), torch.tensor([[1, 5, 6]])
    with pytest.raises(CheckpointError, match="'lfm2' have layers that keep another state"):
        _read(model, ids, torch.ones_like(ids), 8)


def test_an_untrained_models_cap_is_seen_too() -> None:
    """Its logits are so small that a cap hardly changes them, which training would soon end."""
    torch.manual_seed(0)
    assert not ends_with_head(model_of(Gemma2Config, final_logit_softcapping=1000.0))


def test_few_logits_at_once_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(LlamaConfig)
    expected = logprobs_of(model, ROWS, 0.7)
    monkeypatch.setattr(likelihood, "LOGITS", 1)
    monkeypatch.setattr(likelihood, "SLICE", 2)
    assert logprobs_of(model, ROWS, 0.7).tolist() == pytest.approx(expected.tolist(), rel=1e-6)
