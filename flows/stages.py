"""The stages of the loop: each asks the warehouse what is missing, does that, and marks it done
last.

Large stages are cut into parts of a fixed number of tasks. A part and its mark are one transaction,
and its contents depend on nothing but the experiment, so that a run killed anywhere and started
again ends with the same rows as one that was never stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from curation.curators import curate as choose
from flows.experiment import Drawing, Experiment, Split
from flows.progress import Watch
from planners import extraction
from planners.base import embedded_base
from planners.checker import CHECKER, CHECKER_VERSION, checker_for
from planners.domains import DOMAINS
from planners.errors import InvalidInput
from planners.fine_tuning import Lesson, Settings, fine_tune, weights_hash
from planners.local import LocalPolicy, load, require_checkpoint, use_threads
from planners.pddl import print_problem, read_task
from planners.prompts import PROMPTS
from planners.records import Completion, Outcome, content_hash, derive_seed
from warehouse import schema
from warehouse.store import Row, Warehouse

PART = 250
"""Tasks in one part of a sampling stage: what a kill can cost."""
CODE_VERSION = "0.1.0"
SPLITS = ("train", "heldout", "larger")


# ---------------------------------------------------------------- prepare


def require_base(experiment: Experiment) -> Path:
    """The folder of the weights that generation 0 has. Raises CheckpointError; writes nothing."""
    named = experiment.model.base
    return require_checkpoint(embedded_base() if named == "embedded" else named)


def prepare(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> None:
    """Write down the experiment, its tasks and generation 0, once."""
    if warehouse.done(experiment.id, 0, "prepare"):
        return
    entry = DOMAINS[experiment.tasks.domain]
    domain_row = {"domain_hash": content_hash(entry.text), "name": entry.name, "pddl": entry.text}
    task_rows, split_rows = _task_rows(experiment, domain_row, watch)
    base = require_base(experiment)
    generation = {
        "experiment": experiment.id,
        "generation": 0,
        "parent": None,
        "start": "none",
        "checkpoint": experiment.model.base,
        "weights_hash": weights_hash(base),
        "training_set_hash": None,
        "training": None,
    }
    described = {
        "experiment": experiment.id,
        "hash": experiment.hash,
        "name": experiment.name,
        "seed": experiment.seed,
        "config": experiment.canonical(),
        "code_version": CODE_VERSION,
    }
    warehouse.record(
        {
            schema.experiments: [described],
            schema.domains: [domain_row],
            schema.tasks: task_rows,
            schema.experiment_tasks: split_rows,
            schema.generations: [generation],
        },
        mark=(experiment.id, 0, "prepare", 0),
    )


def _task_rows(experiment: Experiment, domain: Row, watch: Watch) -> tuple[list[Row], list[Row]]:
    """The tasks of all splits, no two alike: distinct by content hash across the splits."""
    seen: set[str] = set()
    tasks: list[Row] = []
    places: list[Row] = []
    for split_name in SPLITS:
        split: Split = getattr(experiment.tasks, split_name)
        rng = Random(derive_seed(experiment.seed, "tasks", split_name))
        with watch.bar(f"{split_name} tasks", split.count) as advance:
            for position in range(split.count):
                row = _fresh_task(split, domain, rng, seen)
                tasks.append(row)
                places.append(
                    {
                        "experiment": experiment.id,
                        "task": row["task"],
                        "split": split_name,
                        "position": position,
                    }
                )
                advance(1)
    return tasks, places


def _fresh_task(
    split: Split, domain: Row, rng: Random, seen: set[str], attempts: int = 1000
) -> Row:
    """One task of a split that no split has yet. Raises InvalidInput where none is found."""
    generate = DOMAINS[domain["name"]].generate
    for _ in range(attempts):
        horizon, size = rng.randint(*split.horizons), rng.randint(*split.sizes)
        problem = generate(size, horizon, rng)
        if problem is None:
            continue
        text = print_problem(problem)
        key = read_task(domain["pddl"], text).key
        if key not in seen:
            seen.add(key)
            return {
                "task": key,
                "domain_hash": domain["domain_hash"],
                "domain": domain["name"],
                "size": size,
                "horizon": horizon,
                "pddl": text,
            }
    raise InvalidInput(
        f"no new {domain['name']} task of sizes {split.sizes} and horizons {split.horizons} in "
        f"{attempts} "
        "attempts; ask for fewer tasks, or for wider ranges"
    )


# ---------------------------------------------------------------- deploy and evaluate


def deploy(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Put a generation to work on the training tasks; its traces may be learned from."""
    tasks = warehouse.tasks(experiment.id, "train")
    _sample(warehouse, experiment, generation, "deploy", experiment.deploy, tasks, watch)


