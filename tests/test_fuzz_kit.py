"""The fuzzers run and find nothing in their first attempts; `make fuzz` goes on."""

import pytest

from tests.fuzz import TARGETS, attempt


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks(name: str) -> None:
    for seed in range(10_000, 10_006):
        assert attempt(name, seed) == "", seed


def test_what_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(rng: object) -> None:
        raise KeyError("found")

    monkeypatch.setitem(TARGETS, "broken", broken)
    assert "KeyError: 'found'" in attempt("broken", 0)
