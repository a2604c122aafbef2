"""Each view against the same thing in plain Python, on random warehouses."""

import json
from collections import defaultdict
from pathlib import Path
from random import Random
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from curation.curators import SELECTED
from warehouse import schema
from warehouse.places.connect import view_sql
from warehouse.records import Mark
from warehouse.store import Warehouse

Row = dict[str, Any]
DECISION = (
    "experiment", "generation", "trace", "kept", "weight", "reason", "task", "from_generation",
    "plan_length", "reasoning_tokens",
)  # fmt: skip


def trace_row(name: str, generation: int, purpose: str, task: str, sample: int) -> Row:
    return {
        "trace": name,
        "experiment": "e",
        "generation": generation,
        "purpose": purpose,
        "task": task,
        "sample": sample,
        "seed": 0,
        "prompt_format": "compact-1",
        "prompt_hash": "h",
        "text": "",
        "token_ids": [2],
        "reasoning_tokens": 0,
        "plan_tokens": 1,
        "finish_reason": "stop",
        "logprob": -1.0,
        "sampling_logprob": -1.0,
        "policy": "p",
        "code_version": "0",
    }


def random_rows(seed: int) -> tuple[list[Row], list[Row], list[Row], list[Row], list[Row]]:
    """Tasks, places, traces, judgements and selections of an experiment of three generations."""
    rng = Random(seed)
    tasks = [
        {
            "task": f"k{i}",
            "domain_hash": "d",
            "domain": rng.choice("xy"),
            "size": rng.randint(3, 4),
            "horizon": rng.randint(1, 3),
            "pddl": "",
        }
        for i in range(8)
    ]
    splits = [rng.choice(["train", "heldout", "larger"]) for _ in tasks]
    places = [
        {"experiment": "e", "task": t["task"], "split": s, "position": i, "horizon": t["horizon"]}
        for i, (t, s) in enumerate(zip(tasks, splits, strict=True))
    ]
    for task in tasks:
        task["horizon"] = rng.randint(4, 6)  # another experiment wrote it first
    traces, judgements, selections = [], [], []
    for generation in range(3):
        for task in tasks:
            for sample in range(rng.randint(1, 3)):
                purpose = rng.choice(["deploy", "evaluate"])
                name = f"{generation}-{task['task']}-{sample}"
                traces.append(trace_row(name, generation, purpose, task["task"], sample))
                if rng.random() < 0.9:
                    outcome = rng.choice(["VALID", "VALID", "NO_PLAN", "WRONG_TYPE"])
                    verdict = {
                        "trace": name,
                        "checker": "posterity",
                        "checker_version": "2",
                        "extraction_version": "1",
                        "outcome": outcome,
                        "step": None,
                        "detail": "",
                        "cost": None,
                        "plan_length": None if outcome == "NO_PLAN" else rng.randint(1, 9),
                        "superseded": False,
                        "experiment": "e",
                        "generation": generation,
                        "purpose": purpose,
                        "task": task["task"],
                    }
                    if rng.random() < 0.3:
                        older = {"checker_version": "1", "outcome": "WRONG_ARITY"}
                        judgements.append({**verdict, **older})
                    judgements.append(verdict)
    for trained in (1, 2):
        for trace in traces:
            written = int(str(trace["generation"]))
            if trace["purpose"] == "deploy" and written < trained and rng.random() < 0.9:
                kept = rng.random() < 0.5
                selections.append(
                    {
                        "experiment": "e",
                        "generation": trained,
                        "trace": trace["trace"],
                        "kept": kept,
                        "weight": float(kept),
                        "reason": "r",
                        "task": trace["task"],
                        "from_generation": written,
                        "plan_length": rng.choice([None, 2]),
                        "reasoning_tokens": 0,
                        "accepted": rng.choice([None, True]),
                    }
                )
    return tasks, places, traces, judgements, selections


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_views_agree_with_plain_python(seed: int) -> None:
    tasks, places, traces, judgements, selections = random_rows(seed)
    opinions = [
        {
            "trace": trace["trace"],
            "referee": "r",
            "valid": Random(f"{seed} {trace['trace']}").choice([True, False, None]),
            "note": "",
        }
        for trace in traces
    ]
    with TemporaryDirectory() as folder, Warehouse(Path(folder) / "w.duckdb") as store:
        generations = [
            {
                "experiment": "e",
                "generation": g,
                "parent": g - 1 if g else None,
                "start": "base",
                "checkpoint": "c",
                "weights_hash": "w",
                "training_set_hash": None,
                "training": None,
            }
            for g in range(3)
        ]
        store.record(
            {
                schema.tasks: tasks,
                schema.experiment_tasks: places,
                schema.traces: traces,
                schema.generations: generations,
                schema.opinions: opinions,
            }
        )
        for trained in (1, 2):
            decided = [one for one in selections if one["generation"] == trained]
            frame = pd.DataFrame(decided, columns=SELECTED)
            store.decide(frame, Mark("e", trained, "curate"))
        for version in ("1", "2"):
            some = [j for j in judgements if j["checker_version"] == version]
            store.record({schema.judgements: some})
        got = {
            name: store.frame(f"SELECT * FROM {name}")
            .astype(object)
            .where(lambda f: f.notna(), None)
            .to_dict("records")
            for name in (
                "coverage",
                "coverage_by_horizon",
                "plan_length",
                "verdicts",
                "curated",
                "decisions",
                "lineage",
                "progress",
                "best_plans",
                "disagreements",
            )
        }
    horizons = {p["task"]: p["horizon"] for p in places}
    task_of = {t["task"]: t | {"horizon": horizons[t["task"]]} for t in tasks}
    split_of = {p["task"]: p["split"] for p in places}
    verdict_of = {j["trace"]: j for j in judgements}
    for grade in ("size", "horizon"):
        view = got["coverage" if grade == "size" else "coverage_by_horizon"]
        assert as_set(view) == as_set(coverage(traces, task_of, split_of, verdict_of, grade))
    assert as_set(got["plan_length"]) == as_set(plan_length(traces, task_of, split_of, verdict_of))
    assert as_set(got["verdicts"]) == as_set(verdicts(traces, task_of, verdict_of))
    assert as_set(got["decisions"]) == as_set(
        [{("trace_id" if k == "trace" else k): s[k] for k in DECISION} for s in selections]
    )
    assert as_set(got["progress"]) == as_set(progress(traces, split_of, verdict_of))
    assert {(b["task"], b["trace_id"], b["plan_length"]) for b in got["best_plans"]} == best_plans(
        traces, verdict_of
    )
    assert {d["trace_id"] for d in got["disagreements"]} == {
        o["trace"]
        for o in opinions
        if o["valid"] is not None
        and o["trace"] in verdict_of
        and o["valid"] != is_valid(o, verdict_of)
    }
    kept = [s for s in selections if s["kept"]]
    assert {(c["generation"], c["trace_id"], c["from_generation"]) for c in got["curated"]} == {
        (s["generation"], s["trace"], int(s["trace"][0])) for s in kept
    }
    for row in got["lineage"]:
        sources = [int(s["trace"][0]) for s in kept if s["generation"] == row["generation"]]
        assert row["traces"] == len(sources)
        assert (row["traces_by_source"] or {}) == {
            g: sources.count(g) for g in sorted(set(sources))
        }


