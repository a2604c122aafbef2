"""Putting a generation to work: the stages deploy and evaluate.

Tasks are sampled in parts of a fixed number. A part and its mark are one transaction, and its
contents depend on nothing but the experiment: a kill costs the part, or with workers the parts,
that are being done, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.experiments.experiment import Experiment
from flows.experiments.tables import Drawing, Workers
from flows.generations.identity import CODE_VERSION, trace_id, trace_seed
from flows.generations.policies import policy_of
from flows.generations.tasks import parts_of, tasks_for
from flows.loop.executors import shares, spread
from flows.progress import Advance, Watch
from planners.pddl import read_task
from planners.prompts.formats import PROMPTS
from planners.records import Completion, content_hash
from warehouse import schema
from warehouse.landing import land, landing, take
from warehouse.store import Row, Warehouse


def deploy(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Put a generation to work on the training tasks; its traces may be learned from."""
    tasks = tasks_for(warehouse, experiment, "deploy")
    _sample(warehouse, experiment, generation, "deploy", experiment.deploy, tasks, watch)


def evaluate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Measure a generation on all splits; these traces are never learned from."""
    tasks = tasks_for(warehouse, experiment, "evaluate")
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
    parts = parts_of(tasks)
    done = warehouse.done(experiment.id, generation, purpose)
    missing = [number for number in range(len(parts)) if number not in done]
    if not missing:
        return
    label = f"generation {generation}: {purpose}"
    with watch.bar(label, len(tasks) * drawing.samples) as advance:
        for number in done:
            advance(len(parts[number]) * drawing.samples)
        if experiment.workers:
            _by_workers(
                warehouse, experiment, experiment.workers, generation, purpose, missing, advance
            )
            return
        sampled = _sampled(warehouse, experiment, generation, purpose, tasks, missing, advance)
        for number, traces in sampled:
            warehouse.record({schema.traces: traces}, (experiment.id, generation, purpose, number))


def _sampled(
    warehouse: Warehouse,
    experiment: Experiment,
    generation: int,
    purpose: str,
    tasks: Sequence[Row],
    numbers: Sequence[int],
    advance: Advance = lambda rows: None,
) -> Iterator[tuple[int, list[Row]]]:
    """The traces of some parts of a stage's tasks."""
    drawing = experiment.deploy if purpose == "deploy" else experiment.evaluate
    write = PROMPTS[experiment.model.prompt].write
    chosen = [parts_of(tasks)[number] for number in numbers]
    texts = {
        t["task"]: write(read_task(t["domain_pddl"], t["pddl"])) for part in chosen for t in part
    }
    sampling = drawing.sampling(experiment.seed)
    with policy_of(warehouse, experiment, generation) as policy:
        policy.require_room(list(texts.values()), sampling)
        alike = {
            "experiment": experiment.id,
            "generation": generation,
            "purpose": purpose,
            "prompt_format": str(PROMPTS[experiment.model.prompt]),
            "policy": policy.name,
            "code_version": CODE_VERSION,
        }
        for number, part in zip(numbers, chosen, strict=True):
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
            yield (
                number,
                [
                    {**alike, **_trace(alike, row, texts[row["task"]["task"]], completion)}
                    for row, completion in zip(rows, completions, strict=True)
                ],
            )


def _by_workers(
    warehouse: Warehouse, experiment: Experiment, workers: Workers, generation: int, purpose: str,
    missing: Sequence[int], advance: Advance,
) -> None:  # fmt: skip
    """Let workers sample the missing parts; what they land is written down."""
    with landing(warehouse, f"{experiment.id}-{generation}-{purpose}") as folder:
        where = str(warehouse.place.published), experiment.model_dump_json(), generation, purpose
        calls = [(*where, list(share), str(folder)) for share in shares(missing, workers)]

        def write_down(files: dict[int, str]) -> None:
            for number, file in files.items():
                mark = experiment.id, generation, purpose, number
                advance(take(warehouse, Path(file), mark))

        spread(workers, sample_parts, calls, write_down)


def sample_parts(
    warehouse: str, experiment: str, generation: int, purpose: str, numbers: list[int], folder: str
) -> dict[int, str]:
    """On a worker: sample some parts of a stage and land them; gives the file of each."""
    settings = Experiment.model_validate_json(experiment)
    with Warehouse(warehouse, read_only=True) as store:
        tasks = tasks_for(store, settings, purpose)
        sampled = _sampled(store, settings, generation, purpose, tasks, numbers)
        return {
            number: str(land(Path(folder), schema.traces, traces)) for number, traces in sampled
        }


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
