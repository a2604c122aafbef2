"""Checkpoints from anywhere: none of their code is run, and nothing is made up that they lack."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from planners.errors import CheckpointError, ComponentFailure
from planners.models.chat import reasoning_tokens, unknown_id
from planners.models.checkpoint import (
    adapted,
    context_of,
    described,
    load,
    read_tokenizer,
    reading,
    require_checkpoint,
    save,
    weights_hash,
    with_adapter,
)
from planners.models.costs import shape_of


def copied(checkpoint: Path, folder: Path) -> Path:
    shutil.copytree(checkpoint, folder / "x")
    return folder / "x"


def test_a_checkpoint_that_lacks_weights_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """transformers would fill them at random, differently each time."""
    folder = copied(tiny_checkpoint, tmp_path)
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "q_proj" in name)
    del weights[gone]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"lacks 1 weights of its model: {gone}"):
        load(folder)


def test_a_checkpoints_own_code_is_not_run(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anybody asked whether it may be."""
    folder, ran = copied(tiny_checkpoint, tmp_path), tmp_path / "ran"
    (folder / "conf.py").write_text(f"open({str(ran)!r}, 'w').write('x')\n")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "conf.C", "AutoModelForCausalLM": "conf.M", "AutoTokenizer": "conf.T"}
    config |= {"model_type": "zzz", "auto_map": own}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for look in (load, reading, shape_of):
        with pytest.raises(CheckpointError):
            look(folder)
    assert read_tokenizer(folder).eos_token == "</s>"
    assert not ran.exists()


def test_an_adapter_has_its_own_weights_and_all_of_them(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model, tokenizer = load(tiny_checkpoint)
    save(with_adapter(model, 2, 4, 0.0), tokenizer, tmp_path / "adapter")
    assert adapted(tmp_path / "adapter", tiny_checkpoint) is not None
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file(dict(list(weights.items())[1:]), file)
    with pytest.raises(CheckpointError, match="missing adapter keys"):
        load(tmp_path / "adapter", tiny_checkpoint)
    file.rename(file.with_name("zzz.safetensors"))
    torch.save(weights, file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load(tmp_path / "adapter", tiny_checkpoint)


def test_weights_outside_of_the_folder_are_refused_and_every_template_is_hashed(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_checkpoint, tmp_path)
    before = described(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "default.jinja").write_text("x")
    assert described(folder).keys() - before.keys() == {"additional_chat_templates/default.jinja"}
    index = json.dumps({"weight_map": {"model.embed_tokens.weight": "../w.safetensors"}})
    lacking = json.dumps({"weight_map": {"x": "model.safetensors", "y": "model-2.safetensors"}})
    (folder / "model.safetensors.index.json").write_text(lacking)
    with pytest.raises(CheckpointError, match=r"lacks model-2\.safetensors: copy"):
        require_checkpoint(folder)
    for written in (index, index.replace("/", r"\u002f")):  # one and the same to its reader
        (folder / "model.safetensors.index.json").write_text(written)
        with pytest.raises(CheckpointError, match="names weights outside of its folder"):
            load(folder)
    (folder / "model.safetensors.index.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)


def test_a_token_that_is_in_every_text_is_no_sign_of_the_unknown(tiny_checkpoint: Path) -> None:
    """Some tokenizers have one token for the end and for what they do not know."""
    _, tokenizer = load(tiny_checkpoint)
    own = unknown_id(tokenizer)
    assert own is None or own == tokenizer.unk_token_id
    tokenizer.unk_token = tokenizer.eos_token
    assert unknown_id(tokenizer) is None
    assert reasoning_tokens(tokenizer, [1, 2, tokenizer.eos_token_id]) == 0


def test_a_checkpoint_that_cannot_take_its_place_loses_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    save(*load(tiny_checkpoint), folder)
    before = weights_hash(folder)
    moved = os.replace

    def failing(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            raise OSError("no space left on device")
        moved(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(ComponentFailure, match="cannot be written: no space left"):
        save(*load(tiny_checkpoint), folder)
    assert weights_hash(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_how_much_a_model_takes_stands_where_its_kind_has_it() -> None:
    """Of one that takes pictures too, in the part that is about texts."""
    from transformers import BloomConfig, Gemma3Config, GPT2Config

    assert context_of(Gemma3Config(text_config={"max_position_embeddings": 77})) == 77
    assert context_of(GPT2Config(n_positions=55)) == 55
    with pytest.raises(CheckpointError, match="bloom states no context length"):
        context_of(BloomConfig())
