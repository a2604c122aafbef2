"""Putting a generation to work: the stages deploy and evaluate.

Tasks are sampled in parts of a fixed size, whose contents depend on the experiment alone. Traces
are written every SECONDS, the last ones of a part with its mark in one transaction. So a kill loses
at most that much time and the batches in progress, and running again gives the same traces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from flows.experiments.experiment import Experiment
from flows.experiments.tables import Drawing, Workers
from flows.generations.identity import CODE_VERSION, trace_id, trace_seed
from flows.generations.policies import policy_of
from flows.generations.remeasured import require_own_weights
from flows.generations.tasks import parts_of, tasks_for
from flows.loop.executors import shares, spread
from flows.loop.prepare import pose_fresh
from flows.progress import Advance, Watch
from planners.policies.local import LocalPolicy
from planners.policies.served import ServedPolicy
from planners.policies.validating import ValidatingPolicy
from planners.prompts.formats import PROMPTS
from planners.records import Completion, content_hash
from warehouse.landing import land, landing, take
from warehouse.records import Mark, Task, Trace
from warehouse.store import Warehouse


def deploy(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Put a generation to work on the training tasks, or on fresh ones; its traces may be learned
    from.
    """
    pose_fresh(warehouse, experiment, generation, watch)
    _sample(warehouse, Stage(experiment, generation, "deploy"), watch)


def evaluate(warehouse: Warehouse, experiment: Experiment, generation: int, watch: Watch) -> None:
    """Measure a generation on all splits; its traces are never learned from."""
    _sample(warehouse, Stage(experiment, generation, "evaluate"), watch)


