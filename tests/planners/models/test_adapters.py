"""Adapters, interrupted training, parts of batches, validation: what is learned is the same."""

import math
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from planners.errors import CheckpointError, ComponentFailure, InvalidInput
from planners.models.checkpoint import load, weights_hash, with_adapter
from planners.models.likelihood import own_tokens, summed_logprobs
from planners.policies.local import LocalPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Sampling, Turn
from planners.training.fine_tuning import encode, fine_tune, hold_back
from planners.training.lessons import Lesson
from planners.training.loop import Optimisation, fit
from planners.training.objectives import (
    completion_loss,
    mean_loss,
    negative_aware_loss,
    policy_gradient_loss,
    weighted_loss,
)
from planners.training.resuming import Resumable
from planners.training.settings import Adapter, Training
from tests.conftest import blocks_task

SETTINGS = Training(
    steps=30, batch=4, learning_rate=1e-2, rename=False, shuffle=False,
    lora=Adapter(rank=4, alpha=8, dropout=0.1),
)  # fmt: skip
TOLD: Any = {"prompt": "compact", "seed": 1}
HOW = Optimisation(learning_rate=1e-2)


def lessons(count: int = 6) -> list[Lesson]:
    return [Lesson(blocks_task(3, 1, i), "(pickup b1)\n(stack b1 b2)\n") for i in range(count)]


def loss_of(folder: Path, base: Path | None) -> float:
    model, tokenizer = load(folder, base)
    return mean_loss(model, encode(lessons(), tokenizer, "compact"), 4)


def test_an_adapter_learns_and_its_base_stays(tiny_checkpoint: Path, tmp_path: Path) -> None:
    before = weights_hash(tiny_checkpoint)
    facts = fine_tune(tiny_checkpoint, lessons(), SETTINGS, tmp_path / "a", **TOLD)
    assert weights_hash(tiny_checkpoint) == before
    assert facts["last_loss"] < facts["first_loss"]
    first, untrained = loss_of(tmp_path / "a", tiny_checkpoint), loss_of(tiny_checkpoint, None)
    assert first < untrained - 0.5
    small = sum(file.stat().st_size for file in (tmp_path / "a").glob("*.safetensors"))
    whole = (tiny_checkpoint / "model.safetensors").stat().st_size
    assert small < whole / 4
    fine_tune(tmp_path / "a", lessons(), SETTINGS, tmp_path / "b", **TOLD, base=tiny_checkpoint)
    assert loss_of(tmp_path / "b", tiny_checkpoint) < first
    with pytest.raises(CheckpointError, match="cannot be read without its base"):
        load(tmp_path / "a")


def test_an_adapter_is_the_same_again(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fine_tune(tiny_checkpoint, lessons(), SETTINGS, tmp_path / name, **TOLD)
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("lora", [None, Adapter(rank=4, dropout=0.1)])
def test_interrupted_training_ends_with_the_same_weights(
    tiny_checkpoint: Path, tmp_path: Path, lora: Adapter | None
) -> None:
    def train(state: Resumable | None, killed_at: int = -1) -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(5)
        model, tokenizer = load(tiny_checkpoint)
        if lora is not None:
            with_adapter(model, lora.rank, lora.alpha, lora.dropout)
        rows = encode(lessons(), tokenizer, "compact")

        def on_step(step: int, loss: float) -> None:
            if step == killed_at:
                raise Killed

        batches = cycle([rows[:4], rows[4:], rows[1:3]])
        losses = fit(model, batches, 12, HOW, on_step=on_step, state=state)
        trained = [p.flatten() for p in model.parameters() if p.requires_grad]
        return losses, torch.cat(trained).detach()

    whole = train(None)
    state = Resumable(tmp_path / "run.training", "this run", every=0.0)
    for killed_at in (3, 7):
        with pytest.raises(Killed):
            train(state, killed_at)
    losses, weights = train(state)
    assert losses == whole[0]
    assert torch.equal(weights, whole[1])
    other = Resumable(tmp_path / "run.training", "another run")
    assert train(other)[0] == whole[0]
    state.forget()
    assert not list(tmp_path.iterdir())


def test_memory_that_ran_out_changes_nothing_that_is_resumed(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """The attempt that failed drew dropout, and a run that goes on fails anew at another step."""

    def objective(model: Any, part: Any) -> torch.Tensor:
        loss = completion_loss(model, part)
        if len(part) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return loss

    def train(state: Resumable | None, killed_at: int = -1) -> torch.Tensor:
        torch.manual_seed(5)
        model, tokenizer = load(tiny_checkpoint)
        with_adapter(model, 4, 8, 0.1)
        rows = encode(lessons(), tokenizer, "compact")

        def on_step(step: int, loss: float) -> None:
            if step == killed_at:
                raise Killed

        with pytest.warns(UserWarning, match="out of memory"):
            fit(model, cycle([rows[:4]]), 6, HOW, objective, on_step, state)
        return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]).detach()

    whole, state = train(None), Resumable(tmp_path / "run.training", "this run", every=0.0)
    with pytest.raises(Killed):
        train(state, 3)
    assert torch.equal(train(state), whole)


