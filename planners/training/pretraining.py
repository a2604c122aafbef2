"""Make the embedded base model: a Llama of about a million parameters that knows short plans.

It is pretrained on short tasks of every size, each with an optimal plan, to learn the language of
plans and solve short horizons, nothing more. A thin tail of longer tasks, and walks in tasks out of
its reach, keep longer plans possible: no curation can select what a base never samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.models.checkpoint import load, save, weights_hash
from planners.models.embedded import names_in_pddl
from planners.models.hardware import hardware, use_hardware
from planners.models.likelihood import Row
from planners.pddl import read_domain
from planners.pddl.reader import changing
from planners.prompts.formats import OBJECT_NAMES, PROMPTS, compact
from planners.records import derive_seed
from planners.training.curriculum import LAYERS, WIDTH, Mixture, Pretraining, examples
from planners.training.loop import WINDOW, Optimisation, fit, in_chunks

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WORDS = ("\n", ")\n", "<think>", "</think>")
PIECES = r"\([^\s()]+|\)\n| [^\s()]+|\n|[^\s()]+|\s|\(|\)"
"""How text is split into tokens: "(stack", " b1", ")\\n", " on", " >on", newline."""


def vocabulary(domains: Sequence[str], names: Sequence[str]) -> list[str]:
    """Every word of the compact prompts and plans of these domains."""
    words = [*SPECIAL, *WORDS]
    for domain in (read_domain(DOMAINS[name].text) for name in domains):
        changed = changing(domain)
        for predicate, kinds in domain.predicates.items():
            # Facts that may change stand with each argument, others with the first (see `compact`).
            places = max(1, len(kinds)) if predicate in changed else 1
            for position in range(places):
                words += [f"{mark}{'@' * position}{predicate}" for mark in (" ", " >")]
        words += [f"({schema}" for schema in domain.actions]
        words += [f" :{kind}" for kind in domain.types]
        words += [f" {constant}" for constant, _ in domain.constants]
    return list(dict.fromkeys([*words, *(f" {name}" for name in names)]))


def build_tokenizer(
    domains: Sequence[str] = ("blocksworld",),
    names: Sequence[str] = OBJECT_NAMES[:24],
    in_order: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over plan words and object names; decoding restores the text.

    It also records the domains, by their PDDL names, where objects are named in sorted order.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = vocabulary(domains, names)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        object_names=list(names),
        in_order=names_in_pddl(in_order),
    )


def build_model(
    seed: int, vocabulary: int, layers: int = LAYERS, width: int = WIDTH
) -> LlamaForCausalLM:
    """The untrained base: a plain Llama in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def pretraining_batches(
    tokenizer: PreTrainedTokenizerFast, settings: Pretraining, mixture: Mixture, rng: Random
) -> Iterator[list[Row]]:
    """An endless stream of batches of rows of similar length."""
    batch, stream = settings.batch, examples(settings, mixture, rng)
    while True:
        drawn = list(islice(stream, batch * WINDOW))
        texts = tokenizer([compact(task) for task, _ in drawn])["input_ids"]
        plans = tokenizer([str(plan) for _, plan in drawn], add_special_tokens=False)["input_ids"]
        rows = [
            (text, [*plan, tokenizer.eos_token_id]) for text, plan in zip(texts, plans, strict=True)
        ]
        yield from in_chunks(rows, batch, rng)


def _batches(
    tokenizer: PreTrainedTokenizerFast, settings: Pretraining, mixture: Mixture, seed: int
) -> Iterable[list[Row]]:
    """The same, made by `settings.workers` processes in turn if there are any."""
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    if not settings.workers:
        return pretraining_batches(tokenizer, settings, mixture, Random(seed))

    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[list[Row]]:
            worker = get_worker_info()
            assert worker is not None
            share = derive_seed(seed, "worker", worker.id)
            return pretraining_batches(tokenizer, settings, mixture, Random(share))

    return DataLoader(
        Stream(), batch_size=None, num_workers=settings.workers, prefetch_factor=8,
        collate_fn=list, multiprocessing_context="fork",
    )  # fmt: skip


