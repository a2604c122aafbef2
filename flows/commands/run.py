"""The commands that make something: a run, its estimate, verdicts on plans, tasks, a base."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from flows.commands.terminal import (
    DEFAULT,
    Changes,
    ContinueAs,
    Named,
    WarehouseFile,
    app,
    one_message,
    tell_error,
)
from planners.checking.checker import PLAN_SECONDS
from planners.errors import InvalidInput, harmless


@app.command()
def run(
    experiment: Named = "quickstart",
    changes: Changes = None,
    warehouse: WarehouseFile = DEFAULT,
    continue_as: ContinueAs = None,
    prefect: Annotated[
        bool | None,
        typer.Option(
            "--prefect/--plain",
            help="As a Prefect flow, or as plain Python in this process alone. Where not said: as "
            "a flow if a Prefect server is configured, or workers.",
            show_default=False,
        ),
    ] = None,
    without_forgotten: Annotated[
        bool,
        typer.Option(
            "--without-forgotten",
            help="Go back to the last generation that learned nothing that was forgotten since, "
            "and make the later ones again.",
        ),
    ] = False,
) -> None:
    """Run the loop to its last generation. Run it again to resume where it stopped.

    Presets: **quickstart** (Blocksworld, five generations, two cores), **control** (the same
    without curation), **reinforce** (the same with an explicit reward), **deployed** (it learns
    from users alone), **validate** (it may ask the checker), **blocksworld** (the quickstart under
    its domain's name), **rovers**, **sokoban**, **ten-domains**, **tiny** (a minute, to try things
    out); and for language models **smollm2**, **smollm2-control**, **qwen3-0.6b**, **paper**.
    """
    with one_message():
        from flows.experiments.reading import load_experiment
        from flows.generations.begun import as_begun, near_twin
        from flows.generations.policies import require_first
        from flows.iterate import iterate
        from flows.loop.plan import require_fit
        from flows.loop.promote import without_forgotten as clear_of_forgotten
        from flows.progress import Watch, summary_table
        from flows.schedule.orchestrate import iterate_with_prefect
        from flows.schedule.server import server_configured
        from warehouse.store import Warehouse

        settings, watch = load_experiment(experiment, changes), Watch()
        if continue_as is not None:
            with Warehouse(warehouse, read_only=True) as store:
                settings = as_begun(store, settings, continue_as, changes or ())
        require_first(settings)  # what is missing is named before anything is written
        require_fit(settings)
        as_flow = prefect or (prefect is None and bool(settings.workers or server_configured()))
        if not as_flow:
            settings = settings.model_copy(update={"workers": None})
        with Warehouse(warehouse) as store, store.working_on(settings.id):
            watch.say(f"{settings.id} in {warehouse}")
            if (twin := near_twin(store, settings)) is not None:
                watch.say(
                    f"a new experiment, beside {twin.id}: {twin.told}; to go on with that one, "
                    f"stop, and run with --continue-as {twin.id}"
                )
            if without_forgotten:
                settings, clean = clear_of_forgotten(store, settings)
                if clean is not None:
                    watch.say(f"generation {clean} is deployed again; those after it are made anew")
            (iterate_with_prefect if as_flow else iterate)(store, settings, watch)
            watch.console.print(summary_table(store, settings.id, settings.evaluate.samples))
        where = quote(str(warehouse))
        watch.say(f'look further: posterity query --warehouse {where} "FROM coverage_by_horizon"')


@app.command()
def study(
    named: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="paper, error, taste, shrinkage, fresh, crossing, or a TOML file of arms and "
            "seeds.",
        ),
    ],
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side; default: one per core, up to 8.")
    ] = None,
    runner: Annotated[
        Literal["dask", "ray"] | None,
        typer.Option(help="Run them on workers instead of in processes."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="The cluster whose workers run them; where not said, one is started."),
    ] = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Run arms that differ in a few settings at the same seeds, and compare them.

    Each run has a process and a warehouse of its own, which is taken into this one when it is
    finished. Killed, the same command goes on. Workers elsewhere need the warehouse's folder.
    The view `study_effects`, `report` and `view` show how far each arm is from the first.
    """
    with one_message():
        from flows.experiments.tables import Workers
        from flows.progress import Watch
        from flows.study.reading import read_study
        from flows.study.running import run_study
        from planners.models.hardware import cores
        from warehouse.places.connect import place_of
        from warehouse.places.file import File

        if address is not None and runner is None:
            raise InvalidInput("--address needs --runner dask or --runner ray")
        many, found = at_once or cores(0), read_study(named)
        workers = runner and Workers(runner=runner, count=many, address=address)
        place = place_of(warehouse)
        if not isinstance(place, File):
            raise InvalidInput("a study needs a warehouse in a file: --warehouse FILE")
        run_study(found, place.path, many, Watch(), workers)


