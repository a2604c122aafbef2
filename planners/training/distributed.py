"""Fine-tune in several processes, each on its own GPU.

All draw the same batches from the same seed, each takes its share of the rows, and gradients are
summed, so that all make the same steps (see `planners.training.loop.fit`). `accelerate launch`
starts them, with NCCL on GPUs and gloo elsewhere. The job is one JSON file; the first process
reports progress, one JSON line per step.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from planners.errors import ComponentFailure, InvalidInput
from planners.models.hardware import hardware, use_hardware, use_threads
from planners.pddl import read_task
from planners.pddl.printing import print_task
from planners.processes import free_port, last_words, stop
from planners.records import Turn
from planners.training.fine_tuning import fine_tune
from planners.training.lessons import Lesson
from planners.training.loop import Facts
from planners.training.settings import Adapter, Training

QUIET = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
"""Options that accelerate would otherwise ask for or warn about."""


def fine_tune_in(
    processes: int,
    start: Path,
    lessons: Sequence[Lesson],
    training: Training,
    folder: Path,
    *,
    prompt: str,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    base: Path | None = None,
) -> Facts:
    """Do the same as `fine_tune`, in several processes on this machine.

    Raises InvalidInput where `fine_tune` does, and ComponentFailure if the processes fail.
    """
    import torch

    # The processes write here; it is renamed once all succeeded and `on_step` saw every step.
    made = folder.with_name(folder.name + ".made")
    job = {
        "start": str(start), "base": None if base is None else str(base), "folder": str(made),
        "training": asdict(training), "prompt": prompt, "seed": seed,
        "threads": torch.get_num_threads(), "device": hardware().device, "dtype": hardware().dtype,
        "lessons": [
            [
                lesson.task.domain.text, print_task(lesson.task), lesson.completion,
                lesson.weight, lesson.logprob, lesson.token_ids, lesson.turns, lesson.silent,
            ]
            for lesson in lessons
        ],
    }  # fmt: skip
    facts: Facts = {}
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "job.json"
        file.write_text(json.dumps(job), "utf-8")
        with _said(processes, file) as lines:
            for line in lines:
                if "message" in line:
                    raise (InvalidInput if line["refused"] else ComponentFailure)(line["message"])
                if "step" in line:
                    on_step(line["step"], line["loss"])
                facts = line.get("facts", facts)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(made, folder)
    return facts


@contextmanager
def _said(processes: int, job: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """Run the processes while the block runs; yields the messages they print, one per line.

    Raises InvalidInput if there are too few GPUs, and ComponentFailure if a process fails.
    """
    import torch

    if hardware().device == "cuda" and torch.cuda.device_count() < processes:
        raise InvalidInput(
            f"training.processes = {processes}, but this machine has {torch.cuda.device_count()} "
            "GPUs; one process takes one"
        )
    command = [
        sys.executable, "-m", "accelerate.commands.launch", *QUIET, "--multi_gpu",
        f"--num_processes={processes}", f"--main_process_port={free_port()}",
        "-m", "planners.training.distributed", str(job),
    ]  # fmt: skip
    with TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            # Other lines are printed by libraries.
            yield (json.loads(line) for line in process.stdout if line.startswith("{"))
            status = process.wait()
        finally:
            stop(process)
            process.stdout.close()
        if status:
            raise ComponentFailure(f"training in {processes} processes failed: {last_words(log)}")


def main(job: str) -> None:
    """Run one of the processes."""
    from accelerate import PartialState

    from planners.errors import PosterityError

    given = json.loads(Path(job).read_text("utf-8"))
    use_hardware(given["device"], given["dtype"])
    use_threads(given["threads"])
    together = PartialState(cpu=hardware().device == "cpu")

    def say(**line: object) -> None:
        if together.is_main_process:
            print(json.dumps(line), flush=True)  # fails, and ends this, once the parent is gone

    lora = given["training"].pop("lora")
    try:
        facts = fine_tune(
            Path(given["start"]),
            [
                Lesson(
                    read_task(domain, problem),
                    text,
                    weight,
                    logprob,
                    tuple(ids),
                    tuple(Turn(*turn) for turn in turns),
                    silent,
                )
                for domain, problem, text, weight, logprob, ids, turns, silent in given["lessons"]
            ],
            Training(**given["training"], lora=Adapter(**lora) if lora else None),
            Path(given["folder"]),
            prompt=given["prompt"],
            seed=given["seed"],
            on_step=lambda step, loss: say(step=step, loss=loss),
            base=Path(given["base"]) if given["base"] else None,
        )
    except PosterityError as error:
        say(refused=isinstance(error, InvalidInput), message=str(error))
        sys.exit(1)
    say(facts=facts)
    together.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