def as_set(rows: list[Row]) -> set[Any]:
    return {
        tuple(sorted((k, round(v, 9) if isinstance(v, float) else v) for k, v in row.items()))
        for row in rows
    }


def evaluated(traces: list[Row]) -> list[Row]:
    return [t for t in traces if t["purpose"] == "evaluate"]


def judged(traces: list[Row], verdict_of: Any) -> list[Row]:
    """Evaluated traces that have a verdict; one without is not counted as a failure."""
    return [t for t in evaluated(traces) if t["trace"] in verdict_of]


def is_valid(trace: Row, verdict_of: dict[str, Row]) -> bool:
    return verdict_of.get(trace["trace"], {}).get("outcome") == "VALID"


def coverage(
    traces: list[Row], task_of: Any, split_of: Any, verdict_of: Any, grade: str
) -> list[Row]:
    by_task: dict[Any, list[bool]] = defaultdict(list)
    for t in judged(traces, verdict_of):
        by_task[t["generation"], t["task"]].append(is_valid(t, verdict_of))
    cells: dict[Any, list[list[bool]]] = defaultdict(list)
    for (generation, task), results in by_task.items():
        cells[generation, split_of[task], task_of[task]["domain"], task_of[task][grade]].append(
            results
        )
    return [
        {
            "experiment": "e",
            "generation": g,
            "split": s,
            "domain": d,
            grade: x,
            "tasks": len(results),
            "solved": sum(map(any, results)),
            "unanimous": sum(map(all, results)),
            "coverage": sum(map(any, results)) / len(results),
            "pass_at_1": mean(mean(r) for r in results),
        }
        for (g, s, d, x), results in cells.items()
    ]


def plan_length(traces: list[Row], task_of: Any, split_of: Any, verdict_of: Any) -> list[Row]:
    good = [t for t in evaluated(traces) if is_valid(t, verdict_of)]
    first = {t["task"] for t in good if t["generation"] == 0}
    cells: dict[Any, list[tuple[int, bool]]] = defaultdict(list)
    for t in good:
        key = (t["generation"], split_of[t["task"]], task_of[t["task"]]["domain"])
        cells[key].append((verdict_of[t["trace"]]["plan_length"], t["task"] in first))
    found = []
    for (g, s, d), pairs in cells.items():
        lengths, common = [n for n, _ in pairs], [n for n, both in pairs if both]
        found.append(
            {
                "experiment": "e",
                "generation": g,
                "split": s,
                "domain": d,
                "plans": len(pairs),
                "mean": float(mean(lengths)),
                "median": float(median(lengths)),
                "longest": max(lengths),
                "mean_common": float(mean(common)) if common else None,
            }
        )
    return found


