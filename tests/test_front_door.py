"""The front door: what each package exports, and the lines that a notebook begins with."""

import importlib
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

import curation
import flows
import planners
import warehouse
from planners import DOMAINS, InvalidInput, Outcome, Plan, check, explain, generate, read_task
from planners.checking.checker import Checker
from planners.errors import NotJudged
from planners.pddl.printing import print_task
from planners.pddl.unified import from_unified, plan_from_unified, plan_to_unified, to_unified
from tests.planners.walker import random_walk

PACKAGES = (planners, curation, warehouse, flows)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_what_is_exported_is_there_and_typed(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package)), "a prompt completes them"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = package.nonsense  # type: ignore[attr-defined]
    folder = Path(str(importlib.import_module(package.__name__).__file__)).parent  # type: ignore[attr-defined]
    assert (folder / "py.typed").is_file()


def test_the_lines_of_a_notebook(tmp_path: Path) -> None:
    from flows import Experiment, run

    task, plan = generate("blocksworld", size=4, horizon=3, seed=0)
    assert check(task, plan).valid
    changes = ["tasks.train.count=20", "tasks.heldout.count=4", "tasks.larger.count=2",
               "training.steps=2", "tasks.train.horizons=[1,3]", "model.threads=1"]  # fmt: skip
    file = tmp_path / "t.duckdb"
    with run("tiny", changes, generations=1, warehouse=file) as store:
        assert store.frame("FROM progress")["generation"].tolist() == [0, 1]
        begun = store.frame("FROM experiments")["experiment"][0]
    assert isinstance(flows.load_experiment("tiny", changes), Experiment)
    assert flows.load_experiment("tiny", changes).id == begun
    with pytest.raises(InvalidInput, match="unknown setting 'generatoins'"):
        run("tiny", generatoins=1, warehouse=tmp_path / "none.duckdb")
    assert not (tmp_path / "none.duckdb").exists()


def test_the_checker_alone_loads_nothing_heavy() -> None:
    code = (
        "from planners import check, read_task, Plan\nimport sys\n"
        "print([m for m in ('torch', 'prefect', 'duckdb', 'pandas', 'sqlalchemy',"
        "'unified_planning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_takes_what_there_is(tmp_path: Path) -> None:
    task, plan = generate("ferry", size=2, horizon=4, seed=1)
    domain, problem = DOMAINS["ferry"].text, print_task(task)
    files = [tmp_path / name for name in ("domain.pddl", "problem.pddl", "plan")]
    for file, text in zip(files, (domain, problem, str(plan)), strict=True):
        file.write_text(text)
    up = to_unified(task)
    for given in (
        (task, plan), (task, str(plan)), (task, files[2]), (domain, problem, plan),
        (domain, problem, str(plan)), tuple(files), (domain, files[1], files[2]),
        (up, plan_to_unified(up, plan)), (up, str(plan)),
    ):  # fmt: skip
        assert check(*given).valid, given
    assert check(task, Plan(())).outcome is Outcome.GOAL_NOT_REACHED
    assert check(task, "I do not know").outcome is Outcome.NO_PLAN
    assert check(task, "problem.pddl").outcome is Outcome.NO_PLAN, "a text is never a path"
    loud = Plan(tuple([word.upper() for word in action] for action in plan.actions))
    assert check(task, loud).valid, "names are case-insensitive, and a list is as good as a tuple"
    assert explain(task, "(board nobody)")
    assert not explain(task, str(plan))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((3, "(a)"), "a int is not a task"),
        ((generate("ferry", 1, 2)[0],), "two arguments or three, found 1"),
        ((generate("ferry", 1, 2)[0], 7), "a int is not a plan"),
        ((7, "(define", "(a)"), "a int is not PDDL"),
        ((generate("ferry", 1, 2)[0], Plan(((),))), r"\(\) is no action"),
        ((generate("ferry", 1, 2)[0], Plan((("board", 3),))), "is no action"),
        ((Path("nowhere.pddl"), "(define", "(a)"), "nowhere.pddl cannot be read"),
    ],
)
def test_what_check_cannot_take_is_one_message(given: tuple, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(*given)


@pytest.mark.parametrize("timeout", [0, -2.0, float("nan"), "3"])
def test_a_time_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidInput, match="give seconds above 0"):
        check(generate("ferry", 1, 2)[0], "(a)", timeout=timeout)


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_unified_planning_and_back(name: str) -> None:
    """Both ways a task keeps its verdicts, on plans that end well and on random walks."""
    entry = DOMAINS[name]
    task, plan = generate(name, max(entry.smallest, 3), 2, seed=4)
    there = to_unified(task)
    back = Checker(from_unified(there))
    walked, _ = random_walk(task, 6, Random(0))
    for some in (plan, walked, Plan(plan.actions[:-1])):
        moved = plan_from_unified(there, plan_to_unified(there, some))
        assert back.check(moved).outcome is Checker(task).check(some).outcome


