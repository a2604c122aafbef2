"""Fine-tuning: rows that teach nothing are refused, the loss falls, the same seed gives the same
weights.
"""

import json
from pathlib import Path
from random import Random

import pytest
import torch

from planners.base import (
    Pretraining,
    build_tokenizer,
    embedded_base,
    pretrain,
    pretraining_example,
)
from planners.errors import InvalidInput
from planners.fine_tuning import (
    Lesson,
    Settings,
    encode,
    fine_tune,
    object_names,
    vary,
    weights_hash,
)
from planners.local import load
from planners.prompts import PROMPTS
from planners.training import IGNORED, collate, completion_loss, length_batches, preflight
from tests.conftest import blocks_task

SETTINGS = Settings(
    steps=60, batch=4, learning_rate=3e-3, rename=True, shuffle=True, prompt="compact", seed=1
)


def lessons() -> list[Lesson]:
    return [Lesson(blocks_task(3, 1, i), "(pickup b1)\n(stack b1 b2)\n") for i in range(6)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty"),
        ([([1], [])], "row 0 has no supervised token"),
        ([([1], [3, 2]), ([1], [3])], "row 1 does not end"),
        ([([1] * 9, [2])], "has 10 tokens"),
    ],
)
def test_rows_that_teach_nothing_are_refused(rows: list, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        preflight(rows, eos=2, max_length=9)


def test_only_completions_are_supervised() -> None:
    ids, labels = collate([([5, 6, 7], [8, 2]), ([5], [2])])
    assert ids.tolist() == [[5, 6, 7, 8, 2], [5, 2, 0, 0, 0]]
    assert labels.tolist() == [[IGNORED] * 3 + [8, 2], [IGNORED, 2] + [IGNORED] * 3]


def test_every_row_once_an_epoch() -> None:
    rows = [([i] * (i % 5 + 1), [2]) for i in range(97)]
    seen = [row for batch in length_batches(rows, 4, Random(0)) for row in batch]
    assert sorted(seen) == sorted(rows)


def test_loss_is_that_of_the_model_itself(tiny_checkpoint: Path) -> None:
    model, tokenizer = load(tiny_checkpoint)
    rows = encode(lessons(), tokenizer, "compact")
    ids, labels = collate(rows)
    assert completion_loss(model, rows).item() == pytest.approx(
        model(input_ids=ids, labels=labels).loss.item(), rel=1e-5
    )


def test_fine_tuning_learns_and_repeats(tiny_checkpoint: Path, tmp_path: Path) -> None:
    facts = fine_tune(tiny_checkpoint, lessons(), SETTINGS, tmp_path / "a")
    assert facts["last_loss"] < facts["first_loss"] / 2
    assert facts["supervised_tokens"] > facts["steps"] * 4 * facts["min_supervised_tokens"] / 2
    fine_tune(tiny_checkpoint, lessons(), SETTINGS, tmp_path / "b")
    assert (
        weights_hash(tmp_path / "a")
        == weights_hash(tmp_path / "b")
        != weights_hash(tiny_checkpoint)
    )
    assert not list(tmp_path.glob("*.partial"))


def test_renaming_changes_prompt_and_completion_alike() -> None:
    tokenizer = build_tokenizer()
    lesson = Lesson(blocks_task(4, 1, 0), "(pickup b1)\n(stack b1 b2)\n")
    changed = vary(lesson, object_names(tokenizer), SETTINGS, Random(5))
    names = {name for name, _ in changed.task.problem.objects}
    words = set(changed.completion.replace("(", " ").replace(")", " ").split())
    assert len(names) == 4
    assert words <= names | {"pickup", "stack"}
    assert changed.completion != lesson.completion


def test_the_tokenizer_gives_texts_back(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(tmp_path)
    assert object_names(again) == object_names(tokenizer) != []
    for seed in range(50):
        prompt, plan = pretraining_example(Random(seed), Pretraining())
        ids = again(prompt + str(plan))["input_ids"]
        assert again.unk_token_id not in ids
        assert again.decode(ids, skip_special_tokens=True) == prompt + str(plan)


def test_pretraining_repeats(tmp_path: Path) -> None:
    settings = Pretraining(seed=3, steps=2, batch=4, sizes=range(3, 5))
    torch.set_num_threads(1)
    for name in ("a", "b"):
        pretrain(tmp_path / name, settings)
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b")


def test_the_embedded_base_is_the_one_recorded() -> None:
    manifest = json.loads((embedded_base() / "pretraining.json").read_text())
    assert manifest["weights"] == weights_hash(embedded_base())
    assert manifest["prompt"] == str(PROMPTS["compact"])
    assert sum(file.stat().st_size for file in embedded_base().iterdir()) < 8_000_000
    load(embedded_base())
