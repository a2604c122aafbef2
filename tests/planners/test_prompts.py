"""Prompt formats (golden) and what comes back out of a completion."""

from random import Random

import pytest

from planners.errors import InvalidInput
from planners.extraction import extract
from planners.prompts import PROMPTS, rename, shuffle
from planners.records import Plan, Problem

TINY = Problem(
    "blocksworld",
    "p",
    (("b1", "object"), ("b2", "object")),
    (("arm-empty",), ("clear", "b1"), ("on", "b1", "b2"), ("on-table", "b2")),
    ("and", ("on", "b2", "b1"), ("on-table", "b1")),
)


def test_compact_is_as_agreed() -> None:
    assert str(PROMPTS["compact"]) == "compact-1"
    assert PROMPTS["compact"].write(TINY) == (
        " arm-empty\n b1 clear on b2 >@on b2 >on-table\n b2 @on b1 on-table >on b1\n"
    )


def test_compact_refuses_what_it_cannot_say() -> None:
    goal = ("or", ("clear", "b1"), ("clear", "b2"))
    problem = Problem(TINY.domain, TINY.name, TINY.objects, TINY.init, goal)
    with pytest.raises(InvalidInput, match="conjunction of atoms"):
        PROMPTS["compact"].write(problem)


def test_rename_and_shuffle_keep_the_content() -> None:
    there, back = {"b1": "b7", "b2": "b1"}, {"b7": "b1", "b1": "b2"}
    assert rename(rename(TINY, there), back) == TINY
    mixed = shuffle(TINY, Random(1))
    assert set(mixed.init) == set(TINY.init)
    assert set(mixed.goal) == set(TINY.goal)


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("(pickup b1)\n(stack b1 b2)\n", (("pickup", "b1"), ("stack", "b1", "b2"))),
        (
            "<think>(fly b9)</think>(PICKUP B1) ; first\n; cost = 1 (unit cost)\n",
            (("pickup", "b1"),),
        ),
        ("; nothing to do\n", ()),
        (
            "(pickup b1) (stack b1 b2)(pickup b3)",
            (("pickup", "b1"), ("stack", "b1", "b2"), ("pickup", "b3")),
        ),
        ("((pickup b1) (stack b1 b2))", None),
        ("```pddl\n(pickup b1)\n```\n", (("pickup", "b1"),)),
        (
            "0: (pickup b1) [1]\r\n1.5: (stack b1 b2) [1] ; end\r\n",
            (("pickup", "b1"), ("stack", "b1", "b2")),
        ),
        ("(pickup \u0430)", (("pickup", "\u0430"),)),
        ("(pickup \x00)", (("pickup", "\x00"),)),
        ("1: (pickup b1)\n0: (stack b1 b2)", None),
        ("plan: (pickup b1)", None),
        ("(pickup b1)\nand then (stack b1 b2)", None),
        ("(pickup b1 ; half\n)", None),
        ("", None),
        ("pickup b1", None),
        ("(pickup b1) (stack b1 b2", None),
        ("()", None),
        ("(pickup (b1))", None),
        ("Sure! Here is the plan", None),
    ],
)
def test_extraction(text: str, actions: tuple[tuple[str, ...], ...] | None) -> None:
    found = extract(text)
    assert found.plan == (None if actions is None else Plan(actions))
    assert bool(found.reason) == (actions is None)