def evaluate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Measure a generation on all splits; these traces are never learned from."""
    tasks = [task for split in SPLITS for task in warehouse.tasks(experiment.id, split)]
    _sample(warehouse, experiment, generation, "evaluate", experiment.evaluate, tasks, watch)


def _sample(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    purpose: str,
    drawing: Drawing,
    tasks: Sequence[Row],
    watch: Watch,
) -> None:
    parts = [tasks[i : i + PART] for i in range(0, len(tasks), PART)]
    done = warehouse.done(experiment.id, generation, purpose)
    if len(done) == len(parts):
        return
    folder, weights = _checkpoint(warehouse, experiment, generation)
    policy = _policy(folder, weights, experiment.model.batch, experiment.model.threads)
    write = PROMPTS[experiment.model.prompt].write
    with watch.bar(f"generation {generation}: {purpose}", len(tasks) * drawing.samples) as advance:
        for number, part in enumerate(parts):
            if number in done:
                advance(len(part) * drawing.samples)
                continue
            rows: list[Row] = [
                {
                    "task": task,
                    "sample": sample,
                    "seed": derive_seed(experiment.seed, generation, purpose, task["task"], sample),
                }
                for task in part
                for sample in range(drawing.samples)
            ]
            texts = {t["task"]: write(read_task(t["domain_pddl"], t["pddl"]).problem) for t in part}
            completions = policy.sample(
                [texts[row["task"]["task"]] for row in rows],
                drawing.sampling(experiment.seed),
                [row["seed"] for row in rows],
                on_rows=advance,
            )
            traces = [
                _trace(
                    experiment,
                    generation,
                    purpose,
                    row,
                    texts[row["task"]["task"]],
                    completion,
                    policy,
                )
                for row, completion in zip(rows, completions, strict=True)
            ]
            warehouse.record({schema.traces: traces}, (experiment.id, generation, purpose, number))


def _trace(
    experiment: Experiment,
    generation: int,
    purpose: str,
    row: Row,
    prompt: str,
    completion: Completion,
    policy: Any,
) -> Row:
    task, sample = row["task"]["task"], row["sample"]
    reasoning = policy.reasoning_tokens(completion)
    return {
        "trace": content_hash(experiment.id, str(generation), purpose, task, str(sample)),
        "experiment": experiment.id,
        "generation": generation,
        "purpose": purpose,
        "task": task,
        "sample": sample,
        "seed": row["seed"],
        "prompt_format": str(PROMPTS[experiment.model.prompt]),
        "prompt_hash": content_hash(prompt),
        "text": completion.text,
        "token_ids": list(completion.token_ids),
        "reasoning_tokens": reasoning,
        "plan_tokens": len(completion.token_ids) - reasoning,
        "finish_reason": completion.finish_reason,
        "logprob": completion.logprob,
        "sampling_logprob": completion.sampling_logprob,
        "policy": policy.name,
        "code_version": CODE_VERSION,
    }


@lru_cache(maxsize=1)
def _policy(folder: Path, weights: str, batch: int, threads: int) -> Any:
    """The policy of a checkpoint; the last one is kept, as deploy and evaluate use the same."""
    use_threads(threads)
    return LocalPolicy(*load(folder), name=f"local {weights}", batch=batch)


def _checkpoint(warehouse: Warehouse, experiment: Experiment, generation: int) -> tuple[Path, str]:
    """Folder and weights hash of a generation, refused where the weights are not those recorded."""
    row = warehouse.generation(experiment.id, generation)
    if row is None:
        raise InvalidInput(
            f"{experiment.id} has no generation {generation}; run `posterity run` first"
        )
    folder = (
        require_base(experiment) if generation == 0 else warehouse.checkpoints / row["checkpoint"]
    )
    if not folder.is_dir():
        raise InvalidInput(
            f"the checkpoint of generation {generation} is missing at {folder}; put it back "
            "beside the "
            "warehouse, or start over in a new warehouse"
        )
    if weights_hash(folder) != row["weights_hash"]:
        raise InvalidInput(
            f"the weights in {folder} are not those that generation {generation} of "
            f"{experiment.id} was "
            "recorded with; restore them, or start a new experiment"
        )
    return folder, row["weights_hash"]


# ---------------------------------------------------------------- judge


def judge(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Give every trace of a generation its verdict."""
    waiting = warehouse.unjudged(experiment.id, generation, CHECKER, CHECKER_VERSION)
    tasks = {task["task"]: task for task in warehouse.tasks(experiment.id)}
    verdicts: list[Row] = []
    with watch.bar(f"generation {generation}: judge", len(waiting)) as advance:
        for key, traces in groupby(waiting, key=lambda trace: trace["task"]):
            checker = checker_for(tasks[key]["domain_pddl"], tasks[key]["pddl"])
            for trace in traces:
                verdicts.append(_judgement(checker, trace))
                advance(1)
    warehouse.record({schema.judgements: verdicts}, (experiment.id, generation, "judge", 0))


