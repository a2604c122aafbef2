"""The lessons of a real small generation by their influence, and what cannot be asked."""

from pathlib import Path

import pytest

from flows.experiments.experiment import Experiment
from flows.loop.teachers import teachers, without_them
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.models.hardware import use_threads
from tests.conftest import small
from warehouse.pool import lessons_of
from warehouse.store import Warehouse


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_threads(1)


def test_lessons_are_ranked_and_a_tenth_is_left_out(finished: Path) -> None:
    experiment = Experiment.model_validate(small())
    with Warehouse(finished, read_only=True) as store:
        found, again = (teachers(store, experiment, 1, "outcome = 'VALID'") for _ in range(2))
        learned = {one.trace for one in lessons_of(store, experiment.id, 1)}
        whole, first, lot = without_them(
            store, experiment, 1, "outcome = 'VALID'", found, Watch(quiet=True)
        )
    assert found == again
    assert set(found.traces) == learned
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert sum(score for score in found.scores if score > 0) == pytest.approx(1.0)
    assert found.targets > 0
    assert len({whole, first, lot}) == 3
    assert max(whole, first, lot) < 0


@pytest.mark.parametrize(
    ("generation", "behaviour", "message"),
    [
        (0, "true", "no trained generation 0"),
        (9, "true", "no trained generation 9"),
        (2, "true", "was not deployed"),
        (1, "plan_length > 1000", "no trace of generation 1 satisfies"),
        (1, "plan_length >", "the trait 'asked' is not SQL over a trace"),
        (1, "(SELECT 1 FROM read_csv('/etc/passwd')) > 0", "read_csv is refused"),
    ],
)
def test_what_cannot_be_asked(
    finished: Path, generation: int, behaviour: str, message: str
) -> None:
    experiment = Experiment.model_validate(small())
    with (
        Warehouse(finished, read_only=True) as store,
        pytest.raises(InvalidInput, match=message),
    ):
        teachers(store, experiment, generation, behaviour)