@app.command()
def plan(
    experiment: Named = "quickstart",
    changes: Changes = None,
) -> None:
    """Tokens, memory and time of an experiment on this machine, before anything starts.

    Exit 1 where it does not fit. Every completion is counted at its maximum length.
    """
    with one_message():
        from flows.experiments.reading import load_experiment
        from flows.loop.plan import GIB, duration, estimate, plan_table
        from flows.progress import Watch
        from planners.models.costs import measured, this_machine

        settings, watch = load_experiment(experiment, changes), Watch()
        found = estimate(
            settings, measured(this_machine(settings.model.device, settings.model.dtype))
        )
        watch.console.print(plan_table(settings, found))
        machine = found.machine
        watch.say(
            f"{found.shape.parameters / 1e6:,.1f} million parameters on {machine.device} with "
            f"{machine.memory / GIB:.0f} GiB, {machine.rate / 1e9:,.0f} GFLOP/s; prompts of up to "
            f"{found.longest} tokens; the whole run in at most {duration(found.seconds)}"
        )
        for stage in found.too_large:
            watch.say(f"does not fit: {stage.name} takes {stage.memory / GIB:.1f} GiB")
    raise typer.Exit(1 if found.too_large else 0)


@app.command()
def check(
    domain: Annotated[Path, typer.Argument(help="The domain's PDDL file.")],
    problem: Annotated[Path, typer.Argument(help="The problem's PDDL file.")],
    plans: Annotated[list[str], typer.Argument(help="Plan files, or - for standard input.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per plan, one per line, in order.")
    ] = False,
    referee: Annotated[
        str, typer.Option("--referee", help="Second opinions, for example kairos,val,up.")
    ] = "",
    reference: Annotated[
        float | None,
        typer.Option(min=1, max=86_400, help="Seconds that Fast Downward has for a plan."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.01, max=86_400, help="Seconds for a plan, or it is not judged.")
    ] = PLAN_SECONDS,
    extract: Annotated[
        bool, typer.Option("--extract", help="Find the plan in a model's answer, as the loop does.")
    ] = False,
    any_domain_name: Annotated[
        bool, typer.Option("--any-domain-name", help="Let the problem name another domain.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="What is unmet, which step made it so, which actions would help."
        ),
    ] = False,
) -> None:
    """Judge plans. Exit 0: all valid. 1: at least one is not. 2: one could not be judged.

    Referees (kairos, val, up) give second opinions; the verdict and exit code stay ours. With a
    reference, it also counts a valid plan's redundant actions (greedy action elimination).
    """
    with one_message():
        from flows.commands.check import Judged, Unjudged, judge_files

        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        code = 0
        names = [name.strip() for name in referee.split(",") if name.strip()]
        for result in judge_files(
            domain, problem, plans, names, reference, timeout, extract, any_domain_name, explain
        ):
            if isinstance(result, Unjudged):
                tell_error(result.why)
                code = 2
            elif not result.verdict.valid:
                code = max(code, 1)
            if as_json or isinstance(result, Judged):
                typer.echo(json.dumps(result.to_json()) if as_json else harmless(str(result)))
    raise typer.Exit(code)