def test_what_unified_planning_has_and_we_do_not_is_one_message() -> None:
    from unified_planning.shortcuts import DurativeAction, Fluent, Problem, StartTiming

    done = Fluent("done")
    slow = DurativeAction("slow")
    slow.set_fixed_duration(3)
    slow.add_effect(StartTiming(), done, True)
    problem = Problem("p")
    problem.add_fluent(done, default_initial_value=False)
    problem.add_action(slow)
    problem.add_goal(done)
    with pytest.raises(InvalidInput, match=r"not judged: .*CONTINUOUS_TIME"):
        check(problem, "(slow)")


def test_what_pddl_cannot_say_of_a_problem_is_refused_and_no_other_task_judged() -> None:
    from fractions import Fraction

    from unified_planning.model import ContingentProblem
    from unified_planning.plans import ActionInstance, SequentialPlan, TimeTriggeredPlan
    from unified_planning.shortcuts import (
        GE,
        BoolType,
        Fluent,
        InstantaneousAction,
        Int,
        IntType,
        MinimizeActionCosts,
        Not,
        Problem,
        RealType,
        SimulatedEffect,
    )  # fmt: skip

    def counting(kind: Any, by: Any = 1) -> tuple[Any, Any, Any]:
        problem, count, step = Problem("p"), Fluent("f", kind), InstantaneousAction("a")
        problem.add_fluent(count, default_initial_value=0)
        step.add_increase_effect(count, by)
        problem.add_action(step)
        problem.add_goal(GE(count, 1))
        return problem, count, step

    for kind in (IntType(0, 2), RealType(0, 2)):
        with pytest.raises(NotJudged, match="BOUNDED_TYPES"):
            check(counting(kind)[0], "(a)")
    with pytest.raises(InvalidInput, match="cannot exactly represent"):
        check(counting(RealType(), Fraction(1, 3))[0], "(a)")
    assert check(counting(IntType())[0], "(a)").valid
    problem, count, step = counting(IntType())
    step.clear_effects()
    step.set_simulated_effect(SimulatedEffect([count()], lambda *_: [Int(1)]))
    with pytest.raises(NotJudged, match="SIMULATED_EFFECTS"):
        check(problem, "(a)")
    hidden = ContingentProblem("c")
    one, two = hidden.add_fluent("h", BoolType()), hidden.add_fluent("k", BoolType())
    hidden.add_oneof_initial_constraint([one, two])
    hidden.add_goal(Not(one))
    with pytest.raises(NotJudged, match="CONTINGENT"):
        check(hidden, ";")
    problem, _, step = counting(IntType())
    problem.add_quality_metric(MinimizeActionCosts({}))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="no cost for the action 'a': give Minimize"):
            check(problem, SequentialPlan([ActionInstance(step)]))
    problem.clear_quality_metrics()
    assert check(problem, SequentialPlan([ActionInstance(step)])).valid
    timed = TimeTriggeredPlan([(Fraction(0), ActionInstance(step), None)])
    with pytest.raises(InvalidInput, match="TimeTriggeredPlan is not a SequentialPlan"):
        check(problem, timed)


def test_generate_refuses_what_it_cannot_make() -> None:
    with pytest.raises(InvalidInput, match="unknown domain 'chess'; known: blocksworld"):
        generate("chess", 3, 3)
    assert generate("rovers", 3, 4, seed=2)[0].key == generate("rovers", 3, 4, seed=2)[0].key
    assert read_task(DOMAINS["rovers"].text, print_task(generate("rovers", 3, 4)[0]))


def test_a_task_is_read_from_files_and_a_path_as_text_is_told(tmp_path: Path) -> None:
    task, _ = generate("blocksworld", size=4, horizon=3, seed=0)
    domain, problem = tmp_path / "domain.pddl", tmp_path / "problem.pddl"
    domain.write_text(DOMAINS["blocksworld"].text)
    problem.write_text(print_task(task))
    assert read_task(domain, problem).key == task.key
    with pytest.raises(InvalidInput, match=r"'domain\.pddl' is not PDDL text"):
        read_task("domain.pddl", "problem.pddl")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_task(domain, tmp_path / "none.pddl")
