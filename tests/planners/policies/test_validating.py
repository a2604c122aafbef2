"""The tool `validate`: its answers, which plan counts, and what is learned of a conversation."""

from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from planners.checking.checker import Checker
from planners.errors import InvalidInput
from planners.models.chat import told_ids
from planners.models.checkpoint import load
from planners.models.embedded import with_words
from planners.models.likelihood import heard, own_tokens, supervised, token_logprobs
from planners.policies.local import LocalPolicy
from planners.policies.validating import ValidatingPolicy, validate
from planners.prompts.formats import PROMPTS
from planners.records import Sampling
from planners.training.fine_tuning import encode
from planners.training.lessons import vary
from planners.training.objectives import completion_loss
from planners.training.settings import Training
from planners.training.warmup import warm_up_lessons
from tests.conftest import blocks_task

TASK = blocks_task(3, 1, 0)
CHECKER = Checker(TASK)


def call(plan: str) -> str:
    return f"<validate>\n{plan}</validate>"


def first_action() -> str:
    """Any ground action that can be carried out, as a line of a plan."""
    names = [name for name, _ in TASK.problem.objects]
    lines = [f"(unstack {one} {two})\n" for one in names for two in names]
    lines += [f"(pickup {one})\n" for one in names]
    works = [
        line
        for line in lines
        if "GOAL" in CHECKER.check(PROMPTS["pddl"].read(TASK, line).plan).outcome
    ]
    return works[0]


def test_what_the_tool_answers() -> None:
    prompt = PROMPTS["natural"]
    solved = warm_up_lessons(["blocksworld"], (3, 3), [1.0], 1, (), "compact", Random(0))[0]
    checker = Checker(solved.task)
    assert validate(checker, prompt, call(solved.completion)) == "\n<result>\nvalid\n</result>\n"
    short = validate(CHECKER, prompt, call(first_action()))
    assert short is not None
    assert short.startswith("\n<result>\ninvalid\n(")
    wrong = validate(CHECKER, prompt, call("(pickup nobody)\n"))
    assert wrong is not None
    assert "invalid\n(pickup nobody)\n" in wrong
    empty = validate(CHECKER, prompt, call(""))
    assert empty is not None
    assert "the answer is empty" in empty
    for no_call in ("(pickup b1)\n", call("(pickup b1)\n") + "so", "</validate>"):
        assert validate(CHECKER, prompt, no_call) is None


def test_the_tool_speaks_the_names_of_the_prompt() -> None:
    told = validate(CHECKER, PROMPTS["letters"], call("(stack a b)\n"))
    assert told is not None
    assert "(stack a b)" in told
    assert "b1" not in told


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("<validate>(a b)</validate>\n<result>\ninvalid\n</result>\n(c d)", "(c d)\n"),
        ("<validate>(a b)</validate>\n<result>\nvalid\n</result>\n", "(a b)\n"),
        ("<validate>(a b)</validate>", "(a b)\n"),
        ("<validate>(a b)</validate>\n<result>\nvalid\n</result>\n<validate>(c d)</validate>",
         "(c d)\n"),
        ("<result>\nvalid\n</result>\n", None),
        ("</result>", None),
    ],
)  # fmt: skip
def test_the_last_plan_counts(text: str, plan: str | None) -> None:
    found = PROMPTS["pddl"].read(TASK, text).plan
    assert (None if found is None else str(found)) == plan


@pytest.fixture(scope="module")
def caller(tiny_checkpoint: Path) -> LocalPolicy:
    """A random model that knows the words of a call, and calls often: it favours them."""
    model, tokenizer = load(tiny_checkpoint)
    lessons = warm_up_lessons(
        ["blocksworld"], (3, 4), [0.5, 0.5], 40, (), "compact", Random(1), calls=1.0
    )
    torch.manual_seed(0)
    larger = with_words(model, tokenizer, [one.completion for one in lessons])
    assert larger.decode(larger("<validate>\n(pickup b1)\n</validate>")["input_ids"][1:]) == (
        "<validate>\n(pickup b1)\n</validate>"
    )
    assert larger.unk_token_id not in larger(lessons[0].completion)["input_ids"]
    rows = encode(lessons, larger, "compact")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        completion_loss(model, rows).backward()
        optimizer.step()
    return LocalPolicy(model.eval(), larger, batch=8)


