"""Read, write and hash checkpoint folders, which hold the weights of a generation.

A checkpoint is what `save_pretrained` writes: a whole model, or a LoRA adapter that is loaded on
top of the base it was trained on. Weights are safetensors; pickled weights are refused.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planners.errors import CheckpointError, ComponentFailure
from planners.files import files_hash
from planners.models.attention import use_shared_prompts
from planners.models.hardware import hardware

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files that a checkpoint folder has instead of others if it holds only an adapter."""
OURS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How everything is loaded: no download, and none of a checkpoint's own code."""


def require_checkpoint(folder: Path | str) -> Path:
    """Return a folder that looks like a checkpoint, without loading it. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    weights = sorted(folder.glob("*.safetensors"))
    described = any((folder / name).is_file() for name in ("config.json", ADAPTER))
    adapter = (folder / ADAPTER).is_file()
    if not described or not weights or (adapter and folder / ADAPTER_WEIGHTS not in weights):
        raise CheckpointError(
            f"{folder} is not a checkpoint: it needs config.json and *.safetensors "
            "(pickled weights are refused); name a folder that save_pretrained wrote"
        )
    for file in weights:
        try:
            # Opening checks the header and the file's length, but reads no weights.
            with safe_open(file, "np"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"the weights {file} cannot be read: {error}") from error
    for index in folder.glob("*.safetensors.index.json"):
        try:
            named = json.loads(index.read_text("utf-8"))["weight_map"].values()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as bad:
            raise CheckpointError(f"{index} cannot be read: {bad!r}") from bad
        parts = set(map(str, named))
        if any(Path(part).name != part for part in parts):
            raise CheckpointError(f"{index} names weights outside of its folder, which is refused")
        if lacking := sorted(parts - {file.name for file in weights}):
            raise CheckpointError(f"{folder} lacks {lacking[0]}: copy the checkpoint again")
    return folder


def load(
    folder: Path | str, base: Path | None = None, dtype: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the model (in evaluation mode) and the tokenizer of a checkpoint folder.

    An adapter is merged into `base`, the checkpoint it was trained on. The device is that of
    `planners.models.hardware`, and so is the type of the weights, unless `dtype` names one. Raises
    CheckpointError.
    """
    folder = require_checkpoint(folder)
    if (folder / ADAPTER).is_file():
        return adapted(folder, base).merge_and_unload().eval(), read_tokenizer(folder)
    return _model(folder, dtype), read_tokenizer(folder)


def adapted(folder: Path, base: Path | None, trainable: bool = False) -> PeftModel:
    """Load an adapter on top of its base, without merging them. Raises CheckpointError."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    if base is None:
        raise CheckpointError(f"{folder} is an adapter: it cannot be read without its base")
    try:
        with _without_peft_warnings():
            model = PeftModel.from_pretrained(_model(base), str(folder), is_trainable=trainable)
        expected = get_peft_model_state_dict(model).keys()
        with safe_open(folder / ADAPTER_WEIGHTS, "pt") as weights:
            found = set(weights.keys())
    except Exception as error:  # of odd settings, its libraries raise many types
        raise _unreadable(folder, error) from error
    if found != expected:
        raise CheckpointError(
            f"the adapter {folder} has {len(found)} weights, and its configuration asks for "
            f"{len(expected)} others"
        )
    return model


def with_adapter(model: PreTrainedModel, rank: int, alpha: int, dropout: float) -> PeftModel:
    """Add a new LoRA adapter to every linear layer, initialised from torch's global seed."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
    with _without_peft_warnings():
        return get_peft_model(model, config)


