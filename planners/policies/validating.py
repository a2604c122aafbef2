"""The tool `validate`: a model asks the plan checker about a plan before it answers.

A model calls it by ending a turn with a plan between <validate> and </validate>. The checker's
answer is the next turn, between <result> and </result>, and the model goes on. The last plan that
it writes counts, be it in a call. What the tool says is no token of the model's: it has no
log-probability, and training does not learn it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from planners.checking.checker import PLAN_SECONDS, Checker
from planners.clock import OUT_OF_TIME
from planners.errors import InvalidInput, NotJudged
from planners.models.chat import encode_prompts, told_ids
from planners.pddl import Task
from planners.policies.local import LocalPolicy
from planners.policies.served import ServedPolicy
from planners.prompts.extraction import CALL_END, CALL_START, RESULT_END, RESULT_START
from planners.prompts.formats import PromptFormat
from planners.records import (
    Completion,
    Heard,
    Outcome,
    Policy,
    Prompt,
    Sampling,
    Turn,
    derive_seed,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOLD = 64
"""Tokens of the tool's answer, at most."""
_CALL = re.compile(rf"{CALL_START}((?:(?!{CALL_START}).)*?){CALL_END}\s*\Z", re.DOTALL)


def room_of(max_new_tokens: int, calls: int) -> int:
    """The most tokens that a completion with so many calls may have, in all its turns."""
    return (calls + 1) * max_new_tokens + calls * TOLD


def validate(checker: Checker, prompt: PromptFormat, turn: str) -> str | None:
    """The tool's answer to a turn that ends with a call; None if it ends otherwise.

    Its first line is `valid`, `invalid` or `not judged`. After `invalid` come the first action that
    does not work, if one is to blame, and what it or the goal lacks, in the names of the prompt.
    """
    call = _CALL.search(turn)
    if call is None:
        return None
    return _named(checker, prompt, _said(checker, prompt, call[1]))


def out_of_time(checker: Checker, prompt: PromptFormat) -> str:
    """The tool's answer where the time for a plan is over."""
    return _named(checker, prompt, ["not judged"] if prompt.bare else ["not judged", OUT_OF_TIME])


def _named(checker: Checker, prompt: PromptFormat, lines: list[str]) -> str:
    """The tool's answer in the names of the prompt."""
    return _framed(prompt.renamed(checker.task, "\n".join(lines)))


def _framed(said: str) -> str:
    return f"\n{RESULT_START}\n{said}\n{RESULT_END}\n"


def _said(checker: Checker, prompt: PromptFormat, call: str) -> list[str]:
    """The lines of the tool's answer, in the task's own names."""
    found = prompt.read(checker.task, call)
    if found.plan is None:
        return ["invalid"] if prompt.bare else ["invalid", found.reason]
    try:
        verdict = checker.check(found.plan)
    except NotJudged as error:
        return ["not judged"] if prompt.bare else ["not judged", error.reason]
    if verdict.valid:
        return ["valid"]
    lines = ["invalid"]
    if verdict.step is not None:
        lines.append(f"({' '.join(found.plan.actions[verdict.step])})")
    # Where an answer is a plan and nothing else, a model may know no other words.
    unmet = verdict.outcome in (Outcome.PRECONDITION_FAILED, Outcome.GOAL_NOT_REACHED)
    if verdict.detail and (unmet or not prompt.bare):
        lines.append(verdict.detail)
    return lines


def shortened(told: str) -> str:
    """The first line of an answer alone, which is given where the whole exceeds TOLD tokens."""
    return _framed(told.split("\n")[2])