def test_a_conversation_is_a_trace_of_turns(caller: LocalPolicy) -> None:
    tasks = [blocks_task(3, 1, seed) for seed in range(12)]
    prompt, sampling = PROMPTS["compact"], Sampling(max_new_tokens=24)
    texts = [prompt.write(task) for task in tasks]
    policy = ValidatingPolicy(caller, dict(zip(texts, tasks, strict=True)), prompt, 2)
    policy.require_room(texts, sampling)
    found = policy.sample(texts, sampling, range(12))
    assert found == policy.sample(texts, sampling, range(12)), "the same seeds give the same"
    several = [row for row, one in enumerate(found) if one.turns]
    assert several
    for row in several:
        one = found[row]
        assert len(one.turns) in (3, 5)
        assert sum(turn.characters for turn in one.turns) == len(one.text)
        assert sum(turn.tokens for turn in one.turns) == len(one.token_ids)
        assert one.plan_tokens <= one.turns[-1].tokens
        # What was told is the checker's answer to what was said, and its own tokens alone count.
        at, parts = 0, []
        for turn in one.turns:
            parts.append(one.text[at : at + turn.characters])
            at += turn.characters
        for said, told in zip(parts[::2], parts[1::2], strict=False):
            assert told == validate(Checker(tasks[row]), prompt, said)
        [head] = caller.encode([texts[row]], 0)
        tail = own_tokens(one.token_ids, [turn.tokens for turn in one.turns])
        each = token_logprobs(caller.model, (head, tail))
        assert len(each) == supervised((head, tail)) == sum(turn.tokens for turn in one.turns[::2])
        assert one.logprob == pytest.approx(sum(each), abs=1e-3)
    for row in set(range(12)) - set(several):
        assert found[row].token_ids == caller.sample([texts[row]], sampling, [row])[0].token_ids


def test_calls_are_limited(caller: LocalPolicy) -> None:
    task = blocks_task(3, 1, 5)
    text, prompt = PROMPTS["compact"].write(task), PROMPTS["compact"]
    for calls in (1, 3):
        policy = ValidatingPolicy(caller, {text: task}, prompt, calls)
        found = policy.sample([text] * 16, Sampling(max_new_tokens=24), range(16))
        assert max(len(one.turns) for one in found) <= 2 * calls + 1
    with pytest.raises(InvalidInput, match="exceed the model's context"):
        ValidatingPolicy(caller, {text: task}, prompt, 40).require_room([text], Sampling())


@given(
    st.lists(st.lists(st.integers(3, 47), min_size=1, max_size=5), min_size=3, max_size=5).filter(
        lambda turns: len(turns) % 2
    )
)
def test_what_was_told_is_read_and_not_learned(
    tiny_model: torch.nn.Module, turns: list[list[int]]
) -> None:
    """The loss of a conversation is that of its own tokens, each given all that came before."""
    ids = [one for turn in turns for one in turn]
    row = ([1, 5], own_tokens(ids, [len(turn) for turn in turns]))
    total, before = 0.0, [1, 5]
    for number, turn in enumerate(turns):
        if not number % 2:
            loss = completion_loss(tiny_model, [(before, turn)])  # type: ignore[arg-type]
            total += float(loss.detach()) * len(turn)
        before = [*before, *turn]
    loss = completion_loss(tiny_model, [row])  # type: ignore[arg-type]
    assert float(loss.detach()) * supervised(row) == pytest.approx(total, rel=1e-4)


@pytest.fixture(scope="module")
def tiny_model(tiny_checkpoint: Path) -> torch.nn.Module:
    return load(tiny_checkpoint)[0]


def test_a_renamed_conversation_keeps_its_turns(caller: LocalPolicy) -> None:
    lessons = warm_up_lessons(
        ["blocksworld"], (4, 4), [0.0, 1.0], 30, (), "compact", Random(2), calls=1.0
    )
    broken = [one for one in lessons if one.silent]
    assert 5 < len(broken) < 25
    for lesson in broken:
        varied = vary(lesson, caller.tokenizer, Training(), "compact", Random(3))
        assert varied.completion != lesson.completion
        assert "".join(varied.parts) == varied.completion
        assert len(varied.parts) == 5
        rows = encode([lesson, varied], caller.tokenizer, "compact")
        assert [one < 0 for one in rows[0][1]] == [one < 0 for one in rows[1][1]]
        [first, told, second, valid, _] = lesson.parts
        end = caller.tokenizer.eos_token_id
        said = [*caller.tokenizer(second, add_special_tokens=False)["input_ids"], end]
        hidden = heard([*caller.tokenizer(first, add_special_tokens=False)["input_ids"], end])
        read = [heard(told_ids(caller.tokenizer, text)) for text in (told, valid)]
        assert rows[0][1] == [*hidden, *read[0], *said, *read[1], end]


CHAT = (
    "{% for m in messages %}{{ m.role }} {{ m.content }}{% if m.role == 'assistant' %}"
    "</s>\n{% endif %}{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
)


def test_a_chat_is_continued_as_its_template_has_it(caller: LocalPolicy) -> None:
    tokenizer = type(caller.tokenizer)(
        **{**caller.tokenizer.init_kwargs, "tokenizer_object": caller.tokenizer.backend_tokenizer}
    )
    tokenizer.chat_template = CHAT
    wanted = tokenizer("\nuser \n<result>\nvalid\n</result>\nassistant ", add_special_tokens=False)
    assert told_ids(tokenizer, "\n<result>\nvalid\n</result>\n") == wanted["input_ids"]
    tokenizer.chat_template = CHAT.replace("</s>", "")
    with pytest.raises(InvalidInput, match="does not end its turns with </s>"):
        told_ids(tokenizer, "x")
