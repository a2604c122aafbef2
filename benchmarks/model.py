"""Sampling against a plain `generate` call, training against TRL's SFTTrainer: the same model, the
same work, the quickstart's.
"""

from __future__ import annotations

import warnings
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoModelForCausalLM

from benchmarks.harness import Row, Scale, both_rows, compared, in_turn, say
from planners.domains import DOMAINS
from planners.domains.task_sets import fresh_tasks
from planners.models.checkpoint import load
from planners.models.embedded import embedded_base
from planners.models.hardware import use_threads
from planners.pddl import read_task
from planners.pddl.printing import print_problem
from planners.policies.local import LocalPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Sampling
from planners.training.fine_tuning import encode, fine_tune
from planners.training.lessons import Lesson
from planners.training.objectives import mean_loss
from planners.training.settings import Training

SAMPLES, BATCH = 16, 400
"""Completions of a task, and rows decoded together: what the quickstart does."""
ROWS, RATE = 32, 1e-3
"""Rows of a training step, and the learning rate."""
WRITE = PROMPTS["compact"].write


def samplings(scale: Scale) -> list[Row]:
    """Completions of the quickstart's tasks by the base that ships."""
    model, tokenizer = load(embedded_base(["blocksworld"]))
    threads = use_threads(0)
    policy = LocalPolicy(model, tokenizer, batch=BATCH, threads=threads)
    theirs = AutoModelForCausalLM.from_pretrained(embedded_base(["blocksworld"])).eval()
    rng = Random(0)
    stream = fresh_tasks("blocksworld", (5, 8), (3, 12), rng)
    text = DOMAINS["blocksworld"].text
    tasks = [
        read_task(text, print_problem(found.problem))
        for found in islice(stream, scale.of(10, 50, 100))
    ]
    prompts = [WRITE(task) for task in tasks for _ in range(SAMPLES)]
    sampling = Sampling(temperature=1.0, max_new_tokens=128)

    def ours() -> None:
        policy.sample(prompts, sampling, range(len(prompts)))

    def plain() -> None:
        for start in range(0, len(prompts), BATCH):
            some = tokenizer(
                prompts[start : start + BATCH], return_tensors="pt", padding=True,
                padding_side="left",
            )  # fmt: skip
            theirs.generate(
                input_ids=some["input_ids"], attention_mask=some["attention_mask"],
                do_sample=True, temperature=1.0, top_k=0, max_new_tokens=128,
            )  # fmt: skip

    name = f"sampling {len(prompts)} completions / generate in batches of {BATCH}"
    return both_rows(name, in_turn(name, ours, plain, scale.runs))


def trainings(scale: Scale) -> list[Row]:
    """Steps on plans for the quickstart's tasks; and the loss where each ends."""
    steps = scale.of(10, 30, 120)
    lessons, unseen = _lessons(scale.of(100, 600, 600)), _lessons(scale.of(50, 200, 200), seed=1)
    base = embedded_base(["blocksworld"])
    use_threads(0)
    losses: dict[str, list[float]] = {"ours": [], "peer": []}
    _, tokenizer = load(base)
    held = encode(unseen, tokenizer, "compact")
    training = Training(steps=steps, batch=ROWS, learning_rate=RATE, rename=False, shuffle=False)

    with TemporaryDirectory() as folder:
        made = Path(folder) / "ours"

        def ours() -> None:
            fine_tune(base, lessons, training, made, prompt="compact", seed=0)
            losses["ours"].append(mean_loss(load(made)[0], held, ROWS))

        def peer() -> None:
            model = sft_trained(base, lessons, steps, Path(folder) / "peer")
            losses["peer"].append(mean_loss(model, held, ROWS))

        name = f"training {steps} steps / TRL SFTTrainer"
        found = both_rows(name, in_turn(name, ours, peer, scale.runs))
    mine, theirs = (sum(of) / len(of) for of in losses.values())
    found.append(
        compared("training loss on unseen plans / TRL SFTTrainer", "nats a token", [mine], [theirs])
    )
    return found


def _lessons(count: int, seed: int = 0) -> list[Lesson]:
    """Tasks of the quickstart with plans as a generation might learn them."""
    entry, rng = DOMAINS["blocksworld"], Random(seed)
    found: list[Lesson] = []
    while len(found) < count:
        solved = entry.solved_example(rng.randint(5, 8), rng.randint(1, 8), rng)
        if solved is not None:
            task = read_task(entry.text, print_problem(solved[0]))
            found.append(Lesson(task, str(solved[1])))
    return found


def sft_trained(base: Path, lessons: list[Lesson], steps: int, folder: Path) -> Any:
    """Train with TRL as its documentation does; what is set is what makes the work the same, and
    what a CPU needs.
    """
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = load(base)
    rows = [{"prompt": WRITE(lesson.task), "completion": lesson.completion} for lesson in lessons]
    disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = SFTConfig(
            output_dir=str(folder), max_steps=steps, per_device_train_batch_size=ROWS,
            learning_rate=RATE, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_strategy="no", gradient_checkpointing=False,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=config, train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
    say(f"SFTTrainer: {steps} steps")
    return trainer.model.eval()
