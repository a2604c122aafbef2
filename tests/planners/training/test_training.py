"""Fine-tuning: rows that teach nothing are refused, the loss falls, the same seed gives the same
weights.
"""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.errors import ComponentFailure, InvalidInput
from planners.models.checkpoint import load
from planners.models.embedded import EMBEDDED, embedded_base, in_order, object_names
from planners.models.likelihood import IGNORED, collate
from planners.pddl import canonical, read_task
from planners.pddl.isomorphism import shape
from planners.pddl.printing import print_problem
from planners.pddl.reader import changing
from planners.prompts.formats import OBJECT_NAMES, PROMPTS
from planners.records import Plan, Turn
from planners.training.curriculum import Pretraining
from planners.training.distributed import fine_tune_in
from planners.training.fine_tuning import Batches, encode, fine_tune, weights_hash
from planners.training.lessons import Lesson, vary
from planners.training.loop import length_batches, preflight
from planners.training.objectives import completion_loss
from planners.training.pretraining import build_tokenizer, pretrain
from planners.training.settings import Training
from planners.training.warmup import warm_up_lessons
from tests.conftest import blocks_task

SETTINGS = Training(steps=60, batch=4, learning_rate=3e-3)
TOLD: Any = {"prompt": "compact", "seed": 1}


def lessons() -> list[Lesson]:
    return [Lesson(blocks_task(3, 1, i), "(pickup b1)\n(stack b1 b2)\n") for i in range(6)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty"),
        ([([1], [])], "row 0 has no supervised token: its completion is empty"),
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
    facts = fine_tune(tiny_checkpoint, lessons(), SETTINGS, tmp_path / "a", **TOLD)
    assert facts["last_loss"] < facts["first_loss"] / 2
    assert facts["supervised_tokens"] > facts["steps"] * 4 * facts["min_supervised_tokens"] / 2
    fine_tune(tiny_checkpoint, lessons(), SETTINGS, tmp_path / "b", **TOLD)
    assert (
        weights_hash(tmp_path / "a")
        == weights_hash(tmp_path / "b")
        != weights_hash(tiny_checkpoint)
    )
    assert not list(tmp_path.glob("*.partial"))


def test_a_warm_up_teaches_plans_in_its_prompts_names() -> None:
    rng = Random(0)
    for prompt in ("letters", "compact", "obfuscated"):
        for lesson in warm_up_lessons(
            ["ferry", "blocksworld"], (3, 4), [1, 1], 6, set(), prompt, rng
        ):
            plan = PROMPTS[prompt].read(lesson.task, lesson.completion).plan
            assert Checker(lesson.task).check(plan).valid
    barred = {shape(blocks_task(2, 1, seed)) for seed in range(60)}
    with pytest.raises(InvalidInput, match="in no split"):
        warm_up_lessons(["blocksworld"], (2, 2), [1], 6, barred, "letters", rng)


def test_renaming_changes_prompt_and_completion_alike() -> None:
    tokenizer = build_tokenizer()
    lesson = Lesson(blocks_task(4, 1, 0), "(pickup b1)\n(stack b1 b2)\n")
    changed = vary(lesson, tokenizer, SETTINGS, "compact", Random(5))
    names = {name for name, _ in changed.task.problem.objects}
    words = set(changed.completion.replace("(", " ").replace(")", " ").split())
    assert len(names) == 4
    assert words <= names | {"pickup", "stack"}
    assert changed.completion != lesson.completion


def test_a_goal_that_is_no_conjunction_of_atoms_is_shuffled_as_it_is() -> None:
    text = print_problem(blocks_task(3, 1, 0).problem).replace("(:goal (and", "(:goal (or")
    task = read_task(DOMAINS["blocksworld"].text, text)
    changed = vary(Lesson(task, "(pickup b1)\n"), build_tokenizer(), SETTINGS, "pddl", Random(1))
    assert [part[0] for part in changed.task.problem.goal[1:]] == ["or"]


def test_a_constant_that_is_named_like_a_prompts_objects_keeps_its_name_alone() -> None:
    domain = """(define (domain d) (:requirements :strips) (:constants b1 a) (:predicates (on ?x))
        (:action off :parameters (?x) :precondition (on ?x) :effect (not (on ?x))))"""
    problem = """(define (problem p) (:domain d) (:objects x y) (:init (on x) (on y) (on b1))
        (:goal (on y)))"""
    task = read_task(domain, problem)
    for prompt in ("compact", "letters"):
        plan = Plan((("off", "x"), ("off", "b1")))
        written = PROMPTS[prompt].restate(task, "", plan)
        assert PROMPTS[prompt].read(task, written).plan == plan
        for seed in range(20):
            changed = vary(Lesson(task, written), build_tokenizer(), SETTINGS, prompt, Random(seed))
            names = [name for name, _ in changed.task.problem.objects]
            assert len(set(names)) == len(names)
            found = PROMPTS[prompt].read(changed.task, changed.completion).plan
            assert found is not None
            assert Checker(changed.task).check(found).valid


def test_a_failure_is_weighed_as_it_was_written_and_the_rest_is_renamed() -> None:
    """Its chance is compared with that when it was written, which is of its own words."""
    task = blocks_task(4, 1, 0)
    told = [Lesson(task, "(pickup b1)\n", weight, -1.0) for weight in (-0.5, 0.5)]
    batches = iter(Batches(told, build_tokenizer(), replace(SETTINGS, batch=2), "compact", 3))
    own = encode(told[:1], build_tokenizer(), "compact")[0]
    for _ in range(5):
        rows = {weight: (head, tail) for head, tail, weight, _ in next(batches)}
        assert rows[-0.5] == own
        assert rows[0.5][0] != own[0]


def test_what_is_no_number_ends_training(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ComponentFailure, match=r"nothing can be learned.*training.learning_rate"):
        fine_tune(tiny_checkpoint, lessons(), replace(SETTINGS, learning_rate=1e30),
                  tmp_path / "x", **TOLD)  # fmt: skip
    assert not (tmp_path / "x").exists()
    odd = [replace(lessons()[0], weight=float("nan")), *lessons()[1:]]
    with pytest.raises(InvalidInput, match="infinite or NaN"):
        fine_tune(tiny_checkpoint, odd, SETTINGS, tmp_path / "x", **TOLD)


def test_lessons_in_a_prompts_own_names_are_renamed_too() -> None:
    found = DOMAINS["childsnack"].solved_example(2, 3, Random(0))
    assert found is not None
    task = read_task(DOMAINS["childsnack"].text, print_problem(found[0]))
    given = PROMPTS["compact"].names(task)
    answer = Plan(tuple(tuple(given.get(w, w) for w in action) for action in found[1].actions))
    tokenizer = build_tokenizer(("childsnack",), OBJECT_NAMES)
    changed = vary(Lesson(task, str(answer)), tokenizer, SETTINGS, "compact", Random(5))
    assert ("kitchen", "place") in changed.task.problem.objects
    plan = PROMPTS["compact"].read(changed.task, changed.completion).plan
    assert plan is not None
    assert plan != answer
    assert Checker(changed.task).check(plan).valid


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(PROMPTS)),
    st.sampled_from(["blocksworld", "childsnack", "ferry", "miconic", "spanner"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["lines", "upper case", "calls", "json"]),
    st.integers(0, 999),
)
def test_a_varied_lesson_answers_its_varied_prompt(
    prompt: str, domain: str, renamed: bool, shuffled: bool, pool: bool, form_of: str, seed: int
) -> None:
    """Whatever changes names or order: what is taught is valid for what is asked."""
    entry, form = DOMAINS[domain], PROMPTS[prompt]
    found = entry.solved_example(entry.smallest + 1, 3, Random(seed))
    if found is None:  # no walk from this seed
        return
    task = read_task(entry.text, print_problem(found[0]))
    written = form.restate(task, str(found[1]), found[1])
    actions = [line.strip("()").split() for line in written.splitlines()]
    written = {
        "lines": written, "upper case": written.upper(), "json": json.dumps(actions),
        "calls": "\n".join(f"{name}({', '.join(rest)})" for name, *rest in actions),
    }[form_of]  # fmt: skip
    lesson = Lesson(task, written)
    tokenizer = build_tokenizer((domain,), OBJECT_NAMES if pool else ())
    how = replace(SETTINGS, rename=renamed, shuffle=shuffled)
    changed = vary(lesson, tokenizer, how, prompt, Random(seed))
    plan = form.read(changed.task, changed.completion).plan
    assert plan is not None
    assert Checker(changed.task).check(plan).valid
    assert form.write(changed.task)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PROMPTS)),
    st.sampled_from(["sokoban", "transport", "rovers", "childsnack"]),
    st.integers(0, 999),
)
def test_what_a_model_knows_in_order_is_turned_and_mirrored(
    prompt: str, domain: str, seed: int
) -> None:
    """Names change places only as far as the map stays the same, and the answer still answers."""
    entry, form = DOMAINS[domain], PROMPTS[prompt]
    found = entry.solved_example(entry.smallest + 1, 3, Random(seed))
    if found is None:  # no walk from this seed
        return
    task = read_task(entry.text, print_problem(canonical(found[0])))
    lesson = Lesson(task, form.restate(task, str(found[1]), found[1]))
    tokenizer = build_tokenizer((domain,), OBJECT_NAMES, in_order=(domain,))
    changed = vary(lesson, tokenizer, SETTINGS, prompt, Random(seed))
    plan = form.read(changed.task, changed.completion).plan
    assert plan is not None
    assert Checker(changed.task).check(plan).valid
    assert changed.task.problem.objects == task.problem.objects
    assert shape(changed.task) == shape(task)
    still = changing(task.domain)
    before, after = (
        {fact for fact in one.problem.init if fact[0] not in still} for one in (task, changed.task)
    )
    assert before == after
    kept = vary(lesson, tokenizer, replace(SETTINGS, rename=False), prompt, Random(seed))
    assert kept == lesson


