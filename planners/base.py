"""The embedded base model: a Llama of about a million parameters that knows short plans.

It is pretrained on short random walks (with an optimal plan each) over every size, so that it
speaks the language of plans and solves short-horizon tasks, nothing more. A thin tail of longer
walks keeps longer plans possible: what a base never samples, no curation can select.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from planners import prompts
from planners.domains import blocksworld
from planners.fine_tuning import weights_hash
from planners.local import save
from planners.records import Plan, Problem
from planners.training import WINDOW, Row, fit

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

OBJECT_NAMES = tuple(f"b{i + 1}" for i in range(24))
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WORDS = ("\n", ")\n", "<think>", "</think>")
PREDICATES = {"arm-empty": 0, "holding": 1, "clear": 1, "on-table": 1, "on": 2}
SCHEMAS = ("pickup", "putdown", "stack", "unstack")
PIECES = r"\([^\s()]+|\)\n| [^\s()]+|\n|[^\s()]+|\s|\(|\)"
"""How text falls into tokens: "(stack", " b1", ")\\n", " on", " >on", newline."""


def embedded_base() -> Path:
    """The folder of the base model that comes with Posterity."""
    return Path(str(files("planners").joinpath("embedded")))


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What determines the base. `tail`: chance of each further move; `walks`: share of aimless
    walks.
    """

    seed: int = 0
    steps: int = 5000
    batch: int = 64
    learning_rate: float = 2e-3
    sizes: range = range(3, 13)
    tail: float = 0.25
    walks: float = 0.35
    longest_walk: int = 14


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over plan words and object names; decoding gives the text back."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *WORDS]
    words += [
        mark + "@" * position + predicate
        for predicate, arity in PREDICATES.items()
        for position in range(max(1, arity))
        for mark in (" ", " >")
    ]
    words += [f"({schema}" for schema in SCHEMAS]
    words += [f" {name}" for name in OBJECT_NAMES]
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
        object_names=list(OBJECT_NAMES),
    )


def build_model(seed: int, vocabulary: int, layers: int = 4, width: int = 128) -> LlamaForCausalLM:
    """The untrained base, a plain Llama in float32."""
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


def pretraining_example(rng: Random, settings: Pretraining) -> tuple[str, Plan]:
    """A prompt and a plan, its objects under random names and everything in random order."""
    size = rng.choice(settings.sizes)
    problem, plan = (
        aimless_walk(size, rng, settings.longest_walk)
        if rng.random() < settings.walks
        else short_task(size, rng, settings.tail)
    )
    names = dict(zip((n for n, _ in problem.objects), rng.sample(OBJECT_NAMES, size), strict=True))
    problem = prompts.shuffle(prompts.rename(problem, names), rng)
    actions = tuple((schema, *(names[o] for o in rest)) for schema, *rest in plan.actions)
    return prompts.compact(problem), Plan(actions)


def short_task(size: int, rng: Random, tail: float) -> tuple[Problem, Plan]:
    """A task with an optimal plan of one move, one more with probability `tail`, and so on."""
    while True:
        horizon = 1
        while rng.random() < tail:
            horizon += 1
        found = blocksworld.solved_example(size, min(horizon, size), rng, attempts=20)
        if found is not None:
            return found


def aimless_walk(size: int, rng: Random, longest: int) -> tuple[Problem, Plan]:
    """A task that wants nothing, and a walk that is possible in it: how the world moves, no
    planning.
    """
    init = blocksworld.random_state([f"b{i + 1}" for i in range(size)], rng)
    _, path = blocksworld.walk(init, rng.randint(1, longest), rng)
    return blocksworld.problem_of(init, None, rng), blocksworld.plan_of(init, path)


def pretraining_batches(
    tokenizer: PreTrainedTokenizerFast, rng: Random, settings: Pretraining
) -> Iterator[list[Row]]:
    """An endless stream of batches of rows of similar length."""
    batch = settings.batch
    while True:
        examples = [pretraining_example(rng, settings) for _ in range(batch * WINDOW)]
        texts = tokenizer([prompt for prompt, _ in examples])["input_ids"]
        plans = tokenizer([str(plan) for _, plan in examples], add_special_tokens=False)[
            "input_ids"
        ]
        rows = [
            (text, [*plan, tokenizer.eos_token_id]) for text, plan in zip(texts, plans, strict=True)
        ]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        chunks = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        rng.shuffle(chunks)
        yield from chunks


def pretrain(
    folder: Path,
    settings: Pretraining,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, object]:
    """Make the base from nothing and write it to `folder`; returns the manifest written beside
    it.
    """
    import torch

    tokenizer = build_tokenizer()
    model = build_model(settings.seed, len(tokenizer))
    rows = pretraining_batches(tokenizer, Random(settings.seed), settings)
    losses = fit(model, rows, settings.steps, settings.learning_rate, warmup=100, on_step=on_step)
    save(model, tokenizer, folder)
    threads = torch.get_num_threads()
    manifest = {
        "command": f"posterity pretrain --seed {settings.seed} --steps {settings.steps} "
        f"--threads {threads}",
        "threads": threads,
        "weights": weights_hash(folder),
        **asdict(settings),
        "sizes": [settings.sizes.start, settings.sizes.stop - 1],
        "prompt": str(prompts.PROMPTS["compact"]),
        "last_loss": round(sum(losses[-100:]) / len(losses[-100:]), 4),
    }
    (folder / "pretraining.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest
