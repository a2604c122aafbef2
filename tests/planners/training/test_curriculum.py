"""What bases are pretrained on: possible, in the base's own words, the same for the same seed."""

from itertools import islice
from random import Random

import pytest

from planners.checking.checker import Checker
from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.prompts.formats import compact
from planners.records import Outcome
from planners.training.curriculum import LOST, Pretraining, examples
from planners.training.pretraining import build_tokenizer


@pytest.mark.parametrize("name", DOMAINS)
def test_examples_are_told_in_words_the_tokenizer_knows(name: str) -> None:
    settings = Pretraining((name,), names=64)
    tokenizer = build_tokenizer(settings.domains, settings.object_names)
    drawn = list(islice(examples(settings, LOST, Random(1)), 60))
    goals = 0
    for task, plan in drawn:
        for text in (compact(task), str(plan)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
        verdict = Checker(task).check(plan)
        assert verdict.outcome in (Outcome.VALID, Outcome.GOAL_NOT_REACHED)
        goals += verdict.valid and len(task.problem.goal) > 1
    assert goals > 10
    again = islice(examples(settings, LOST, Random(1)), 60)
    assert [(compact(t), p) for t, p in drawn] == [(compact(t), p) for t, p in again]


def test_a_domain_in_order_must_be_taught() -> None:
    with pytest.raises(InvalidInput, match="sokoban is to be taught in order"):
        Pretraining(("ferry",), in_order=("sokoban",))


@pytest.mark.parametrize("size", [(1, 1), (6, 5)])
def test_sizes_that_no_task_has_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="tasks of blocksworld have sizes from 2"):
        Pretraining(size=size)


def test_in_order_a_cells_name_says_where_it_is() -> None:
    """As in the prompts of written tasks, whose objects are sorted: columns, each from below."""
    settings = Pretraining(("sokoban",), names=48, in_order=("sokoban",))
    for task, plan in islice(examples(settings, LOST, Random(0)), 20):
        names = [name for name, kind in task.problem.objects if kind != "direction"]
        assert names == [f"b{i + 1}" for i in range(len(names))]
        sides = [atom for atom in task.problem.init if atom[0] == "adjacent"]
        side = round(sum(kind == "location" for _, kind in task.problem.objects) ** 0.5)
        for _, here, there, direction in sides:
            step = {"up": 1, "down": -1, "right": side, "left": -side}[direction]
            assert int(there[1:]) - int(here[1:]) == step
        outcome = Checker(task).check(plan).outcome
        assert outcome in (Outcome.VALID, Outcome.GOAL_NOT_REACHED)
