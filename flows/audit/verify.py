"""Is what the warehouse says still so? Everything that can be derived is derived again.

Hashes and ids come from contents, verdicts from texts, selections from verdicts, training sets from
selections: `verify` makes each of them once more and names every row that says something else.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from rich.markup import escape

from flows.experiments.experiment import Experiment
from flows.generations.checkpoints import UNKNOWN, checkpoint_of
from flows.generations.identity import (
    FORMAT,
    NO_SETTINGS,
    canary_id,
    ingested_id,
    trace_id,
    trace_seed,
    training_set_hash,
)
from flows.generations.judging import OWNER, READING, VERSION, judgement
from flows.generations.policies import first_weights
from flows.generations.pool import select
from flows.generations.tasks import parts_of, tasks_for
from flows.progress import Watch
from planners.checking.checker import CHECKER, checker_for
from planners.errors import InvalidInput
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS, PromptFormat
from planners.records import content_hash
from warehouse import schema
from warehouse.pool import lessons_of
from warehouse.store import Row, Warehouse

REFERENCES = (
    ("tasks", "domain_hash", "domains"),
    ("experiment_tasks", "experiment", "experiments"),
    ("experiment_tasks", "task", "tasks"),
    ("generations", "experiment", "experiments"),
    ("traces", "experiment", "experiments"),
    ("traces", "task", "tasks"),
    ("judgements", "trace", "traces"),
    ("opinions", "trace", "traces"),
    ("selections", "trace", "traces"),
    ("canaries", "task", "tasks"),
)
"""Table, column, and the table in which it must be found."""
RE_DERIVED = (*OWNER, "outcome", "step", "detail", "plan_length", "cost")
"""And the number of redundant actions, which older verdicts do not have."""


@dataclass(slots=True)
class Check:
    """One kind of thing that was derived again: how many, how many could not be (made by another
    version), and what disagrees.
    """

    name: str
    looked_at: int = 0
    skipped: int = 0
    wrong: list[str] = field(default_factory=list)

    def expect(self, same: bool, what: str) -> None:
        self.looked_at += 1
        if not same:
            self.wrong.append(what)


def verify_and_tell(warehouse: Warehouse, watch: Watch) -> int:
    """Say what each check found, every disagreement on a line; how many there are."""
    disagreements = 0
    for check in verify(warehouse, watch):
        skipped = f", {check.skipped} by another version" if check.skipped else ""
        found = f"{check.looked_at} looked at{skipped}, {len(check.wrong)} disagree"
        watch.say(f"{check.name}: {found}")
        for line in check.wrong:
            watch.say(f"  {escape(line)}")
        disagreements += len(check.wrong)
    watch.say(f"{disagreements} disagreements" if disagreements else "nothing disagrees")
    return disagreements


def verify(warehouse: Warehouse, watch: Watch) -> Iterator[Check]:
    """Every check in turn."""
    yield _keys(warehouse)
    yield _references(warehouse)
    yield _tasks(warehouse)
    yield _ingested(warehouse)
    known, check = experiments(warehouse)
    yield check
    for derive in (_traces, _judgements, _canaries, _selections, _generations, _parts):
        check = Check(derive.__name__[1:])
        with watch.bar(f"verify {check.name}", len(known)) as advance:
            for experiment in known:
                derive(warehouse, experiment, check)
                advance(1)
        yield check


def _keys(warehouse: Warehouse) -> Check:
    """No key stands twice, which the engine does not see to."""
    check = Check("keys")
    for table in schema.metadata.sorted_tables:
        key = ", ".join(column.name for column in table.primary_key)
        twice = f"SELECT {key} FROM {table.name} GROUP BY ALL HAVING count(*) > 1"
        for row in _records(warehouse, twice):
            check.wrong.append(f"{table.name}: {row} stands more than once")
        check.looked_at += warehouse.count(table)
    return check


def _references(warehouse: Warehouse) -> Check:
    check = Check("references")
    for table, column, other in REFERENCES:
        lost = warehouse.frame(
            f"SELECT DISTINCT {column} AS id FROM {table} ANTI JOIN {other} USING ({column})"
        )
        for value in lost["id"]:
            check.wrong.append(f"{table}: {column} {value} is not in {other}")
        check.looked_at += warehouse.count(schema.metadata.tables[table])
    return check


def _tasks(warehouse: Warehouse) -> Check:
    check = Check("tasks")
    for row in _records(warehouse, "SELECT domain_hash, name, pddl FROM domains"):
        check.expect(
            content_hash(row["pddl"]) == row["domain_hash"],
            f"domain {row['name']}: its text does not have the hash {row['domain_hash']}",
        )
    joined = (
        "SELECT k.*, d.pddl AS domain_pddl FROM tasks AS k JOIN domains AS d USING (domain_hash)"
    )
    for row in _records(warehouse, joined):
        try:
            key = read_task(row["domain_pddl"], row["pddl"]).key
        except InvalidInput as error:
            key = str(error)
        check.expect(key == row["task"], f"task {row['task']}: its text gives {key}")
    return check


def experiments(warehouse: Warehouse) -> tuple[list[Experiment], Check]:
    """Those whose settings this version knows, and whether all are what their hashes say."""
    found, check = [], Check("experiments")
    runs = "SELECT * FROM experiments WHERE config <> :nothing ORDER BY experiment"
    for row in _records(warehouse, runs, nothing=NO_SETTINGS):
        name = row["experiment"]
        same = content_hash(row["config"], length=12) == row["hash"]
        check.expect(
            same and name == f"{row['name']}-{row['hash']}",
            f"experiment {name}: its settings do not have the hash {row['hash']}",
        )
        try:
            settings = {"name": row["name"], "generations": 0, **json.loads(row["config"])}
            experiment = Experiment.model_validate(settings)
        except ValueError:
            experiment = None
        if experiment is not None and experiment.id == name:
            found.append(experiment)
        else:
            check.skipped += 1  # settings of another version: its rows cannot be derived again
    return found, check


def chosen_from(warehouse: Warehouse, named: Experiment | None) -> tuple[list[Experiment], int]:
    """The experiment that is named, or all of a warehouse; and how many it has of other versions.

    Raises InvalidInput where there is none, or not the one that is named.
    """
    known, check = experiments(warehouse)
    chosen = known if named is None else [named]
    if not {one.id for one in chosen} <= {one.id for one in known} or not chosen:
        names = ", ".join(one.id for one in chosen) or "an experiment"
        raise InvalidInput(f"{names} is not in {warehouse.place}; `posterity run` makes it")
    return chosen, check.skipped


def _traces(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    tasks = {task["task"]: task for task in warehouse.tasks(experiment.id)}
    prompt = PROMPTS[experiment.model.prompt]

    @cache
    def prompt_hash(task: str) -> str:
        return content_hash(
            prompt.write(read_task(tasks[task]["domain_pddl"], tasks[task]["pddl"]))
        )

    for row in _of(warehouse, experiment, "traces"):
        place = row["generation"], row["purpose"], row["task"], row["sample"]
        same = row["trace"] == trace_id(experiment.id, *place)
        same &= row["seed"] == trace_seed(experiment, *place)
        ids = row["token_ids"]  # a server tells their number alone
        same &= not len(ids) or row["reasoning_tokens"] + row["plan_tokens"] == len(ids)
        if row["prompt_format"] != str(prompt):
            check.skipped += 1
        elif row["task"] in tasks:
            same &= row["prompt_hash"] == prompt_hash(row["task"])
        check.expect(same, f"trace {row['trace']}: id, seed, tokens or prompt are not its own")


def _judgements(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    prompt = PROMPTS[experiment.model.prompt]
    _verdicts(warehouse, experiment.id, prompt, str(prompt), check)


def _verdicts(
    warehouse: Warehouse, source: str, prompt: PromptFormat, written: str, check: Check
) -> None:
    """Judge again what came from an experiment or source, where nothing was revised since."""
    rows = _records(
        warehouse,
        "SELECT t.*, k.pddl, d.pddl AS domain_pddl, j AS verdict "
        "FROM judgements AS j JOIN traces AS t ON t.trace = j.trace "
        "JOIN tasks AS k ON k.task = t.task JOIN domains AS d USING (domain_hash) "
        "WHERE t.experiment = :source ORDER BY t.task, j.trace",
        source=source,
    )
    current = (CHECKER, VERSION, written)
    for row in rows:
        verdict = row["verdict"]
        if (verdict["checker"], verdict["checker_version"], row["prompt_format"]) != current:
            check.skipped += 1
            continue
        again = judgement(checker_for(row["domain_pddl"], row["pddl"]), row, prompt)
        keys = RE_DERIVED if verdict["redundant"] is None else (*RE_DERIVED, "redundant")
        told, found = ([r[key] for key in keys] for r in (verdict, again))
        check.expect(told == found, f"verdict on {row['trace']}: says {told}, judged again {found}")


def _ingested(warehouse: Warehouse) -> Check:
    check = Check("ingested")
    rows = "SELECT trace, experiment, task, policy, text FROM traces WHERE purpose = 'ingest'"
    for row in _records(warehouse, rows):
        own = ingested_id(row["experiment"], row["task"], row["policy"], row["text"])
        check.expect(row["trace"] == own, f"ingested trace {row['trace']}: its id is not its own")
    sources = "SELECT experiment FROM experiments WHERE config = :nothing"
    for row in _records(warehouse, sources, nothing=NO_SETTINGS):
        _verdicts(warehouse, row["experiment"], READING, FORMAT, check)
    return check


def _canaries(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    for row in _of(warehouse, experiment, "canaries"):
        of = row["generation"], row["task"], row["kind"], row["text"]
        same = row["canary"] == canary_id(experiment.id, *of) and row["outcome"] != "VALID"
        check.expect(same, f"canary {row['canary']}: accepted, or its id is not its own")


def _selections(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    told = warehouse.frame(
        "SELECT * EXCLUDE (experiment, plan_length) FROM selections "
        "WHERE experiment = :experiment ORDER BY trace",
        experiment=experiment.id,
    )
    for generation, rows in told.groupby("generation"):
        index = int(str(generation))
        again = select(warehouse, experiment, index).frame.sort_values("trace")
        columns = [name for name in again.columns if name != "plan_length"]
        before, after = (set(frame[columns].itertuples(index=False)) for frame in (rows, again))
        check.looked_at += len(rows)
        for row in sorted(before - after):
            check.wrong.append(
                f"selection for generation {index}: {row.trace} is not {row.reason!r}"
            )
        for row in sorted(after - before):
            check.wrong.append(
                f"selection for generation {index}: {row.trace} should be {row.reason!r}"
            )


def _generations(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    for row in _of(warehouse, experiment, "generations"):
        index, problem = row["generation"], ""
        if row["weights_hash"] == UNKNOWN:
            check.skipped += 1
            continue
        try:
            if index > 0 or experiment.model.learns:
                checkpoint_of(warehouse, experiment, index)
            elif first_weights(experiment) != row["weights_hash"]:
                problem = f"it is {row['weights_hash']} no longer"
        except InvalidInput as error:
            problem = str(error)
        if not problem and index > 0:
            learned = training_set_hash(lessons_of(warehouse, experiment.id, index))
            if learned != row["training_set_hash"]:
                problem = f"its lessons have the hash {learned}, not {row['training_set_hash']}"
        check.expect(not problem, f"generation {index} of {experiment.id}: {problem}")


def _parts(warehouse: Warehouse, experiment: Experiment, check: Check) -> None:
    """A part of a sampling stage is whole and marked, or it is not there at all."""
    marks = _of(warehouse, experiment, "marks")
    for purpose, drawing in (("deploy", experiment.deploy), ("evaluate", experiment.evaluate)):
        parts = parts_of(tasks_for(warehouse, experiment, purpose))
        part_of = {task["task"]: number for number, part in enumerate(parts) for task in part}
        done = {(row["generation"], row["part"]) for row in marks if row["stage"] == purpose}
        counts: Counter[tuple[int, int]] = Counter()
        for row in _records(
            warehouse,
            "SELECT generation, task, count(*) AS n FROM traces "
            "WHERE experiment = :experiment AND purpose = :purpose GROUP BY ALL",
            experiment=experiment.id,
            purpose=purpose,
        ):
            counts[row["generation"], part_of.get(row["task"], -1)] += row["n"]
        for generation, part in sorted(done | set(counts)):
            wanted = len(parts[part]) * drawing.samples if (generation, part) in done else 0
            held = counts[generation, part]
            check.expect(
                held == wanted,
                f"{purpose} part {part} of generation {generation}: {held} traces, not {wanted}",
            )


def _of(warehouse: Warehouse, experiment: Experiment, table: str) -> list[Row]:
    """The rows of a table that belong to an experiment."""
    return _records(
        warehouse, f"SELECT * FROM {table} WHERE experiment = :experiment", experiment=experiment.id
    )


def _records(warehouse: Warehouse, sql: str, **parameters: object) -> list[Row]:
    """Rows as dictionaries, with None where there is no value."""
    frame = warehouse.frame(sql, **parameters)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
