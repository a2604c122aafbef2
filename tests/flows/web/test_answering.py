"""What a gateway knows of the warehouse while others write to it."""

import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.deployment.answered import as_line
from flows.deployment.log import Log
from flows.experiments.experiment import Experiment
from flows.loop.promote import promote_by_hand
from flows.web.deployed import UNREADABLE, Deployed
from flows.web.keys import Clients
from flows.web.memory import Memory
from planners.errors import ComponentFailure
from tests.conftest import small
from tests.flows.deployment.test_log import answer
from warehouse.store import Warehouse


@pytest.fixture
def deployed(finished: Path, tmp_path: Path) -> Deployed:
    path = tmp_path / finished.name
    shutil.copy(finished, path)
    shutil.copytree(f"{finished}.checkpoints", f"{path}.checkpoints")
    with Warehouse(path) as store:
        store.publish()
    return Deployed(str(path), Experiment.model_validate(small()), Clients())


def test_a_promotion_is_seen_while_somebody_reads(deployed: Deployed) -> None:
    """Feedback and new tasks are looked up all the time, so that some reader has the old file."""
    assert deployed.current == 2
    with deployed.looking() as reader:
        with Warehouse(deployed.warehouse) as store:
            promote_by_hand(store, deployed.experiment, 1, "2 is worse")
        deployed.refresh()
        assert deployed.current == 1
        assert len(reader.promotions(deployed.id)) == 3, "it reads what it began to read"
    deployed.close()


def test_feedback_finds_an_answer_of_long_ago_and_another_gateways(deployed: Deployed) -> None:
    """A run has the file, so that nothing was loaded for hours."""
    folder = Path(deployed.warehouse).with_name("log")
    memory, log = Memory(deployed.looking, folder), Log(folder)
    given = [answer(number) for number in range(3)]
    for one in given:
        log.append(as_line(one)).result(timeout=10)
    assert memory.answer(given[1].trace) == given[1]
    assert memory.answer("0" * 32) is None
    log.close()
    with patch("flows.web.memory.RECENT", 5000):
        assert len(Memory(deployed.looking, folder)._recent) < 3, "the last of them"
    deployed.close()


def test_a_client_is_told_nothing_of_the_warehouses_place(deployed: Deployed) -> None:
    Path(f"{deployed.warehouse}.snapshot").write_bytes(b"no database")
    with pytest.raises(ComponentFailure) as told:
        deployed.looking()
    assert str(told.value) == UNREADABLE
    deployed.close()