@app.command()
def tasks(
    domain: Annotated[str, typer.Argument(help="A domain's name; an unknown one lists them.")],
    size: Annotated[str, typer.Option("--size", help="A number, or a range: 4-9.")] = "4-6",
    horizon: Annotated[str, typer.Option("--horizon", help="A number, or a range: 2-8.")] = "2-8",
    count: Annotated[int, typer.Option("--count", min=1, max=10**6, help="How many tasks.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    out: Annotated[Path, typer.Option("--out", help="A new folder.")] = Path("tasks"),
    plans: Annotated[
        bool,
        typer.Option(
            "--plans", help="Also traces.jsonl: a plan for each, to ingest and learn from."
        ),
    ] = False,
) -> None:
    """Write PDDL tasks: domain.pddl and p01.pddl, ... The same seed writes the same bytes.

    No two tasks are the same under other object names. Size counts what the domain is made of
    (blocks, cars ...), horizon the length of a plan that is known to exist (Blocksworld: moves of
    an optimal one); both stand in each file's first line.
    """
    with one_message():
        from flows.progress import Watch
        from planners.domains import domain_named
        from planners.domains.task_sets import write_tasks

        domain_named(domain)
        watch = Watch()
        with watch.bar(f"{domain} tasks", count) as advance:
            bounds = _bounds("--size", size), _bounds("--horizon", horizon)
            write_tasks(out, domain, *bounds, count, seed, advance, plans)
        watch.say(f"{out}: domain.pddl and {count} {'problem' if count == 1 else 'problems'}")


def _known(domains: str) -> tuple[str, ...]:
    """The names in a comma-separated list. Raises InvalidInput on none or an unknown domain."""
    from planners.domains import domain_named

    names = tuple(name.strip() for name in domains.split(",") if name.strip())
    for name in names or [""]:  # an empty list names no domain
        domain_named(name)
    return names


def _bounds(option: str, text: str) -> tuple[int, int]:
    """The ends of `4` or `4-9`, both included. Raises InvalidInput on anything else."""
    low, _, high = text.partition("-")
    try:
        bounds = int(low), int(high or low)
    except ValueError:
        bounds = (0, 0)  # refused below, like a range that runs backwards
    if not 0 < bounds[0] <= bounds[1]:
        raise InvalidInput(f"{option} {text!r}: expected a number above 0, or a range such as 4-9")
    return bounds


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")] = Path("base"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of data and weights.")] = 0,
    domains: Annotated[
        str, typer.Option(help="Domains that it plans in, such as rovers,sokoban.")
    ] = "blocksworld",
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 6250,
    batch: Annotated[int, typer.Option(min=1, help="Tasks per training step.")] = 64,
    tail: Annotated[
        float, typer.Option(min=0, max=0.9, help="Chance of each further move or action.")
    ] = 0.25,
    names: Annotated[int, typer.Option(min=1, max=64, help="How many object names it knows.")] = 24,
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="Threads; the weights' last bits depend on it.")
    ] = 2,
    half: Annotated[
        bool, typer.Option("--half", help="Store weights in half precision: half the file.")
    ] = False,
    in_order: Annotated[
        str,
        typer.Option(
            help="Domains with maps in which objects are named by their place in sorted order, so "
            "that a cell's name says where it is.",
            metavar="DOMAINS",
        ),
    ] = "",
    start: Annotated[
        str | None, typer.Option(help="Train the base in this folder further.", metavar="FOLDER")
    ] = None,
    layers: Annotated[int, typer.Option(min=1, help="Layers of a new model.")] = 4,
    width: Annotated[int, typer.Option(min=64, help="Its width, a multiple of 64.")] = 128,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes that make examples; 0: this one, enough on a CPU."),
    ] = 0,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="Numbers that it is calculated with; bfloat16 is faster."),
    ] = "auto",
    size: Annotated[
        str, typer.Option(help="Size of tasks, a range such as 4-6; default: each domain's own.")
    ] = "",
) -> None:
    """Make the embedded base model again from its seed (about 40 minutes on two cores)."""
    with one_message():
        from flows.progress import Watch
        from planners.files import require_new
        from planners.models.checkpoint import weights_hash
        from planners.models.hardware import use_threads
        from planners.training.curriculum import Pretraining
        from planners.training.pretraining import pretrain as make

        require_new(out, " with --out")
        settings = Pretraining(
            _known(domains), seed, steps, batch, tail=tail, names=names, half=half, start=start,
            in_order=_known(in_order) if in_order else (), layers=layers, width=width,
            workers=workers, dtype=dtype, size=_bounds("--size", size) if size else None,
        )  # fmt: skip
        use_threads(threads)
        watch = Watch()
        with watch.bar("pretrain", steps) as advance:
            make(out, settings, lambda step, loss: advance(1, f"loss {loss:.3f}"))
        watch.say(f"{out}: weights {weights_hash(out)}")
