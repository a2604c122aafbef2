"""Learning from ingested traces: which are, as what they are learned, and what must not be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.audit.audit import audit
from flows.audit.verify import verify
from flows.experiments.experiment import Experiment
from flows.generations.lessons import as_lessons
from flows.generations.pool import choosable
from flows.iterate import iterate
from flows.progress import Watch
from planners.checking.checker import checker_for
from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.models.hardware import use_threads
from planners.pddl.printing import print_problem
from planners.pddl.renaming import rename
from planners.prompts.formats import PROMPTS
from planners.records import Turn
from tests.conftest import small
from tests.flows.loop.test_ingest import take
from warehouse.pool import lessons_of
from warehouse.store import Warehouse

QUIET = Watch(quiet=True)
TOWER = """(define (problem p) (:domain blocksworld) (:objects red green blue)
(:init (arm-empty) (clear red) (clear green) (clear blue)
    (on-table red) (on-table green) (on-table blue))
(:goal (and (on red green) (on green blue))))"""
ANSWER = """Let me think.</think>
```
1. (pickup green)
2. (stack green blue)
3. (PICKUP red)
4. (stack red green)
```"""
GOOD = {"domain": "blocksworld", "problem": TOWER, "completion": ANSWER}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    use_threads(1)


def learner(curator: str = "all-valid", **changes: Any) -> Experiment:
    curation = {"curator": curator, "sources": ["shop"]}
    return Experiment.model_validate(small(curation=curation, generations=1, **changes))


def decisions(store: Warehouse) -> dict[str, tuple[bool, str]]:
    """Policy of an ingested trace to what was decided."""
    found = store.frame(
        "SELECT t.policy, s.kept, s.reason FROM stg_decisions AS s JOIN traces AS t USING (trace) "
        "WHERE s.from_generation = -1 AND s.generation = 1"
    )
    return {row.policy: (row.kept, row.reason) for row in found.itertuples()}


def test_ingested_traces_are_learned_in_the_prompts_own_words(warehouse: Warehouse) -> None:
    take(warehouse, {**GOOD, "model": "good"}, {**GOOD, "completion": "(pickup red)", "model": "x"})
    iterate(warehouse, learner(), QUIET)
    assert decisions(warehouse) == {
        "good": (True, "valid"), "x": (False, "invalid: GOAL_NOT_REACHED")
    }  # fmt: skip
    taught = [one for one in lessons_of(warehouse, learner().id, 1) if one.purpose == "ingest"]
    [lesson] = as_lessons(taught, "compact")
    assert lesson.completion == "(pickup b2)\n(stack b2 b3)\n(pickup b1)\n(stack b1 b2)\n"
    checker = checker_for(DOMAINS["blocksworld"].text, TOWER)
    answered = PROMPTS["compact"].read(lesson.task, lesson.completion).plan
    assert answered is not None
    assert checker.check(answered).valid
    assert as_lessons(taught, "pddl")[0].completion == ANSWER, "a language model learns it as it is"
    measured = [replace(taught[0], logprob=-3.0, turns=(Turn(9, 1), Turn(9, 1), Turn(9, 1)))]
    restated = as_lessons(measured, "compact")[0]
    assert (restated.logprob, restated.turns) == (None, ()), "those of another text"
    assert not any(check.wrong for check in verify(warehouse, QUIET))
    told = audit(warehouse, learner(), QUIET)
    assert any("no recorded log-probability" in line for line in told.lines)


def test_feedback_decides_and_the_verdict_stands_beside_it(warehouse: Warehouse) -> None:
    wrong = {**GOOD, "completion": "(pickup green)\n(stack green blue)\n"}
    take(
        warehouse,
        {**wrong, "model": "liked", "feedback": "accept"},
        {**GOOD, "model": "disliked", "feedback": "reject"},
        {**GOOD, "model": "unseen"},
        {**GOOD, "completion": "I cannot.", "model": "empty", "feedback": "accept"},
    )
    iterate(warehouse, learner("feedback"), QUIET)
    assert decisions(warehouse) == {
        "liked": (True, "accepted by its user"),
        "disliked": (False, "rejected by its user"),
        "unseen": (False, "no feedback"),
        "empty": (False, "accepted, but there is no plan in it"),
    }
    assert [one.text for one in lessons_of(warehouse, learner("feedback").id, 1)] == [
        wrong["completion"]
    ]
    outcome = "SELECT outcome FROM stg_verdicts JOIN curated ON trace = trace_id"
    assert warehouse.frame(outcome)["outcome"].tolist() == ["GOAL_NOT_REACHED"]
    take(warehouse, {**GOOD, "model": "unseen", "feedback": "accept"})  # for later generations
    assert not any(check.wrong for check in verify(warehouse, QUIET))


def test_what_is_measured_on_is_not_learned_under_other_names_neither(
    warehouse: Warehouse,
) -> None:
    take(warehouse, {**GOOD, "model": "good"})
    iterate(warehouse, learner(), QUIET)
    held_out = warehouse.tasks(learner().id, "heldout")[0]
    task = held_out.parsed
    names = {name: f"box-{i}" for i, (name, _) in enumerate(task.problem.objects)}
    twin = print_problem(rename(task.problem, names))
    ferry = DOMAINS["ferry"]
    crossing = """(define (problem p) (:domain ferry) (:objects l - location c - car)
    (:init (empty-ferry) (at-ferry l) (at c l)) (:goal (at c l)))"""
    take(
        warehouse,
        {**GOOD, "model": "good"},
        {"domain": "blocksworld", "problem": twin, "completion": "(pickup box-0)", "model": "twin"},
        {"domain": ferry.text, "problem": crossing, "completion": "(board c l)", "model": "ferry"},
    )
    later = learner(seed=0, training={"steps": 4, "batch": 8})
    iterate(warehouse, later, QUIET)
    found = warehouse.frame(
        "SELECT t.policy, s.kept, s.reason FROM stg_decisions AS s JOIN traces AS t USING (trace) "
        "WHERE s.from_generation = -1 AND s.experiment = :e",
        e=later.id,
    )
    told = {row.policy: (row.kept, row.reason) for row in found.itertuples()}
    assert told["good"] == (True, "valid")
    assert told["twin"] == (
        False,
        f"reserved for evaluation: it equals heldout task {held_out.key} up to object names",
    )
    assert told["ferry"] == (False, "its domain ferry is not among the experiment's domains")
    assert not any(check.wrong for check in verify(warehouse, QUIET)), "what came later is no part"


def test_what_the_model_cannot_learn_is_barred_and_says_why(warehouse: Warehouse) -> None:
    blocks = [f"x{i}" for i in range(30)]
    facts = "".join(f"(clear {b}) (on-table {b})" for b in blocks)
    many = f"""(define (problem p) (:domain blocksworld) (:objects {" ".join(blocks)})
    (:init (arm-empty) {facts}) (:goal (on x28 x29)))"""
    plan = "(pickup x28)\n(stack x28 x29)\n"
    negative = TOWER.replace("(:goal (and", "(:goal (and (not (clear blue))")
    commented = f"; by hand\n{DOMAINS['blocksworld'].text}"
    take(
        warehouse,
        {"domain": "blocksworld", "problem": many, "completion": plan, "model": "many"},
        {**GOOD, "problem": negative, "model": "negative"},
        {**GOOD, "domain": commented, "model": "commented"},
    )
    iterate(warehouse, learner(), QUIET)
    told = decisions(warehouse)
    assert told["many"] == (False, "the model has unknown tokens for it")
    assert not told["negative"][0]
    assert "the compact prompt takes a conjunction of atoms" in told["negative"][1]
    assert told["commented"] == (True, "valid")
    assert not any(check.wrong for check in verify(warehouse, QUIET))


def test_tasks_that_were_ingested_first_are_graded_like_others(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    iterate(warehouse, Experiment.model_validate(small(generations=1)), QUIET)
    graded = "SELECT * FROM tasks WHERE horizon IS NOT NULL ORDER BY task"
    expected = warehouse.frame(graded)
    with Warehouse(tmp_path / "other.duckdb") as other:
        problem = {"domain": "blocksworld", "completion": "(pickup b1)"}
        take(other, *({**problem, "problem": pddl} for pddl in expected["pddl"]))
        iterate(other, Experiment.model_validate(small(generations=1)), QUIET)
        assert other.frame(graded).equals(expected)


def test_a_source_without_traces_is_named(warehouse: Warehouse) -> None:
    with pytest.raises(InvalidInput, match="'shop' has no ingested traces"):
        iterate(warehouse, learner(), QUIET)
    assert warehouse.frame("FROM traces").empty, "nothing was sampled before"
    with pytest.raises(ValueError, match=r"needs curation\.sources"):
        Experiment.model_validate(small(curation={"curator": "feedback"}))


def test_sources_that_are_not_set_leave_an_experiment_its_hash() -> None:
    assert "sources" not in json.loads(Experiment.model_validate(small()).canonical())["curation"]


def test_what_may_not_be_kept_is_no_choice() -> None:
    """Neither an audit nor an arm by lot takes it for a trace that was dropped."""
    pool = pd.DataFrame({"trace": ["a", "b", "c"]})
    assert choosable(pool, pool)["trace"].tolist() == ["a", "b", "c"]
    whole = pool.assign(barred=[None, "too long", None])
    assert choosable(pool, whole)["trace"].tolist() == ["a", "c"]