SECONDS = 20.0
"""Time between two transactions of a sampling stage."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A generation put to work, to learn from it (`deploy`) or to measure it (`evaluate`)."""

    experiment: Experiment
    generation: int
    purpose: str

    @property
    def drawing(self) -> Drawing:
        """Its sampling settings."""
        return self.experiment.deploy if self.purpose == "deploy" else self.experiment.evaluate

    def mark(self, part: int) -> Mark:
        """The mark that says that one of its parts is complete."""
        return Mark(self.experiment.id, self.generation, self.purpose, part)

    def trace(self, drawn: Draw) -> str:
        """The id of the trace that a draw gives."""
        place = self.generation, self.purpose, drawn.task.key, drawn.sample
        return trace_id(self.experiment.id, *place)


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of one task, and the seed of its random draws."""

    task: Task
    sample: int
    prompt: str
    seed: int


def _sample(warehouse: Warehouse, stage: Stage, watch: Watch) -> None:
    tasks = tasks_for(warehouse, stage.experiment, stage.purpose, stage.generation)
    parts, samples = parts_of(tasks), stage.drawing.samples
    done = warehouse.done(stage.experiment.id, stage.generation, stage.purpose)
    missing = [number for number in range(len(parts)) if number not in done]
    if not missing:
        return
    label = f"generation {stage.generation}: {stage.purpose}"
    with watch.bar(label, len(tasks) * samples) as advance:
        # The bar starts where an interrupted run had got to.
        known = warehouse.trace_ids(stage.experiment.id, stage.generation, stage.purpose)
        advance(len(known))
        if (workers := stage.experiment.workers) is not None:
            _by_workers(warehouse, stage, workers, missing, advance)
            return
        begun, tokens = monotonic(), 0
        for number, traces, last in _sampled(warehouse, stage, tasks, missing, known):
            warehouse.write(traces, stage.mark(number) if last else None)
            tokens += sum(trace.reasoning_tokens + trace.plan_tokens for trace in traces)
            advance(len(traces), f"{tokens / (monotonic() - begun):.0f} tokens a second")


def _sampled(
    warehouse: Warehouse,
    stage: Stage,
    tasks: Sequence[Task],
    numbers: Sequence[int],
    known: Collection[str],
) -> Iterator[tuple[int, list[Trace], bool]]:
    """Sample some parts of a stage's tasks, without the traces that are known already.

    Yields, every SECONDS, a part's number, new traces of it, and whether the part is complete.
    """
    experiment, drawing = stage.experiment, stage.drawing
    prompt = PROMPTS[experiment.model.prompt]
    chosen = [parts_of(tasks)[number] for number in numbers]
    texts = {task.key: prompt.write(task.parsed) for part in chosen for task in part}

    def draw(task: Task, sample: int) -> Draw:
        seed = trace_seed(experiment, stage.generation, stage.purpose, task.key, sample)
        return Draw(task, sample, texts[task.key], seed)

    with policy_of(warehouse, experiment, stage.generation, drawing) as policy:
        prompts = list(texts.values())
        require_own_weights(warehouse, experiment, stage.generation, policy, prompts)
        if drawing.max_tool_calls and isinstance(policy, LocalPolicy | ServedPolicy):
            asked = {texts[task.key]: task.parsed for part in chosen for task in part}
            calls, seconds = drawing.max_tool_calls, experiment.judging.timeout
            policy = ValidatingPolicy(policy, asked, prompt, calls, seconds)
        policy.require_room(prompts, drawing)  # before hours of sampling
        for number, part in zip(numbers, chosen, strict=True):
            draws = [draw(task, sample) for task in part for sample in range(drawing.samples)]
            rows = enumerate(draws) if known else ()  # nothing is known of a stage that begins
            done = {row for row, one in rows if stage.trace(one) in known}
            traces, written = list[Trace](), monotonic()
            for found in policy.stream(
                [d.prompt for d in draws], drawing, [d.seed for d in draws], done
            ):
                traces += [
                    _trace(stage, policy.name, str(prompt), draws[row], completion)
                    for row, completion in sorted(found.items())
                    if row not in done
                ]
                if monotonic() - written > SECONDS:
                    yield number, traces, False
                    traces, written = [], monotonic()
            yield number, traces, True


def _trace(stage: Stage, policy: str, prompt: str, drawn: Draw, completion: Completion) -> Trace:
    """The record of a completion."""
    experiment, key = stage.experiment.id, drawn.task.key
    return Trace(
        id=stage.trace(drawn),
        experiment=experiment,
        generation=stage.generation,
        purpose=stage.purpose,
        task=key,
        sample=drawn.sample,
        seed=drawn.seed,
        prompt_format=prompt,
        prompt_hash=content_hash(drawn.prompt),
        text=completion.text,
        token_ids=completion.token_ids,
        reasoning_tokens=completion.reasoning_tokens,
        plan_tokens=completion.plan_tokens,
        finish_reason=completion.finish_reason,
        logprob=completion.logprob,
        sampling_logprob=completion.sampling_logprob,
        policy=policy,
        code_version=CODE_VERSION,
        turn_characters=completion.turn_characters,
        turn_tokens=completion.turn_tokens,
    )


def _by_workers(
    warehouse: Warehouse, stage: Stage, workers: Workers, missing: Sequence[int], advance: Advance
) -> None:
    """Let workers sample the missing parts, and write the traces that they land."""
    experiment, generation, purpose = stage.experiment, stage.generation, stage.purpose
    with landing(warehouse, f"{experiment.id}-{generation}-{purpose}") as folder:
        where = str(warehouse.place.published), experiment.model_dump_json(), generation, purpose
        calls = [(*where, list(share), str(folder)) for share in shares(missing, workers)]

        def write_down(landed: list[tuple[int, str, bool]]) -> None:
            for number, file, last in landed:
                advance(take(warehouse, Path(file), stage.mark(number) if last else None))

        spread(workers, sample_parts, calls, write_down)


def sample_parts(
    warehouse: str, experiment: str, generation: int, purpose: str, numbers: list[int], folder: str
) -> list[tuple[int, str, bool]]:
    """On a worker: sample some parts of a stage and land them; return part, file, and whether that
    is the part's last file.
    """
    stage = Stage(Experiment.model_validate_json(experiment), generation, purpose)
    with Warehouse(warehouse, read_only=True) as store:
        tasks = tasks_for(store, stage.experiment, purpose, generation)
        known = store.trace_ids(stage.experiment.id, generation, purpose)
        return [
            (number, str(land(Path(folder), Trace, traces)), last)
            for number, traces, last in _sampled(store, stage, tasks, numbers, known)
        ]
