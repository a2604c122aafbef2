"""Randomised arms of a real small generation: what they say, and that nothing else changes."""

from pathlib import Path

import pandas as pd
import pytest

from flows.audit.ledger import Audit
from flows.experiments.experiment import Experiment
from flows.loop.randomised import _effects, _lot, compare, randomised
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.models.hardware import use_threads
from tests.conftest import contents, copied, small
from warehouse.findings import Figure
from warehouse.pool import PREFIX
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_threads(1)


def test_an_arm_by_lot_is_compared_and_leaves_nothing_behind(
    finished: Path, tmp_path: Path
) -> None:
    path = copied(finished, tmp_path)
    before, experiment = contents(path), Experiment.model_validate(small())
    with Warehouse(path, read_only=True) as store:
        found, again = (randomised(store, experiment, 2, 2, QUIET) for _ in range(2))
    figures = [[one for one in each.records if isinstance(one, Figure)] for each in (found, again)]
    for one, other in zip(*figures, strict=True):  # the same arms each time
        assert (one.name, one.measure) == (other.name, other.measure)
        assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)
    with Warehouse(path) as store:
        for _ in range(2):
            store.replace_figures(experiment.id, 2, "randomised", found.records)
        figures = store.every(Figure, question="randomised")
        store.replace_audit(experiment.id, [])
        assert store.every(Figure, question="randomised") == figures, "other audits leave it"
    assert len(figures) == len(found.records) > 0
    told = {one.measure: one.value for one in figures if one.name == "plan_length"}
    assert told["low"] <= told["difference"] <= told["high"]
    assert told["difference"] == pytest.approx(told["chosen"] - told["lot"])
    after = contents(path)
    assert {n for n in after if after[n] != before[n]} == {"audits", "ledger"}


def test_each_arm_has_a_lot_of_its_own() -> None:
    traces = [f"t{number}" for number in range(60)]
    pool = pd.DataFrame({
        "trace": traces, "task": [number // 6 for number in range(60)], "valid": True,
        "weight": [float(number % 6 == 0) for number in range(60)],
    })  # fmt: skip
    experiment = Experiment.model_validate(small())
    lots = [_lot(experiment, 1, pool, arm) for arm in range(4)]
    assert lots[0] == _lot(experiment, 1, pool, 0)
    assert len({tuple(lot) for lot in lots}) == 4
    assert all(sum(lot.values()) == 10 for lot in lots)


@pytest.mark.parametrize("alike", [(0, 1, 1), (400, 399, 399), (1, 0, 0)])
def test_a_rare_trait_of_which_two_arms_have_as_many_is_no_effect(alike: tuple[int, ...]) -> None:
    frames = [
        pd.DataFrame({f"{PREFIX}odd": [1.0] * many + [0.0] * (400 - many), "valid": True})
        for many in alike
    ]
    told = dict(_effects(frames))["odd"]
    assert told.low < 0 < told.high
    assert told.p > 0.05


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        (0, "needs a generation from 1 on"),
        (1, "nothing can be drawn by lot"),
        (9, "has no generation 9; it has 0 to 2"),
    ],
)
def test_where_there_is_nothing_to_draw(
    finished: Path, generation: int, message: str, tmp_path: Path
) -> None:
    experiment = Experiment.model_validate(small())
    path = copied(finished, tmp_path)
    with Warehouse(path) as store, store.writing() as connection:
        connection.exec_driver_sql("UPDATE selections SET kept = true, weight = 1.0")
    with (
        Warehouse(path, read_only=True) as store,
        pytest.raises(InvalidInput, match=message),
    ):
        randomised(store, experiment, generation, 1, QUIET)


def test_arms_that_wrote_no_plan_are_told() -> None:
    """Such a collapse may be what the choice caused, or prevented."""

    def wrote(traces: int) -> pd.DataFrame:
        return pd.DataFrame({"valid": [True] * traces, f"{PREFIX}plan_length": range(traces)})

    for chosen, lots, told in (
        (3, (0, 4, 5), "1 of 3 arms wrote no plan"), (3, (0, 4), "all but 1 of the arms wrote no"),
        (0, (4, 5), "the generation wrote no plan"),
    ):  # fmt: skip
        found = Audit(Experiment.model_validate(small()), {})
        compare(found, 1, [wrote(one) for one in (chosen, *lots)])
        assert told in " ".join(found.lines)
        if chosen and sum(map(bool, lots)) > 1:
            figures = {one.measure: one.value for one in found.records if one.name == "plan_length"}
            assert figures["lot"] == pytest.approx(1.75)
        else:
            assert not found.records
