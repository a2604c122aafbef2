"""The commands on a warehouse: look into it, add and export traces, audit and promote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.terminal import (
    DEFAULT,
    Changes,
    OnlyOne,
    WarehouseFile,
    app,
    errors,
    named_or_none,
    one_message,
    readable,
)
from planners.errors import harmless

HINT = (
    "a line is one object of JSON: `jq -c .` writes them so, `jq -c '.[]'` those of an array, and "
    "DuckDB those of a Parquet file (COPY ... TO 'traces.jsonl')"
)
"""Told where no line could be taken."""


@app.command()
def status(warehouse: WarehouseFile = DEFAULT) -> None:
    """Show experiments, their generations and coverage, and what is left to do."""
    with one_message():
        from flows.commands.status import ingested, left_to_do
        from flows.deployment.forgetting import UNFINISHED, is_unfinished
        from flows.experiments.reading import recorded_settings
        from flows.progress import Watch, summary_table
        from warehouse.records import NO_SETTINGS, Experiment
        from warehouse.store import Warehouse

        watch = Watch()
        with Warehouse(readable(warehouse), read_only=True) as store:
            found = sorted(store.every(Experiment), key=lambda one: one.id)
            if not found:
                watch.say(f"no experiment in {warehouse} yet; start one with `posterity run`")
            for one in found:
                if one.config == NO_SETTINGS:
                    watch.say(f"{one.id}: {ingested(store, one.id)}")
                    continue
                samples = recorded_settings(one.config).get("evaluate", {}).get("samples", 0)
                watch.console.print(summary_table(store, one.id, samples))
                watch.say(left_to_do(store, one))
            if is_unfinished(store.place):
                watch.say(UNFINISHED)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT statement.")],
    form: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    warehouse: WarehouseFile = DEFAULT,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds that it may take.")
    ] = 60.0,
    memory: Annotated[str, typer.Option(help="Memory that it may take: 2GB, 512MiB.")] = "2GB",
    rows: Annotated[int, typer.Option(min=1, help="Rows that it may return.")] = 1_000_000,
) -> None:
    """Ask the warehouse in SQL. The query runs in a process that can write nothing.

    Views: progress, coverage, coverage_by_horizon, plan_length, verdicts, curated, decisions,
    lineage, best_plans, disagreements, preferences, between_tasks, implicit_reward,
    selection_differential, deployments, shadows, tainted, forecasts, study_effects, turns,
    tool_calls.
    """
    with one_message():
        from flows.commands.output import require_writable, write_result
        from warehouse.sandbox.query import Limits, ask

        require_writable(form)
        write_result(ask(readable(warehouse), sql, Limits(timeout, memory, rows)), form)


@app.command()
def show(
    trace: Annotated[str, typer.Argument(help="A trace's id, or the beginning of it.")],
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Show a trace: task, completion, its plan step by step, verdict, why it was kept or dropped.

    Blocks and grids are drawn.
    """
    with one_message():
        from flows.commands.show import show as tell
        from warehouse.store import Warehouse

        with Warehouse(readable(warehouse), read_only=True) as store:
            for line in tell(store, trace):
                typer.echo(harmless(line))


