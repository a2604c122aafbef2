"""Tasks as other libraries ask for them, and the verdict on what is answered."""

import pytest

from planners import DOMAINS, InvalidInput, judge, pose


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_a_solution_is_valid_however_it_is_wrapped(domain: str) -> None:
    for one in pose(domain, 2, (3, 4), (1, 4)):
        answers = (
            one.solution,
            f"<think>(a b)?</think>Sure:\n<plan>\n{one.solution}</plan>\nDone.",
        )
        for answer in answers:
            assert judge(one.domain, one.problem, answer).valid
        assert not judge(one.domain, one.problem, "There is none.").valid
        assert "(define (domain" in one.prompt
        assert "(define (problem" in one.prompt


def test_the_same_seed_gives_the_same_tasks_and_another_gives_others() -> None:
    one, again, other = pose(count=5), pose(count=5), pose(count=5, seed=1)
    assert one == again != other
    assert len({task.problem for task in one}) == 5
    for wrong in {"count": -1}, {"sizes": (6, 3)}, {"sizes": (0, 2)}, {"horizons": (0, 1)}:
        with pytest.raises(InvalidInput, match=r"ask for 0 tasks or more|the smaller one first"):
            pose("ferry", **wrong)
    with pytest.raises(InvalidInput, match="unknown domain 'chess'"):
        pose("chess")
