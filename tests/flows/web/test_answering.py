"""What a gateway knows of the warehouse while others write to it."""

from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.deployment.answered import as_line
from flows.deployment.log import Log
from flows.experiments.experiment import Experiment
from flows.loop.promote import promote_by_hand
from flows.web.answering import Answerer
from flows.web.deployed import UNREADABLE, Deployed, Wanted
from flows.web.keys import Clients
from flows.web.memory import Memory
from planners.errors import ComponentFailure
from tests.conftest import copied, small
from tests.flows.deployment.test_log import answer
from warehouse.findings import ApiKey
from warehouse.records import utc
from warehouse.store import Warehouse


@pytest.fixture
def deployed(finished: Path, tmp_path: Path) -> Deployed:
    path = copied(finished, tmp_path)
    with Warehouse(path) as store:
        store.publish()
    return Deployed(str(path), Experiment.model_validate(small()), Clients())


def test_a_promotion_is_seen_while_somebody_reads(deployed: Deployed) -> None:
    """Feedback and new tasks are looked up all the time, so that some reader has the old file."""
    assert deployed.current == 2
    with deployed.looking() as reader:
        with Warehouse(deployed.warehouse) as store:
            promote_by_hand(store, deployed.experiment, 1, "2 is worse")
        deployed.look()
        deployed.settle()
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


def test_what_cannot_be_loaded_answers_nobody_and_keeps_nothing_up(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory for a second model may be short: the deployed one answers on, and is looked at."""
    tried, asked = Wanted(2, 1, 1), []

    def full(generation: int) -> Answerer:
        asked.append(generation)
        if generation == 1:
            raise MemoryError("no room for a second model")
        found = deployed.at_work(generation)
        assert found is not None
        return found

    monkeypatch.setattr(deployed, "of", full)
    deployed._wanted = tried
    assert not deployed.is_settled
    for _ in range(3):
        deployed.settle()
    assert deployed.is_settled, "not again for a while"
    assert (deployed.current, deployed.candidate, deployed.silent) == (2, None, None)
    assert asked.count(1) == 1, "once, though it is both"
    assert "generation 1 answers nobody" in capsys.readouterr().err
    deployed.close()


def test_keys_are_revoked_while_a_generation_is_loaded(deployed: Deployed) -> None:
    with Warehouse(deployed.warehouse) as store:
        promote_by_hand(store, deployed.experiment, 1, "2 is worse")
        store.write([ApiKey("hash", "ann", False, utc(datetime(2026, 1, 1, tzinfo=UTC)))])
        store.publish()
    deployed.look()
    assert deployed.clients.asks, "what was just written is known"
    assert deployed.current == 2, "and answers until the other is loaded"
    assert not deployed.is_settled
    deployed.settle()
    assert deployed.current == 1
    deployed.close()


def test_a_rollback_while_a_generation_is_loaded_stands(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = deployed.of

    def meanwhile(generation: int) -> Answerer:
        found = of(generation)
        deployed._wanted = Wanted(2, None, None)  # as the next look sees it
        return found

    monkeypatch.setattr(deployed, "of", meanwhile)
    deployed._wanted = Wanted(1, None, None)
    deployed.settle()
    assert deployed.current == 2
    deployed.close()
    with pytest.raises(ComponentFailure, match="is being stopped"):
        of(0)
    assert deployed.at_work(0) is None