class ValidatingPolicy(Policy):
    """A policy whose completions may call the tool up to `calls` times each.

    `tasks` has the task of each prompt. `prompt` is the format that they are written in. Raises
    InvalidInput if the policy does not take token ids, without which no turn can be continued.
    """

    def __init__(
        self,
        policy: LocalPolicy | ServedPolicy,
        tasks: Mapping[str, Task],
        prompt: PromptFormat,
        calls: int,
        timeout: float | None = PLAN_SECONDS,
    ) -> None:
        if policy.tokenizer is None:
            raise InvalidInput(
                f"the policy {policy.name} cannot call validate: its server takes no token ids, "
                "or has weights that are not here; set max_tool_calls = 0"
            )
        self.policy, self.calls, self.prompt, self.name = policy, calls, prompt, policy.name
        self.tokenizer: PreTrainedTokenizerFast = policy.tokenizer
        self._tasks, self._timeout = tasks, timeout
        self._checkers: dict[str, Checker] = {}

    def require_room(self, prompts: Sequence[str], sampling: Sampling) -> None:
        """Raise InvalidInput if a prompt has unknown words or leaves no room for all turns."""
        room = room_of(sampling.max_new_tokens, self.calls)
        self.policy.require_room(prompts, replace(sampling, max_new_tokens=room))

    def stream(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        seeds: Sequence[int],
        known: Collection[int] = (),
        heard: Sequence[Heard] | None = None,
    ) -> Iterator[dict[int, Completion]]:
        """Yield completions with all their turns, as they are finished.

        Each turn may have `max_new_tokens`. Rows in `known` are sampled again, because a batch of
        a later turn consists of the rows that called, and rounding depends on the batch. `heard`
        is told the tokens of the first turn.
        """
        distinct = list(dict.fromkeys(prompts))
        begun = dict(zip(distinct, encode_prompts(self.tokenizer, distinct), strict=True))
        read: dict[int, Prompt] = {row: tuple(begun[one]) for row, one in enumerate(prompts)}
        turns: dict[int, list[Completion]] = {row: [] for row in read}
        rows = list(read)
        for turn in range(self.calls + 1):
            calling = []
            drawn = [seeds[row] if not turn else derive_seed(seeds[row], turn) for row in rows]
            heard = None if turn else heard
            asked = [read[row] for row in rows]
            for some in self.policy.stream(asked, sampling, drawn, heard=heard):
                done = {}
                for place, said in some.items():
                    row = rows[place]
                    turns[row].append(said)
                    told = self._told(prompts[row], said) if turn < self.calls else None
                    if told is None:
                        done[row] = _joined(turns.pop(row))
                    else:
                        turns[row].append(told)
                        read[row] = (*read[row], *said.token_ids, *told.token_ids)
                        calling.append(row)
                if done:
                    yield done
            rows = sorted(calling)
            if not rows:
                return

    def _told(self, prompt: str, said: Completion) -> Completion | None:
        """The tool's turn after one of the model's; None if that is no call."""
        if said.finish_reason != "stop":
            return None
        if prompt not in self._checkers:
            self._checkers[prompt] = Checker(self._tasks[prompt], self._timeout)
        text = validate(self._checkers[prompt], self.prompt, said.text)
        if text is None:
            return None
        ids = told_ids(self.tokenizer, text)
        if len(ids) > TOLD:
            text = shortened(text)
            ids = told_ids(self.tokenizer, text)
        return Completion(text, "stop", tuple(ids), 0.0, 0.0)


def _joined(turns: Sequence[Completion]) -> Completion:
    """One completion of all turns, the model's and the tool's in turn."""
    last = turns[-1]
    if len(turns) == 1:
        return last
    ids = tuple(one for turn in turns for one in turn.token_ids)
    return Completion(
        "".join(turn.text for turn in turns),
        last.finish_reason,
        ids,
        _sum([turn.logprob for turn in turns]),
        _sum([turn.sampling_logprob for turn in turns]),
        len(ids) - len(last.token_ids) + last.reasoning_tokens,
        turns=tuple(Turn(len(turn.text), len(turn.token_ids)) for turn in turns),
    )


def _sum(parts: Sequence[float | None]) -> float | None:
    """The sum, or None if one of the parts is unknown."""
    return None if None in parts else sum(part for part in parts if part is not None)
