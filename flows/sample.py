"""Putting a generation to work: the stages deploy and evaluate.

Tasks are sampled in parts of a fixed number. A part and its mark are one transaction, and its
contents depend on nothing but the experiment: a kill costs one part, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.experiment import Experiment
from flows.policies import policy_of
from flows.prepare import CODE_VERSION
from flows.progress import Watch
from flows.tables import Drawing
from planners.domains.folder import SPLITS
from planners.pddl import read_task
from planners.prompts import PROMPTS
from planners.records import Completion, content_hash, derive_seed
from warehouse import schema
from warehouse.store import Row, Warehouse

PART = 500
"""Tasks in one part of a sampling stage: what a kill can cost."""


def deploy(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Put a generation to work on the training tasks; its traces may be learned from."""
    tasks = tasks_for(warehouse, experiment, "deploy")
    _sample(warehouse, experiment, generation, "deploy", experiment.deploy, tasks, watch)


def evaluate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Measure a generation on all splits; these traces are never learned from."""
    tasks = tasks_for(warehouse, experiment, "evaluate")
    _sample(warehouse, experiment, generation, "evaluate", experiment.evaluate, tasks, watch)


def tasks_for(warehouse: Warehouse, experiment: Experiment, purpose: str) -> list[Row]:
    """The tasks of a sampling stage, in its order."""
    splits = ("train",) if purpose == "deploy" else SPLITS
    return [task for split in splits for task in warehouse.tasks(experiment.id, split)]


def _sample(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    purpose: str,
    drawing: Drawing,
    tasks: Sequence[Row],
    watch: Watch,
) -> None:
    parts = parts_of(tasks)
    done = warehouse.done(experiment.id, generation, purpose)
    if len(done) == len(parts):
        return
    write = PROMPTS[experiment.model.prompt].write
    texts = {t["task"]: write(read_task(t["domain_pddl"], t["pddl"])) for t in tasks}
    sampling = drawing.sampling(experiment.seed)
    label = f"generation {generation}: {purpose}"
    with (
        policy_of(warehouse, experiment, generation) as policy,
        watch.bar(label, len(tasks) * drawing.samples) as advance,
    ):
        policy.require_room(list(texts.values()), sampling)
        alike = {
            "experiment": experiment.id,
            "generation": generation,
            "purpose": purpose,
            "prompt_format": str(PROMPTS[experiment.model.prompt]),
            "policy": policy.name,
            "code_version": CODE_VERSION,
        }
        for number, part in enumerate(parts):
            if number in done:
                advance(len(part) * drawing.samples)
                continue
            rows: list[Row] = [
                {
                    "task": task,
                    "sample": sample,
                    "seed": trace_seed(experiment, generation, purpose, task["task"], sample),
                }
                for task in part
                for sample in range(drawing.samples)
            ]
            completions = policy.sample(
                [texts[row["task"]["task"]] for row in rows],
                sampling,
                [row["seed"] for row in rows],
                on_rows=advance,
            )
            traces = [
                {**alike, **_trace(alike, row, texts[row["task"]["task"]], completion)}
                for row, completion in zip(rows, completions, strict=True)
            ]
            warehouse.record({schema.traces: traces}, (experiment.id, generation, purpose, number))


def parts_of(tasks: Sequence[Row]) -> list[Sequence[Row]]:
    """The parts in which a sampling stage does its tasks."""
    return [tasks[i : i + PART] for i in range(0, len(tasks), PART)]


def trace_id(experiment: str, generation: int, purpose: str, task: str, sample: int) -> str:
    """What identifies a trace: who answered what, and for the how-manieth time."""
    return content_hash(experiment, str(generation), purpose, task, str(sample))


def trace_seed(
    experiment: Experiment, generation: int, purpose: str, task: str, sample: int
) -> int:
    """The seed of a trace's random draws."""
    return derive_seed(experiment.seed, generation, purpose, task, sample)


def _trace(alike: Row, row: Row, prompt: str, completion: Completion) -> Row:
    """What a trace has of its own; `alike` is what those of its stage have in common."""
    task, sample = row["task"]["task"], row["sample"]
    stage = alike["experiment"], alike["generation"], alike["purpose"]
    return {
        "trace": trace_id(*stage, task, sample),
        "task": task,
        "sample": sample,
        "seed": row["seed"],
        "prompt_hash": content_hash(prompt),
        "text": completion.text,
        "token_ids": list(completion.token_ids),
        "reasoning_tokens": completion.reasoning_tokens,
        "plan_tokens": completion.plan_tokens,
        "finish_reason": completion.finish_reason,
        "logprob": completion.logprob,
        "sampling_logprob": completion.sampling_logprob,
    }
