"""Judging on several processes: the same verdicts in the same order, whatever dies on the way."""

import os
import signal
from collections.abc import Iterator
from random import Random

import pytest

from planners.domains import DOMAINS
from planners.domains import blocksworld as bw
from planners.errors import PddlError
from planners.parallel import Chunk, judge_all
from planners.printing import print_problem
from planners.records import Plan
from tests.planners.test_checker import mutate


def chunks(count: int) -> list[Chunk]:
    made = []
    for seed in range(count):
        rng = Random(seed)
        problem, plan = bw.solved_example(5, 2, rng) or (None, None)
        assert problem is not None
        assert plan is not None
        plans = [plan] + [Plan(tuple(mutate(list(plan.actions), rng))) for _ in range(4)]
        made.append(Chunk(DOMAINS["blocksworld"].text, print_problem(problem), plans))
    return made


def test_two_processes_judge_as_one() -> None:
    work = chunks(40)
    assert list(judge_all(work, processes=2)) == list(judge_all(work, processes=1))


def test_a_killed_worker_loses_nothing() -> None:
    work = chunks(60)

    def kill_on_the_way() -> Iterator[Chunk]:
        for index, chunk in enumerate(work):
            if index == 30:
                for child in children():
                    os.kill(child, signal.SIGKILL)
            yield chunk

    assert list(judge_all(kill_on_the_way(), processes=2)) == list(judge_all(work, processes=1))


def children() -> list[int]:
    """Worker processes of this process."""
    import multiprocessing

    return [child.pid for child in multiprocessing.active_children() if child.pid]


def test_a_task_that_cannot_be_read_is_an_error_not_a_verdict() -> None:
    broken = Chunk("(define (domain d))", "(define", [Plan(())])
    with pytest.raises(PddlError, match="never closed"):
        list(judge_all([*chunks(3), broken], processes=2))