@app.command()
def ingest(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="JSON Lines, or - for standard input.")
    ],
    source: Annotated[
        str, typer.Option("--source", help="Name under which the views show these traces.")
    ] = "ingested",
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="posterity, or what another tool exports: chat, langfuse, langsmith, otel, "
            "verifiers, inspect, planbench.",
        ),
    ] = "posterity",
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Judge traces made elsewhere and add them, with their users' feedback.

    Adding them again changes nothing.

    One object per line: completion, and either task (a key of the warehouse) or domain (PDDL, or
    the name of one of ours) and problem (PDDL); optional: model, logprob, sampling_logprob,
    finish_reason (stop, length), feedback (accept, reject), time (ISO 8601). In other tools'
    formats the prompt must hold domain and problem in PDDL. Exit 0: every line was taken. 1: some
    were refused, each named with its reason.
    """
    with one_message():
        from flows.loop.ingest import ingest as take
        from warehouse.places.connect import place_of
        from warehouse.store import Warehouse

        is_new = place_of(warehouse).is_new
        with Warehouse(warehouse) as store:
            report = take(store, file, source, form)
        for line in (*report.refused, *report.unjudged):
            errors.print(escape(harmless(line)), soft_wrap=True, highlight=False)
        typer.echo(
            f"{report.new} new {'trace' if report.new == 1 else 'traces'} from {source}, "
            f"{report.known} known already, {len(report.refused)} refused"
            + (f"; {len(report.unjudged)} kept without a verdict" if report.unjudged else "")
            + (f"; {report.others} lines with no answer of a model" if report.others else "")
        )
        if report.refused and not report.new + report.known:
            errors.print(escape(HINT), soft_wrap=True, highlight=False)
        if is_new:
            told = f"{warehouse} is a new warehouse"
            errors.print(escape(told), soft_wrap=True, highlight=False)
    raise typer.Exit(1 if report.refused else 0)


@app.command()
def load(
    folder: Annotated[Path, typer.Argument(help="Where workers landed Parquet files.")],
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Load the files that workers landed with warehouse.landing.land, each exactly once."""
    with one_message():
        from warehouse.landing import load_landed, require_landing
        from warehouse.store import Warehouse

        require_landing(folder)  # before a warehouse is made
        with Warehouse(warehouse) as store:
            counts = load_landed(store, folder)
        typer.echo(f"{len(counts)} files loaded, {sum(counts.values())} rows")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    license: Annotated[
        str | None, typer.Option(help="Of the data, as a hub names it: cc-by-4.0.")
    ] = None,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Write training sets, traces and tasks as Parquet, with a card.

    Read by datasets.load_dataset(FOLDER, "training"), pandas.read_parquet, and whatever reads
    Parquet.
    """
    with one_message():
        from warehouse.export import export as write
        from warehouse.store import Warehouse

        with Warehouse(warehouse, read_only=True) as store:
            counts = write(store, folder, license)
        typer.echo(f"{folder}: " + ", ".join(f"{n} rows of {name}" for name, n in counts.items()))


@app.command()
def verify(
    measured: Annotated[
        int,
        typer.Option(
            min=0,
            max=999_999,
            help="Traces of each generation whose log-probability is measured again with its "
            "weights; 0 loads no model.",
        ),
    ] = 8,
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Recompute hashes, verdicts, selections and training sets, and compare with the warehouse.

    Names every disagreement. Exit 0: all of it was checked, and nothing disagrees. 1: something
    disagrees, or could not be checked.
    """
    with one_message():
        from flows.audit.verify import verify_and_tell
        from flows.progress import Watch
        from warehouse.store import Warehouse

        with Warehouse(warehouse, read_only=True) as store:
            verified = verify_and_tell(store, Watch(), measured)
    raise typer.Exit(0 if verified else 1)


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("posterity.html"),
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Write one self-contained HTML page: coverage, plan length, verdicts, curation, the audit.

    Experiments that differ by their seed alone are shown together. Every figure comes with its SQL.
    """
    with one_message():
        from flows.report.page import report as write
        from warehouse.store import Warehouse

        with Warehouse(warehouse, read_only=True) as store:
            sections = write(store, out)
        typer.echo(f"{out}: {sections} sections")


@app.command()
def promote(
    generation: Annotated[int, typer.Argument(min=0, help="The generation to deploy.")],
    experiment: OnlyOne = None,
    changes: Changes = None,
    reason: Annotated[
        str, typer.Option("--reason", help="The reason, kept in the table promotions.")
    ] = "",
    warehouse: WarehouseFile = DEFAULT,
) -> None:
    """Deploy a generation: roll back to an older one, or take one that was not promoted.

    The next generation is made from it, and learns from its traces and its ancestors' only. Nothing
    is deleted. Every decision stands in the table promotions.
    """
    with one_message():
        from flows.audit.known import the_one
        from flows.loop.promote import promote_by_hand
        from warehouse.store import Warehouse

        named = named_or_none(experiment, changes)
        with Warehouse(warehouse, read_only=True) as store:
            chosen = the_one(store, named)
        with Warehouse(warehouse) as store:
            if not promote_by_hand(store, chosen, generation, reason):
                typer.echo(f"{chosen.id}: generation {generation} is deployed already")
                return
            newest = store.generations(chosen.id)[-1].index
        typer.echo(
            f"{chosen.id}: generation {generation} is deployed; the next is made from it: run the "
            f"experiment again with --set generations={newest + 1} or more (`posterity status` "
            "prints the command)"
        )