def test_the_tokenizer_gives_texts_back(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(in_order=("rovers",))
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(tmp_path)
    assert object_names(again) == object_names(tokenizer) != []
    assert in_order(again) == ["rover"]
    text = " arm-empty\n b1 clear >on b2\n(pickup b1)\n(stack b1 b2)\n"
    assert again.decode(again(text)["input_ids"], skip_special_tokens=True) == text


def test_pretraining_repeats(tmp_path: Path) -> None:
    settings = Pretraining(("ferry", "blocksworld"), seed=3, steps=2, batch=4)
    torch.set_num_threads(1)
    for name in ("a", "b"):
        pretrain(tmp_path / name, settings)
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b")


def test_a_base_that_is_trained_further_says_from_where(tmp_path: Path) -> None:
    first = Pretraining(("rovers", "ferry"), steps=1, batch=2, names=48)
    pretrain(tmp_path / "a", first)
    further = replace(
        first, domains=("rovers",), start=str(tmp_path / "a"), in_order=("rovers",), half=True
    )
    manifest = pretrain(tmp_path / "b", further)
    assert manifest["started"] == json.loads((tmp_path / "a" / "pretraining.json").read_text())
    assert str(manifest["command"]).endswith(f"--in-order rovers --start {tmp_path / 'a'}")
    assert in_order(load(tmp_path / "a")[1]) == []
    assert in_order(load(tmp_path / "b")[1]) == ["rover"]
    with pytest.raises(InvalidInput, match="words of these domains and names, such as"):
        pretrain(tmp_path / "c", replace(further, domains=("spanner",), in_order=()))
    with pytest.raises(InvalidInput, match="those of a new one"):
        pretrain(tmp_path / "c", replace(further, layers=further.layers + 1))
    assert not (tmp_path / "c").exists()


def test_the_embedded_bases_are_those_recorded() -> None:
    manifests = [json.loads(path.read_text()) for path in EMBEDDED.glob("*/pretraining.json")]
    weights = [path.stat().st_size for path in EMBEDDED.glob("*/*.safetensors")]
    assert max(weights) < 4_000_000
    assert sum(weights) < 2**23  # 8 MiB
    for manifest in manifests:
        for domain in manifest["domains"]:
            known = json.loads((embedded_base([domain]) / "pretraining.json").read_text())
            assert len(known["domains"]) <= len(manifest["domains"])  # the one that knows it best
        folder = embedded_base(manifest["domains"])
        assert manifest["weights"] == weights_hash(folder)
        assert manifest["prompt"] == str(PROMPTS["compact"])
        assert next(load(folder)[0].parameters()).dtype == torch.float32
    with pytest.raises(InvalidInput, match="no embedded base knows tetris"):
        embedded_base(["tetris"])


def test_two_processes_make_the_steps_of_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Of conversations too, the first turn of which is not learned."""
    settings = replace(SETTINGS, steps=12, batch=3)
    tried, told, said = "(pickup b1)\n", "(pickup b2)\n", "(pickup b3)\n"
    turns = tuple(Turn(len(part), 0) for part in (tried, told, said))
    given = [replace(lessons()[0], completion=tried + told + said, turns=turns, silent=1),
             *lessons()[1:]]  # fmt: skip
    alone: list[float] = []
    together: list[float] = []
    facts = fine_tune(
        tiny_checkpoint, given, settings, tmp_path / "a",
        on_step=lambda step, loss: alone.append(loss), **TOLD,
    )  # fmt: skip
    shared = fine_tune_in(
        2, tiny_checkpoint, given, settings, tmp_path / "b",
        on_step=lambda step, loss: together.append(loss), **TOLD,
    )  # fmt: skip
    assert together == pytest.approx(alone, rel=1e-4)
    assert shared.pop("losses") == pytest.approx(facts.pop("losses"), rel=1e-4)
    assert shared == pytest.approx(facts, rel=1e-4)
    first, second = (load(tmp_path / name)[0].state_dict() for name in "ab")
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_several_processes_fail_as_one_does(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the training set is empty"):
        fine_tune_in(2, tiny_checkpoint, [], SETTINGS, tmp_path / "none", **TOLD)

    def stop(step: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune_in(
            2, tiny_checkpoint, lessons(), SETTINGS, tmp_path / "stopped", on_step=stop, **TOLD
        )
    assert not (tmp_path / "stopped").exists()


def test_sampled_ids_are_learned_whatever_token_ended_them() -> None:
    """An instruction model ends with a token of its own; the audit measures what it wrote."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    [(_, said)] = encode(lessons()[:1], tokenizer, "compact")
    sampled = replace(lessons()[0], token_ids=(*said[:-1], said[-2], turn))
    assert encode([sampled], tokenizer, "compact")[0][1] == [*said[:-1], said[-2], said[-1]]
    for ids in (sampled.token_ids, sampled.token_ids[:-1]):
        one = replace(sampled, token_ids=ids)
        assert encode([one], tokenizer, "compact", as_sampled=True)[0][1] == list(ids)


@pytest.mark.parametrize("method", ["reinforce", "nft"])
def test_failures_that_nothing_can_be_learned_from_are_told(
    method: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """A server told no log-probabilities."""
    failed = [replace(lesson, weight=-0.5) for lesson in lessons()]
    told = replace(SETTINGS, method=method, steps=1)
    with pytest.raises(InvalidInput, match=f"none of {len(failed)} failures has the log-prob"):
        fine_tune(tiny_checkpoint, failed, told, tmp_path / "a", **TOLD)
    some = [replace(failed[0], logprob=-3.0), *failed[1:]]
    assert fine_tune(tiny_checkpoint, some, told, tmp_path / "b", **TOLD)["losses"]
