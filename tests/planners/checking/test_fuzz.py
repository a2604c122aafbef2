"""Mutated PDDL, plans and bytes: never a crash, and nothing VALID that the naive replay rejects.

POSTERITY_FUZZ sets the number of inputs.
"""

import os
from random import Random

import pytest

from planners.checking.checker import Checker
from planners.checking.replay import replay
from planners.errors import PddlError
from planners.pddl import read_task
from planners.prompts.extraction import extract, extract_lines
from planners.records import Outcome
from tests.planners.checking.test_agreement import NAMES, text_of, walked_task

INPUTS = int(os.environ.get("POSTERITY_FUZZ", "3000"))
ALPHABET = "()?-:;= \n\t\r\0[]`<>/abAB01.\u0430\u2028\u00a0\U0001f600"
WORDS = ["(", ")", "(and", "(not", "(or", "(forall", "(when", "either", "-", "?x", "object"]
WORDS += ["kitchen", "=", "0:"]


def mangled(text: str, rng: Random) -> str:
    """The text after one to four random edits."""
    for _ in range(rng.randint(1, 4)):
        i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        j = min(j, i + 40)
        edit = rng.randrange(6)
        if edit == 0:
            text = text[:i] + text[j:]
        elif edit == 1:
            text = text[:i] + "".join(rng.choices(ALPHABET, k=rng.randint(1, 6))) + text[i:]
        elif edit == 2:
            text = text[:j] + text[i:j] * rng.randint(1, 3) + text[j:]
        elif edit == 3:
            text = text[:i] + rng.choice(WORDS) + " " + text[i:]
        elif edit == 4:
            lines = text.split("\n")
            rng.shuffle(lines)
            text = "\n".join(lines)
        else:
            text = text[:i] + text[i:j].swapcase() + text[j:]
    return text


@pytest.mark.parametrize("name", NAMES)
def test_no_input_crashes_the_checker_or_fools_it(name: str) -> None:
    rng = Random(f"fuzz {name} {os.environ.get('POSTERITY_FUZZ_SEED', '0')}")
    domain = text_of(name)
    judged = valid = refused = 0
    for number in range(INPUTS // len(NAMES)):
        if number % 50 == 0:
            problem, task, plan = walked_task(name, number)
            checker, answer = Checker(task), str(plan)
        part = rng.randrange(3)
        try:
            if part == 0:
                checked = Checker(read_task(mangled(domain, rng), problem))
            elif part == 1:
                checked = Checker(read_task(domain, mangled(problem, rng)))
            else:
                checked = checker
        except PddlError:
            refused += 1
            continue
        text = mangled(answer, rng) if part == 2 else answer
        found = (extract if rng.random() < 0.5 else extract_lines)(text)
        if found.plan is None:
            continue
        verdict = checked.check(found.plan)
        judged += 1
        valid += verdict.valid
        assert (verdict.outcome, verdict.step) == replay(checked.task, found.plan)
    assert judged > 0
    assert refused > 0
    assert valid > 0


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "(" * 1_000_000,
        "(pickup b1)\n" * 100_000,
        "(pickup " + "b1 " * 300_000 + ")",
        "1" * 100_000,
        "1" * 100_000 + ": (pickup b1)",
        "\0" * 1000,
        ";" * 1_000_000,
        "```\n" * 100_000,
        "(pickup b1)" * 50_000,
        "(pickup b1)" + " " * 300_000 + "x",
        "1" + "\t" * 300_000 + ": (pickup b1)",
    ],
    ids=lambda text: f"{text[:12]!r} {len(text)}",
)
def test_large_answers_are_judged(text: str) -> None:
    _, task, _ = walked_task("blocksworld", 0)
    for found in (extract_lines(text), extract(text, task.domain.actions)):
        if found.plan is None:
            assert len(found.reason) < 400
        else:
            assert Checker(task).check(found.plan).outcome in set(Outcome)