@contextmanager
def _without_peft_warnings() -> Iterator[None]:
    """Silence the warning that peft reads a transformers property by its old name, and make one of
    an adapter that lacks weights an error.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
        yield


def _model(folder: Path, dtype: str | None = None) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    used = hardware()
    # cuDNN's attention plans anew for every length, and each token makes another one.
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=dtype or used.stored,
            output_loading_info=True,
            **OURS,
        )
    except Exception as error:  # what odd files make of its readers: many types
        raise _unreadable(folder, error) from error
    if missing := sorted(told["missing_keys"]):  # transformers would fill them at random
        raise CheckpointError(
            f"the checkpoint {folder} lacks {len(missing)} weights of its model: {missing[0]}, ..."
        )
    use_shared_prompts(model.to(used.device))
    return model.eval()


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a checkpoint folder.

    Raises CheckpointError, also if the tokenizer has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **OURS)
    except Exception as error:
        raise _unreadable(folder, error) from error
    if tokenizer.eos_token_id is None:
        raise CheckpointError(
            f"the tokenizer of {folder} has no end-of-sequence token: it could never stop"
        )
    return tokenizer


def _unreadable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {folder} cannot be loaded: "
        f"{[*str(error).splitlines(), type(error).__name__][0]}"
    )


def reading(folder: Path | str) -> tuple[PreTrainedTokenizerFast, int]:
    """A checkpoint's tokenizer and its context length in tokens, without loading the weights.

    Raises CheckpointError.
    """
    folder = Path(folder)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, **OURS)
        context = context_of(config)
    except Exception as error:
        raise _unreadable(folder, error) from error
    return read_tokenizer(folder), context


def context_of(config: PretrainedConfig) -> int:
    """Tokens that a model takes. Raises CheckpointError if its configuration does not say."""
    text = config.get_text_config()  # of a model that takes pictures too
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(known := getattr(text, name, None), int):
            return known
    raise CheckpointError(f"a model of the kind {config.model_type} states no context length")


def save(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write a checkpoint folder, whole or not at all, replacing an existing one.

    Raises ComponentFailure if it cannot be written.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    partial, before = (folder.with_name(folder.name + end) for end in (".partial", ".before"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(str(partial))
        tokenizer.save_pretrained(partial)
        # os.replace refuses a target folder that is not empty.
        shutil.rmtree(before, ignore_errors=True)
        if folder.exists():
            os.replace(folder, before)
        os.replace(partial, folder)
        shutil.rmtree(before, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if before.exists() and not folder.exists():
            os.replace(before, folder)
        raise ComponentFailure(
            f"the checkpoint {folder} cannot be written: {error}; free some space there and run "
            "the same command again"
        ) from error


def weights_hash(folder: Path) -> str:
    """Hash of a checkpoint's weights."""
    return files_hash(sorted(folder.glob("*.safetensors")))


TEMPLATES = "additional_chat_templates"
"""The folder in a checkpoint from which a tokenizer reads chat templates too."""
READ = (".json", ".txt", ".jinja", ".model", ".tiktoken")
"""Ends of the names of the files beside the weights that are read when a checkpoint is loaded."""
UNREAD = ("transformers_version", "_name_or_path", "base_model_name_or_path")
"""Keys that say what wrote a file, and from where; nothing of ours reads them."""


def described(folder: Path) -> dict[str, str]:
    """The hash of each file beside the weights: configuration, tokenizer, chat template."""
    return {file.relative_to(folder).as_posix(): _described(file) for file in _read(folder)}


def checkpoint_files(folder: Path) -> list[Path]:
    """A checkpoint's own files, in order: its weights, what is read beside them, and licences. Its
    folder may be a user's own, with much else in it.
    """
    return sorted([*folder.glob("*.safetensors"), *folder.glob("LICENSE*"), *_read(folder)])


def _read(folder: Path) -> list[Path]:
    """The files beside the weights that are read when a checkpoint is loaded, in order."""
    return [
        file
        for file in sorted((*folder.iterdir(), *(folder / TEMPLATES).glob("*")))
        if file.is_file() and file.name.endswith(READ)
    ]


def _described(file: Path) -> str:
    text = file.read_bytes()
    if file.name.endswith("config.json"):
        with suppress(ValueError, AttributeError, RecursionError):
            told = json.loads(text)
            read = {key: value for key, value in told.items() if key not in UNREAD}
            text = json.dumps(read, sort_keys=True).encode()
    return blake2b(text, digest_size=16).hexdigest()