def pretrain(
    folder: Path,
    settings: Pretraining,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, object]:
    """Train a base and write it to `folder`; returns its manifest, also written there."""
    if settings.dtype != "auto":  # otherwise what the process uses stays
        use_hardware(dtype=settings.dtype)
    if settings.start is None:
        tokenizer = build_tokenizer(settings.domains, settings.object_names, settings.in_order)
        model = build_model(settings.seed, len(tokenizer), settings.layers, settings.width)
    else:
        model, tokenizer = load(settings.start, dtype="float32")  # not rounded first
        made, asked = model.config, (settings.layers, settings.width)
        if asked not in ((made.num_hidden_layers, made.hidden_size), (LAYERS, WIDTH)):
            raise InvalidInput(
                f"the base {settings.start} has {made.num_hidden_layers} layers of width "
                f"{made.hidden_size}, and --layers and --width are those of a new one: leave them "
                "out"
            )
        settings = replace(settings, layers=made.num_hidden_layers, width=made.hidden_size)
        words = vocabulary(settings.domains, settings.object_names)
        if missing := sorted(set(words) - tokenizer.get_vocab().keys()):
            raise InvalidInput(
                f"the base {settings.start} does not know {len(missing)} words of these domains "
                f"and names, such as {', '.join(missing[:5])}; name its own domains and --names"
            )
        tokenizer.init_kwargs["in_order"] = names_in_pddl(settings.in_order)
    model = model.float().to(hardware().device)
    losses: list[float] = []
    for phase, (mixture, steps, learning_rate) in enumerate(settings.phases):
        rows = _batches(tokenizer, settings, mixture, settings.seed + phase)
        losses += fit(model, rows, steps, Optimisation(learning_rate, warmup=100), on_step=on_step)
    save(model.half() if settings.half else model, tokenizer, folder)
    manifest = describe(settings, folder, losses)
    (folder / "pretraining.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def describe(settings: Pretraining, folder: Path, losses: Sequence[float]) -> dict[str, object]:
    """The manifest of the base in `folder`: its command, settings and hash of weights."""
    import torch

    threads = torch.get_num_threads()
    return {
        "command": f"posterity pretrain --domains {','.join(settings.domains)} "
        f"--seed {settings.seed} --steps {settings.steps} --batch {settings.batch} "
        f"--tail {settings.tail} "
        f"--names {settings.names} --threads {threads}"
        + (" --half" if settings.half else "")
        + (f" --in-order {','.join(settings.in_order)}" if settings.in_order else "")
        + (f" --start {settings.start}" if settings.start else "")
        + (f" --layers {settings.layers}" if settings.layers != LAYERS else "")
        + (f" --width {settings.width}" if settings.width != WIDTH else "")
        + (f" --workers {settings.workers}" if settings.workers else "")
        + (f" --dtype {settings.dtype}" if settings.dtype != "auto" else "")
        + (" --size {}-{}".format(*settings.size) if settings.size else ""),
        "threads": threads,
        "weights": weights_hash(folder),
        **asdict(settings),
        "started": settings.start and _origin(Path(settings.start)),
        "phases": [
            {"steps": steps, "learning_rate": learning_rate, **asdict(mixture)}
            for mixture, steps, learning_rate in settings.phases
        ],
        "sizes": settings.sizes,
        "prompt": str(PROMPTS["compact"]),
        "last_loss": round(sum(losses[-100:]) / len(losses[-100:]), 4),
    }


def _origin(folder: Path) -> dict[str, object]:
    """The manifest of the checkpoint in a folder, if it has one, and the hash of its weights."""
    manifest = folder / "pretraining.json"
    known = json.loads(manifest.read_text("utf-8")) if manifest.exists() else {}
    return {**known, "weights": weights_hash(folder)}