def _judgement(checker: Any, trace: Row) -> Row:
    found = extraction.extract(trace["text"])
    row: Row = {
        "trace": trace["trace"],
        "checker": CHECKER,
        "checker_version": CHECKER_VERSION,
        "extraction_version": extraction.EXTRACTION_VERSION,
        "step": None,
        "plan_length": None,
        "cost": None,
    }
    if trace["finish_reason"] == "length":
        return {**row, "outcome": Outcome.TRUNCATED.value, "detail": "cut at max_new_tokens"}
    if found.plan is None:
        return {**row, "outcome": Outcome.NO_PLAN.value, "detail": found.reason}
    verdict = checker.check(found.plan)
    return {
        **row,
        "outcome": verdict.outcome.value,
        "step": verdict.step,
        "detail": verdict.detail,
        "plan_length": len(found.plan),
        "cost": verdict.cost,
    }


# ---------------------------------------------------------------- curate and train


def curate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Decide on every trace of the pool what `generation` is trained on."""
    if warehouse.done(experiment.id, generation, "curate"):
        return
    selection = choose(
        experiment.curation.curator,
        warehouse.pool(experiment.id, before=generation),
        generation,
        experiment.curation.replay,
        _matched_count(warehouse, experiment, generation),
        derive_seed(experiment.seed, generation, "curate"),
    )
    rows = selection.frame.assign(experiment=experiment.id, generation=generation).to_dict(
        "records"
    )
    warehouse.record({schema.selections: rows}, (experiment.id, generation, "curate", 0))


def _matched_count(warehouse: Warehouse, experiment: Experiment, generation: int) -> int | None:
    """How many traces the twin of a control kept, None where nothing is matched."""
    twin = experiment.twin()
    if twin is None:
        return None
    count = warehouse.kept_count(twin.hash, generation)
    if count is None:
        raise InvalidInput(
            f"this control keeps as many traces as curator {experiment.curation.match!r} did "
            "for generation "
            f"{generation}, but that experiment is not in {warehouse.path}; run it there first, "
            "with the same "
            "settings and seed (for example `posterity run quickstart --set "
            f"seed={experiment.seed}`)"
        )
    return count


def train(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Fine-tune `generation` on its selection, from the base or from its parent."""
    if warehouse.generation(experiment.id, generation) is not None:
        return
    use_threads(experiment.model.threads)
    rows = warehouse.lessons(experiment.id, generation)
    lessons = [
        Lesson(read_task(row["domain_pddl"], row["pddl"]).problem, row["text"]) for row in rows
    ]
    settings = experiment.training
    start = _checkpoint(warehouse, experiment, 0 if settings.start == "base" else generation - 1)[0]
    checkpoint = f"{experiment.id}/generation-{generation:03d}"
    with watch.bar(f"generation {generation}: train", settings.steps) as advance:
        facts = fine_tune(
            start,
            lessons,
            Settings(
                steps=settings.steps,
                batch=settings.batch,
                learning_rate=settings.learning_rate,
                rename=settings.rename,
                shuffle=settings.shuffle,
                prompt=experiment.model.prompt,
                seed=derive_seed(experiment.seed, generation, "train"),
            ),
            warehouse.checkpoints / checkpoint,
            on_step=lambda step, loss: advance(1, f"loss {loss:.3f}"),
        )
    learned = [f"{row['task']} {row['weight']!r} {row['text']}" for row in rows]
    row = {
        "experiment": experiment.id,
        "generation": generation,
        "parent": generation - 1,
        "start": settings.start,
        "checkpoint": checkpoint,
        "weights_hash": weights_hash(warehouse.checkpoints / checkpoint),
        "training_set_hash": content_hash(*sorted(learned)),
        "training": json.dumps(facts, sort_keys=True),
    }
    warehouse.record({schema.generations: [row]}, (experiment.id, generation, "train", 0))