def verdicts(traces: list[Row], task_of: Any, verdict_of: Any) -> list[Row]:
    cells: dict[Any, list[str]] = defaultdict(list)
    for t in traces:
        outcome = verdict_of.get(t["trace"], {}).get("outcome")
        cells[t["generation"], task_of[t["task"]]["domain"], outcome].append(t["purpose"])
    return [
        {
            "experiment": "e",
            "generation": g,
            "domain": d,
            "outcome": o,
            "traces": len(p),
            "deployed": p.count("deploy"),
            "evaluated": p.count("evaluate"),
        }
        for (g, d, o), p in cells.items()
    ]


def progress(traces: list[Row], split_of: Any, verdict_of: Any) -> list[Row]:
    by_task: dict[Any, list[Row]] = defaultdict(list)
    for t in judged(traces, verdict_of):
        by_task[t["generation"], t["task"]].append(t)

    def share(generation: int, split: str, test: Any) -> float | None:
        chosen = [
            test(is_valid(t, verdict_of) for t in found)
            for (g, task), found in by_task.items()
            if g == generation and split_of[task] == split
        ]
        return mean(chosen) if chosen else None

    first: dict[str, int] = {}
    for (generation, task), found in sorted(by_task.items()):
        if split_of[task] == "train" and any(is_valid(t, verdict_of) for t in found):
            first.setdefault(task, generation)
    return [
        {
            "experiment": "e",
            "generation": g,
            "tasks": sum(g == of and split_of[task] == "train" for of, task in by_task),
            "coverage": share(g, "train", any),
            "unanimous": share(g, "train", all),
            "heldout": share(g, "heldout", any),
            "larger": share(g, "larger", any),
            "longest": max(
                (
                    verdict_of[t["trace"]]["plan_length"]
                    for (of, _), found in by_task.items()
                    for t in found
                    if of == g and is_valid(t, verdict_of)
                ),
                default=0,
            ),
            "new_solved": sum(g == of for of in first.values()),
        }
        for g in {generation for generation, _ in by_task}
    ]


def best_plans(traces: list[Row], verdict_of: Any) -> set[tuple[str, str, int]]:
    found: dict[str, tuple[int, str]] = {}
    for t in traces:
        if is_valid(t, verdict_of):
            here = verdict_of[t["trace"]]["plan_length"], t["trace"]
            found[t["task"]] = min(found.get(t["task"], here), here)
    return {(task, trace, length) for task, (length, trace) in found.items()}


def test_the_interval_of_acceptance_counts_users(warehouse: Warehouse) -> None:
    """100 answers, of which one user gave 60: as many opinions as 41 users have, not 100."""
    view = view_sql("deployments")
    for users, opinions in (("CASE WHEN i < 60 THEN 'u' ELSE i::VARCHAR END", 100**2 / 3640),
                            ("i::VARCHAR", 100)):  # fmt: skip
        told = warehouse.frame(
            "WITH traces AS (SELECT i::VARCHAR AS trace, 'e' AS experiment, 0 AS generation, "
            "'request' AS purpose FROM range(100) AS t(i)), "
            "requests AS (SELECT i::VARCHAR AS trace, TIMESTAMP '2026-01-01' AS received_at, "
            f"1.0 AS latency_ms, {users} AS user_hash FROM range(100) AS t(i)), "
            "stg_verdicts AS (SELECT '0' AS trace, 'VALID' AS outcome), "
            "feedback AS (SELECT i::VARCHAR AS trace, i < 60 AS accepted, "
            "NULL AS user_hash FROM range(100) AS t(i)) "
            f"SELECT * FROM ({view})"
        )
        low, high = proportion_confint(0.6 * opinions, opinions, method="wilson")
        assert told["acceptance_low"][0] == pytest.approx(low, abs=1e-3)
        assert told["acceptance_high"][0] == pytest.approx(high, abs=1e-3)


@pytest.mark.parametrize("crossed", [False, True])
def test_runs_that_learn_each_others_traces_have_no_interval(crossed: bool) -> None:
    """They share their luck, and are no trials of their own."""
    config = {"curation": {"crossing": [0, 1, 2]} if crossed else {}}
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE experiments (experiment VARCHAR, config VARCHAR)")
        connection.execute(
            "CREATE TABLE studies AS SELECT 's' AS study, arm, arm = 'b' AS position, seed, "
            "arm || seed AS experiment FROM (VALUES ('a'), ('b')) AS a(arm), range(3) AS r(seed)"
        )
        connection.execute(
            "INSERT INTO experiments SELECT experiment, if(arm = 'b', $1, '{}') FROM studies",
            [json.dumps(config)],
        )
        connection.execute(
            "CREATE TABLE stg_task_results AS SELECT experiment, 1 AS generation, 'train' AS split,"
            " task, 3 AS samples, if(hash(experiment, task) % 3 = 0, 0, 3) AS valid "
            "FROM studies, range(40) AS t(task)"
        )
        [row] = connection.execute(view_sql("study_effects")).df().itertuples()
    assert (row.seeds, row.tasks) == (3, 120)
    assert row.effect != 0
    assert pd.isna(row.low) == pd.isna(row.high) == crossed
