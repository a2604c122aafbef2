"""Verify: silent on what a run leaves behind, and it names whatever was changed afterwards."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from flows.audit.verify import JUDGED_ANEW, verify
from flows.progress import Watch
from planners.errors import InvalidInput
from tests.conftest import copied
from tests.forked import ran
from warehouse import schema
from warehouse.load import amend
from warehouse.store import Warehouse


def found(path: Path) -> dict[str, list[str]]:
    """What is wrong, by check; every check has looked at something and skipped nothing."""
    with Warehouse(path, read_only=True) as store:
        checks = list(verify(store, Watch(quiet=True)))
    assert all(check.looked_at for check in checks if check.name not in ("ingested", "forgotten"))
    assert not any(check.skipped for check in checks)
    return {check.name: check.wrong for check in checks if check.wrong}


def test_a_run_verifies(finished: Path) -> None:
    assert found(finished) == {}


def test_selections_from_verdicts_of_before_are_not_called_wrong(
    finished: Path, tmp_path: Path
) -> None:
    path = copied(finished, tmp_path)
    with Warehouse(path) as store, store.writing() as connection:
        of = "trace = (SELECT min(trace) FROM stg_decisions WHERE kept AND generation = 1)"
        connection.exec_driver_sql(f"UPDATE judgements SET superseded = true WHERE {of}")
        connection.exec_driver_sql(
            "INSERT INTO judgements SELECT * REPLACE ('9+9' AS checker_version, "
            f"false AS superseded, 'NO_PLAN' AS outcome) FROM judgements WHERE {of}"
        )
    with Warehouse(path, read_only=True) as store:
        [check] = [one for one in verify(store, Watch(quiet=True)) if one.name == "selections"]
    assert (check.wrong, check.why) == ([], JUDGED_ANEW)
    assert check.skipped > 0


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        ("DELETE FROM traces WHERE sample = 0 AND generation = 0", {"references", "parts"}),
        ("UPDATE tasks SET pddl = replace(pddl, 'on-table b1', 'on-table b2')", {"tasks"}),
        ("UPDATE domains SET pddl = pddl || ' '", {"tasks"}),
        ("UPDATE experiments SET config = replace(config, '3', '4')", {"experiments"}),
        ("UPDATE traces SET seed = seed + 1 WHERE sample = 1", {"traces"}),
        ("UPDATE traces SET text = '(pickup b1)' WHERE purpose = 'deploy'", {"judgements"}),
        ("UPDATE judgements SET outcome = 'VALID' WHERE outcome <> 'VALID'", {"judgements"}),
        ("UPDATE selections SET kept = NOT kept", {"selections", "generations"}),
        ("UPDATE selections SET reason = 'no reason' WHERE kept", {"selections"}),
        ("UPDATE generations SET training_set_hash = 'x'", {"generations"}),
        ("UPDATE generations SET weights_hash = 'x'", {"generations"}),
        ("UPDATE canaries SET outcome = 'VALID'", {"canaries"}),
        ("DELETE FROM marks WHERE stage = 'evaluate'", {"parts"}),
        ("UPDATE judgements SET superseded = true WHERE generation = 1", {"ledger"}),
        ("UPDATE traces SET logprob = logprob + 1 WHERE sample = 1", {"ledger"}),
        ("UPDATE traces SET logprob = logprob + 1", {"ledger", "log-probabilities"}),
        ("UPDATE traces SET policy = 'another' WHERE sample = 1", {"ledger"}),
        ("UPDATE tasks SET horizon = horizon + 1", {"ledger"}),
        ("UPDATE promotions SET reason = 'better'", {"ledger"}),
        ("DELETE FROM canaries WHERE generation = 0", {"ledger"}),
        ("UPDATE generations SET weights_hash = 'unknown'", {"ledger"}),
        (
            "INSERT INTO feedback BY NAME SELECT trace, true AS accepted FROM traces LIMIT 3",
            {"ledger"},
        ),
        ("INSERT INTO audits VALUES ('e', 1, 'bounds', 'min_ess', 'held', 1, '')", {"ledger"}),
        ("UPDATE traces SET text = CASE sample WHEN 0 THEN 'a' ELSE text END", {"ledger"}),
        ("DELETE FROM ledger WHERE name = 'traces'", {"ledger"}),
        (
            "CREATE OR REPLACE VIEW coverage AS SELECT 'small' AS experiment, 1.0 AS coverage",
            {"views"},
        ),
        ("DROP VIEW best_plans", {"views"}),
        ("ALTER TABLE judgements ALTER superseded TYPE VARCHAR", {"columns"}),
        (
            "CREATE TABLE c AS FROM canaries; DROP TABLE canaries; CREATE VIEW canaries AS FROM c",
            {"columns"},
        ),
        ("CREATE SEQUENCE planted", {"columns"}),
    ],
)
def test_what_was_changed_is_named(
    finished: Path, tmp_path: Path, change: str, checks: set[str]
) -> None:
    path = copied(finished, tmp_path)
    with duckdb.connect(path) as connection:
        connection.execute(change)
    with Warehouse(path, read_only=True) as store:
        measured = 8 if "log-probabilities" in checks else 0  # models take time to load
        wrong = {check.name for check in verify(store, Watch(quiet=True), measured) if check.wrong}
    assert checks <= wrong


@pytest.mark.parametrize("config", ["[1]", "\x00", "[" * 100_000])
def test_settings_that_are_none_are_one_message(
    finished: Path, tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(finished, tmp_path)
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE experiments SET config = $1", [config])
    for command in ("status", "report", "verify"):
        done = ran(command, "--warehouse", str(path), folder=tmp_path)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert "settings" in done.stderr + done.stdout


@pytest.mark.parametrize("name", ['"/"', "count_if", "arg_max", "replace"])
def test_functions_that_stand_in_for_the_databases_own_are_refused(
    finished: Path, tmp_path: Path, name: str
) -> None:
    path = copied(finished, tmp_path)
    Warehouse(path, read_only=True).close()  # it was looked at before
    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE MACRO {name}(a, b) AS 0.99")
        connection.execute("CREATE MACRO duckdb_functions() AS TABLE SELECT 1 AS function_name")
    with pytest.raises(InvalidInput, match=r"duckdb_functions.* anew"):
        Warehouse(path, read_only=True)


def test_a_run_that_stopped_before_it_judged_is_not_called_wrong(
    finished: Path, tmp_path: Path
) -> None:
    """Between deploy and judge: the mark of judging is there since evaluation."""
    path = copied(finished, tmp_path)
    with Warehouse(path) as store, store.writing() as connection:
        for table, of in (("judgements", "purpose = 'deploy'"), ("marks", "stage = 'canaries'")):
            t = schema.metadata.tables[table]
            amend(connection, t, sa.text(f"generation = 1 AND {of}"))
    with Warehouse(path, read_only=True) as store:
        wrong = [line for check in verify(store, Watch(quiet=True)) for line in check.wrong]
    assert not [line for line in wrong if "no verdict" in line]


def test_weights_that_wrote_nothing_are_named(finished: Path, tmp_path: Path) -> None:
    """Other weights, under a hash that was changed with them: only what they say tells."""
    path = copied(finished, tmp_path)
    [one] = Path(f"{path}.checkpoints").glob("*/generation-001")
    shutil.copy(one.with_name("generation-002") / "model.safetensors", one)
    with duckdb.connect(path) as connection:
        connection.execute(
            "UPDATE generations SET weights_hash = "
            "(SELECT weights_hash FROM generations WHERE generation = 2) WHERE generation = 1"
        )
    wrong = found(path)
    assert "generations" not in wrong
    assert wrong["log-probabilities"]
    assert all(
        "with the weights of generation 1 it is" in one for one in wrong["log-probabilities"]
    )


@pytest.mark.parametrize(
    ("change", "check", "named"),
    [
        (
            "UPDATE generations SET parent = 2 WHERE generation = 1",
            "generations",
            "its parent is 2",
        ),
        ("UPDATE tasks SET pddl = ''", "tasks", "the text is empty"),
        ("UPDATE domains SET domain_hash = domain_hash || 'x'", "judgements", "could not be"),
        (
            "UPDATE generations SET files = files || 'x' WHERE generation = 1",
            "generations",
            "not be",
        ),
        ("UPDATE experiments SET config = 'null'", "experiments", "its settings"),
        ("DROP TABLE promotions", "ledger", "could not be checked"),
    ],
)
def test_damage_ends_no_check_but_its_own(
    finished: Path, tmp_path: Path, change: str, check: str, named: str
) -> None:
    path = copied(finished, tmp_path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(change)
    with Warehouse(path, read_only=True) as store:
        checks = list(verify(store, Watch(quiet=True), measured=0))
    assert checks[-1].name == "parts", "it came to its end"
    assert any(named in line for one in checks if one.name == check for line in one.wrong), checks


def test_a_version_that_is_not_its_own_is_one_message(finished: Path, tmp_path: Path) -> None:
    path = copied(finished, tmp_path)
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = 11")
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="is not as that schema was"):
        Warehouse(path)
    assert path.read_bytes() == before


def test_a_version_that_is_there_twice_is_one_message(finished: Path, tmp_path: Path) -> None:
    path = copied(finished, tmp_path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (11)")
    with pytest.raises(InvalidInput, match="schema_version holds 2 rows"):
        Warehouse(path, read_only=True)


def swap_two_words(folder: Path) -> None:
    """The weights stay the same, and the model answers with other words."""
    file = folder / "tokenizer.json"
    told = json.loads(file.read_text())
    words = told["model"]["vocab"]
    words["(stack"], words["(unstack"] = words["(unstack"], words["(stack"]
    file.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (swap_two_words, "tokenizer.json"),
        (lambda folder: (folder / "chat_template.jinja").write_text("x"), "chat_template.jinja"),
        (lambda folder: (folder / "generation_config.json").unlink(), "generation_config.json"),
    ],
)
def test_a_changed_file_beside_the_weights_is_named(
    finished: Path, tmp_path: Path, change: Callable[[Path], object], named: str
) -> None:
    path = copied(finished, tmp_path)
    [folder] = Path(f"{path}.checkpoints").glob("*/generation-001")
    change(folder)
    [wrong] = found(path)["generations"]
    assert wrong.startswith("generation 1 of small-")
    assert f"{named} in {folder}: not as recorded" in wrong
