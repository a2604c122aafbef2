"""Promotion by users' preference: errors that are bounded however often one looks, and the loop."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest

from flows.deployment.preferred import ERROR, preference
from tests.gateway import body, experiment, gateway, run
from warehouse.store import Warehouse

ASKED = ("--set", "promote=if-preferred")
PREFERRED = """
[deployment]
alone = true
fewest = 12
candidate = 0.5
[curation]
curator = "feedback"
"""


def sessions(
    candidate: float, current: float, share: float, seed: int
) -> Iterator[tuple[bool, bool]]:
    rng = Random(seed)
    for _ in range(600):
        is_candidate = rng.random() < share
        yield is_candidate, rng.random() < (candidate if is_candidate else current)


@pytest.mark.parametrize(("rate", "share"), [(0.1, 0.1), (0.3, 0.5), (0.9, 0.2)])
def test_a_candidate_that_is_no_better_is_rarely_promoted(rate: float, share: float) -> None:
    """Looked at after every session: the evidence is the largest that it ever was."""
    found = [preference(sessions(rate, rate, share, seed), share) for seed in range(300)]
    most = ERROR + 3 * (ERROR * (1 - ERROR) / 300) ** 0.5
    assert sum(one.better >= 1 / ERROR for one in found) / 300 <= most
    assert sum(one.worse >= 1 / ERROR for one in found) / 300 <= most


def test_users_who_are_easier_to_please_later_promote_nobody() -> None:
    """Both are accepted more and more often, while few sessions are the candidate's."""

    def drifting(seed: int, share: float = 0.05) -> Iterator[tuple[bool, bool]]:
        rng = Random(seed)
        for number in range(8000):
            yield rng.random() < share, rng.random() < 0.3 + 0.4 * number / 8000

    found = [preference(drifting(seed), 0.05) for seed in range(40)]
    assert sum(one.better >= 1 / ERROR for one in found) <= 4


def test_a_better_one_is_promoted_and_a_worse_one_refused() -> None:
    better = [preference(sessions(0.4, 0.2, 0.5, seed), 0.5) for seed in range(100)]
    worse = [preference(sessions(0.2, 0.4, 0.5, seed), 0.5) for seed in range(100)]
    assert sum(one.better >= 1 / ERROR for one in better) >= 80
    assert sum(one.worse >= 1 / ERROR for one in worse) >= 80
    assert not any(one.better >= 1 / ERROR for one in worse)


def test_the_expectation_of_a_bet_is_at_most_one() -> None:
    """For every pair of rates where the candidate is no better, by summing over all outcomes."""
    from itertools import product

    from flows.deployment.preferred import _bet

    for first, second, many in product((0.3, 0.6, 0.95), (0.1, 0.5, 0.9), (1, 3, 8)):
        for current in (0.05, 0.4, 0.8):
            for candidate in (0.01, 0.05, 0.4, 0.8):
                if candidate > current:
                    continue
                total = 0.0
                for one, *others in product((True, False), repeat=many + 1):
                    chance = candidate if one else 1 - candidate
                    for other in others:
                        chance *= current if other else 1 - current
                    total += chance * _bet(first, second, [one], others)
                assert total <= 1 + 1e-9, (first, second, many, current, candidate)


def test_users_decide_whom_they_are_answered_by(tmp_path: Path) -> None:
    file = str(experiment(tmp_path, besides=PREFERRED))
    assert "waits for users" in run(tmp_path, "run", file, *ASKED).stderr
    with gateway(tmp_path, *ASKED) as (url, _):
        for number in range(14):
            _ask(url, number, liked={0})
    waits = run(tmp_path, "run", file, *ASKED, "--plain")
    assert waits.returncode == 1
    assert "generation 1 of small" in waits.stderr
    assert "waits for users to compare it" in waits.stderr
    with gateway(tmp_path, *ASKED) as (url, _):
        for number in range(200, 212):  # no word of these counts: nobody drew who answers
            _ask(url, number, liked={1}, model="small@1")
            _ask(url, number, liked=set(), session=None)
        answered = {_ask(url, number, liked={1}) for number in range(100, 136)}
        assert answered == {0, 1}, "each answers its share"
    run(tmp_path, "run", file, *ASKED, "--plain")
    with Warehouse(tmp_path / "w.duckdb", read_only=True) as store:
        decided = store.promotions(store.frame("FROM experiments")["experiment"][0])[1]
    assert (decided.generation, decided.promoted) == (1, True)
    assert decided.decided_by == "if-preferred"
    assert "evidence that it is better" in decided.reason
    counted = re.findall(r"[0-9]+ of ([0-9]+)", decided.reason)
    assert sum(map(int, counted[:2])) == 36, decided.reason
    # The audit and the report tell of users' traces; canaries come from evaluation.
    audited = run(tmp_path, "audit", file, *ASKED)
    assert re.search(r"generation 1 learned 1[0-9] of 1[0-9] traces with a plan", audited.stdout)
    assert run(tmp_path, "report", "--out", str(tmp_path / "r.html")).returncode == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "small: before users</h2>" in page
    assert re.search(
        r"Users accepted [0-9.]+% of the answers of generation 0 that they judged, and", page
    )
    with Warehouse(tmp_path / "w.duckdb", read_only=True) as store:
        assert len(store.frame("SELECT * FROM canaries WHERE generation = 0")) > 0
    assert run(tmp_path, "verify").returncode == 0


def _ask(url: str, number: int, liked: set[int], **besides: str | None) -> int:
    """Ask in a session of one's own, and accept what a liked generation answers."""
    sent = body(number, **{"session": f"s{number}", "user": f"u{number}", **besides})
    told = httpx.post(f"{url}/plans", json=sent, timeout=60).json()
    said = "accept" if told["generation"] in liked else "reject"
    heard = {"trace": told["trace"], "feedback": said}
    assert httpx.post(f"{url}/feedback", json=heard, timeout=60).status_code == 200
    return int(told["generation"])