def test_a_broken_state_is_no_state(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model, tokenizer = load(tiny_checkpoint)
    (tmp_path / "run.training").write_bytes(b"half a state")
    rows = encode(lessons(), tokenizer, "compact")
    state = Resumable(tmp_path / "run.training", "this run")
    assert len(fit(model, cycle([rows]), 3, HOW, state=state)) == 3


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_parts_of_a_batch_give_its_gradient(tiny_checkpoint: Path) -> None:
    found = []
    for micro in (None, 1, 4):
        model, tokenizer = load(tiny_checkpoint)
        texts = ["(pickup b1)\n", "(pickup b1)\n(stack b1 b2)\n(unstack b1 b2)\n", ";\n"] * 2
        rows = encode(
            [Lesson(blocks_task(3 + i % 3, 1, i), text) for i, text in enumerate(texts)],
            tokenizer,
            "compact",
        )
        sgd = Optimisation(learning_rate=1e-30, micro=micro)
        losses = fit(model, [rows], 1, sgd)
        found.append((losses[0], gradient(model)))
    for loss, parts in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert torch.allclose(parts, found[0][1], atol=1e-6)


def test_reinforce_is_supervised_learning_where_every_advantage_is_one(
    tiny_checkpoint: Path,
) -> None:
    model, tokenizer = load(tiny_checkpoint)
    rows = encode(lessons(), tokenizer, "compact")
    plain = completion_loss(model, rows)
    same = policy_gradient_loss(model, [(*row, 1.0, None) for row in rows])
    assert same.item() == pytest.approx(plain.item(), rel=1e-6)
    none = policy_gradient_loss(model, [(*row, 0.0, -5.0) for row in rows])
    assert none.item() == 0
    then = summed_logprobs(model, rows).tolist()
    against = policy_gradient_loss(
        model, [(*row, -1.0, t) for row, t in zip(rows, then, strict=True)]
    )
    assert against.item() == pytest.approx(-plain.item(), rel=1e-4)
    tapered = policy_gradient_loss(
        model, [(*row, -1.0, t + math.log(4)) for row, t in zip(rows, then, strict=True)]
    )
    assert tapered.item() == pytest.approx(-plain.item() / 4, rel=1e-4)
    unknown = policy_gradient_loss(model, [(*row, -1.0, None) for row in rows])
    assert unknown.item() == 0


def test_on_its_own_samples_nft_has_the_gradient_of_reinforce(tiny_checkpoint: Path) -> None:
    def gradients(by: float) -> list[torch.Tensor]:
        """Of both, where the rows have become likelier since they were written by so many nats."""
        found = []
        for objective in (policy_gradient_loss, negative_aware_loss):
            model, tokenizer = load(tiny_checkpoint)
            rows = encode(lessons(), tokenizer, "compact")
            then = (summed_logprobs(model, rows).detach() - by).tolist()
            advantages = [0.75 if i % 2 else -0.25 for i in range(len(rows))]
            whole = zip(rows, advantages, then, strict=True)
            objective(model, [(*row, a, t) for row, a, t in whole]).backward()
            found.append(gradient(model))
        return found

    plain, aware = gradients(0.0)
    assert torch.allclose(plain, aware, rtol=1e-3, atol=1e-6)
    plain, aware = gradients(-math.inf)  # nothing is known of when they were written
    assert not torch.allclose(plain, gradients(0.0)[0], rtol=1e-3, atol=1e-6)
    assert torch.allclose(plain, aware, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["reinforce", "nft"])
def test_a_failure_that_was_cut_is_learned_as_it_was(
    method: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """With an end that it never had, it would look as if it had become very unlikely."""
    model, tokenizer = load(tiny_checkpoint)
    whole = encode(lessons(), tokenizer, "compact")
    cut = [(head, tail[:3]) for head, tail in whole]
    then = summed_logprobs(model, cut).tolist()
    given = [
        replace(one, weight=0.5 if i % 2 else -0.5, logprob=then[i], token_ids=tuple(tail))
        for i, (one, (_, tail)) in enumerate(zip(lessons(), cut, strict=True))
    ]
    found = encode(given, tokenizer, "compact")
    assert found[::2] == cut[::2], "failures"
    assert all(tail == [*ids, tokenizer.eos_token_id]
               for (_, tail), (_, ids) in zip(found[1::2], cut[1::2], strict=True))  # fmt: skip
    spoken = replace(given[0], turns=(Turn(4, 1), Turn(4, 1), Turn(4, 1)))
    [(head, tail)] = encode([spoken], tokenizer, "compact")
    assert (head, tail) == (cut[0][0], own_tokens(cut[0][1], [1, 1, 1])), "of several turns"
    settings = replace(SETTINGS, lora=None, method=method)
    assert fine_tune(tiny_checkpoint, given, settings, tmp_path / "a", **TOLD)["rows"] == 6


def test_weights_are_learned(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Half of the lessons at another weight: other weights of the model, the more the smaller."""
    settings = replace(SETTINGS, lora=None)
    losses = {}
    for weight in (1.0, 0.5, 0.01):
        given = [replace(one, weight=weight if i % 2 else 1.0) for i, one in enumerate(lessons())]
        fine_tune(tiny_checkpoint, given, settings, tmp_path / str(weight), **TOLD)
        model, tokenizer = load(tmp_path / str(weight))
        light = encode(given[1::2], tokenizer, "compact")
        losses[weights_hash(tmp_path / str(weight))] = mean_loss(model, light, 4)
    assert len(losses) == 3
    assert sorted(losses.values()) == list(losses.values())


def test_a_weight_is_a_factor_of_the_gradient(tiny_checkpoint: Path) -> None:
    model, tokenizer = load(tiny_checkpoint)
    rows = encode(lessons(), tokenizer, "compact")
    plain = completion_loss(model, rows)
    for weight in (1.0, 0.25):
        told = weighted_loss(model, [(*row, weight, None) for row in rows])
        assert told.item() == pytest.approx(weight * plain.item(), rel=1e-5)
    half = weighted_loss(model, [(*row, float(i % 2), None) for i, row in enumerate(rows)])
    lengths = [len(tail) for _, tail in rows]
    only = completion_loss(model, rows[1::2]).item() * sum(lengths[1::2]) / sum(lengths)
    assert half.item() == pytest.approx(only, rel=1e-5)


@pytest.mark.parametrize("weights", [[-0.5, 1.0], [0.0, 0.0]])
def test_weights_that_cannot_be_learned_are_refused(
    weights: list[float], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    given = [replace(one, weight=w) for one, w in zip(lessons(2), weights, strict=True)]
    with pytest.raises(InvalidInput, match="supervised learning needs weights of at least 0"):
        fine_tune(tiny_checkpoint, given, SETTINGS, tmp_path / "none", **TOLD)
    assert not list(tmp_path.iterdir())


def test_all_that_teaches_may_not_be_held_back(tiny_checkpoint: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, lora=None, validation=0.25)
    [teaches] = hold_back(lessons(4), 0.25, TOLD["seed"])[1]
    given = [replace(one, weight=float(one.task.key == teaches.task.key)) for one in lessons(4)]
    with pytest.raises(InvalidInput, match="supervised learning needs weights of at least 0"):
        fine_tune(tiny_checkpoint, given, settings, tmp_path / "none", **TOLD)


@pytest.mark.parametrize("method", ["reinforce", "nft"])
def test_the_better_answer_becomes_likelier(
    method: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    task = blocks_task(3, 1, 0)
    good, bad = "(pickup b1)\n(stack b1 b2)\n", "(pickup b3)\n"
    prompt, start = PROMPTS["compact"].write(task), LocalPolicy(*load(tiny_checkpoint))
    then = start.logprobs([(prompt, bad)])[0]
    rollouts = [Lesson(task, good, 0.5), Lesson(task, bad, -0.5, then)]
    settings = replace(SETTINGS, lora=None, method=method, learning_rate=1e-3, steps=10)
    fine_tune(tiny_checkpoint, rollouts, settings, tmp_path / "a", **TOLD)
    for folder in (tiny_checkpoint, tmp_path / "a"):
        policy = LocalPolicy(*load(folder))
        gap = [policy.logprobs([(prompt, text)])[0] for text in (good, bad)]
        if folder == tiny_checkpoint:
            before = gap[0] - gap[1]
    assert gap[0] - gap[1] > before + 1


def test_what_is_held_back_is_never_learned(tiny_checkpoint: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, lora=None, validation=0.25, epochs=2, batch=3)
    learned, held = hold_back(lessons(8), 0.25, 1)
    assert (len(learned), len(held)) == (6, 2)
    assert not {x.task.key for x in learned} & {x.task.key for x in held}
    facts = fine_tune(tiny_checkpoint, lessons(8), settings, tmp_path / "a", **TOLD)
    assert (facts["rows"], facts["validation_rows"], facts["steps"]) == (6, 2, 4)
    assert facts["validation_loss_after"] < facts["validation_loss_before"]
    failures = [replace(one, weight=-0.5, logprob=-9.0) for one in held]
    mixed = [next((f for f in failures if f.task.key == one.task.key), one) for one in lessons(8)]
    against = replace(settings, method="reinforce")
    facts = fine_tune(tiny_checkpoint, mixed, against, tmp_path / "b", **TOLD)
    assert (facts["rows"], facts["validation_rows"]) == (6, 0)
    assert "validation_loss_before" not in facts, "what is to become less likely is no success"


class Crowded(LocalPolicy):
    """A machine with room for so many rows."""

    room = 3
    asked: list[int]

    def _decode(self, rows: Any, sampling: Sampling, seeds: Any, heard: Any) -> Any:
        self.asked.append(len(rows))
        if len(rows) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._decode(rows, sampling, seeds, heard)


def test_out_of_memory_halves_the_batch(tiny_checkpoint: Path) -> None:
    loaded = load(tiny_checkpoint)
    prompts = [PROMPTS["compact"].write(blocks_task(3, 1, i)) for i in range(8)]
    sampling = Sampling(max_new_tokens=8)
    crowded = Crowded(*loaded, batch=8)
    crowded.asked = []
    with pytest.warns(UserWarning, match="out of memory") as told:
        found = crowded.sample(prompts, sampling, range(8))
    assert str(told[0].message) == "out of memory with 8 rows: retrying with halves of the batch"
    assert crowded.asked == [8, 4, 2, 2, 4, 2, 2]
    plain = LocalPolicy(*loaded, batch=8).sample(prompts, sampling, range(8))
    assert [c.text for c in found] == [c.text for c in plain]
    crowded.room = 0
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(ComponentFailure, match=r"one prompt of .* does not fit into memory"),
    ):
        crowded.sample(prompts, sampling, range(8))
