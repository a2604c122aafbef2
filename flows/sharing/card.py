"""A model card, made from the warehouse: data, lineage, figures, what the audit found, limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from flows.audit.questions import WANTED
from flows.experiments.experiment import Experiment
from flows.experiments.reading import without_places
from flows.generations.identity import CODE_VERSION
from flows.progress import HEADINGS, cell, summary
from flows.report.audit_page import answers, named_in
from planners.errors import InvalidInput, harmless
from planners.models.hub import is_on_hub
from warehouse.records import Generation
from warehouse.store import Warehouse

LIMITS = (
    "Figures are of this experiment's own tasks, domains and sizes; nothing is known of others.",
    "Valid means valid for the plan checker. An invalid plan is not noticed by the model itself: "
    "check every plan before it is carried out.",
    "What a curator rewards besides validity, the next generations do more of. The audit names "
    "associations, not causes, and a quiet audit proves nothing harmless.",
)


def card(
    warehouse: Warehouse, experiment: Experiment, generation: int, license: str | None = None
) -> str:
    """The card of a generation as Markdown, with the fields that a hub reads at its top.

    Raises InvalidInput where there is no such generation.
    """
    made = warehouse.generation(experiment.id, generation)
    if made is None:
        raise InvalidInput(
            f"{experiment.id} has no generation {generation}; `posterity status` shows which it has"
        )
    parts = [
        _fields(experiment, license, generation > 0 and experiment.training.lora is not None),
        f"# {_plain(experiment.name)}, generation {generation}",
        *_origin(warehouse, experiment, made),
        "## Figures",
        _figures(warehouse, experiment.id, generation),
        f"Coverage: share of the training tasks solved by any of {experiment.evaluate.samples} "
        "samples. Held-out and larger tasks are never learned"
        + ("." if experiment.tasks.folder else "; the first have the same sizes as learned ones."),
        "## What selection did",
        *_audit(warehouse, experiment.id, generation),
        "## Limits",
        "\n".join(f"- {one}" for one in LIMITS),
        "## How to make it again",
        f"Posterity {CODE_VERSION}, in the warehouse where it was begun: "
        f"`posterity run {_plain(experiment.name)} --continue-as {experiment.id}` (if it is no "
        "preset, with its file). Its settings:",
        "```json\n" + json.dumps(without_places(experiment), indent=1) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _fields(experiment: Experiment, license: str | None, adapter: bool) -> str:
    base = experiment.model.base
    library = "peft" if adapter else "transformers"
    lines = [f"library_name: {library}", "pipeline_tag: text-generation"]
    lines += [f"license: {json.dumps(license)}"] if license else []
    if is_on_hub(base):
        lines.append(f"base_model: {json.dumps(base)}")
    tags = ["posterity", "planning", "pddl", *sorted(experiment.tasks.grades)]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _origin(warehouse: Warehouse, experiment: Experiment, made: Generation) -> Iterator[str]:
    """Whose child it is, what it learned, and who promoted it."""
    domains = ", ".join(sorted(experiment.tasks.grades))
    yield (
        "A language model that writes plans for planning tasks in PDDL, made by iterative "
        "deployment (arXiv 2512.24940): each generation learns from plans of its ancestors that a "
        f"plan checker judged and a curator kept. Domains: {_plain(domains)}. Prompts have "
        f"the format `{_plain(experiment.model.prompt)}` of Posterity."
    )
    rows = warehouse.query("report_lineage")
    own = rows[(rows["experiment"] == experiment.id) & (rows["generation"] == made.index)]
    if made.parent is None and experiment.warmup is not None:
        yield (
            "It is the base that the experiment began with, after a warm-up on plans that the "
            "domains' generators made."
        )
    elif made.parent is None:
        yield "It is the base that the experiment began with."
    else:
        start = "the base" if made.start == "base" else f"generation {made.parent}"
        yield (
            f"Its parent is generation {made.parent}. It was trained from {start} on "
            f"{int(own['traces'].iloc[0])} traces that the curator "
            f"`{_plain(experiment.curation.curator)}` kept "
            f"(hash of the training set `{made.training_set_hash}`)."
        )
    if made.parent is not None and experiment.training.lora is not None:
        base = "generation 0" if experiment.warmup else _plain(experiment.model.base)
        yield f"It is an adapter (LoRA) of {base}, which it needs."
    if experiment.curation.sources:
        names = ", ".join(experiment.curation.sources)
        yield f"Traces of these sources were in the pool: {_plain(names)}."
    if experiment.deployment is not None:
        yield "Answers to users, with their feedback, were in the pool."
    if experiment.curation.crossing:
        yield "Traces of other runs, of other seeds, that it was crossed with were in the pool."
    tainted = warehouse.query("tainted_of", experiment=experiment.id).set_index("generation")
    if made.index in tainted.index and tainted.loc[made.index, "forgotten"] > 0:
        yield "**It learned from traces that a user has asked to be forgotten since.**"
    elif made.index in tainted.index:
        yield "**It descends from a generation that learned what a user wants to be forgotten.**"
    said = [one for one in warehouse.promotions(experiment.id) if one.generation == made.index]
    for one in said[-1:]:
        verb = "promoted" if one.promoted else "not promoted"
        yield f"It was {verb} by {_plain(one.decided_by)}: {_plain(one.reason)}."
    yield f"Hash of its weights: `{made.weights_hash}`."


def _figures(warehouse: Warehouse, experiment: str, generation: int) -> str:
    told = [row for row in summary(warehouse, experiment) if row.generation <= generation]
    rows = [[title.format(samples="n") for _, title in HEADINGS], ["---"] * len(HEADINGS)]
    rows += [[cell(getattr(row, key)) for key, _ in HEADINGS] for row in told]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _audit(warehouse: Warehouse, experiment: str, generation: int) -> Iterator[str]:
    """Traits that the audit named in the choice that this generation learned from."""
    if generation == 0:
        yield "It learned from no choice yet."
        return
    found = warehouse.query("report_audits")
    asked = found[(found["experiment"] == experiment) & (found["generation"] == generation)]
    _, told = answers(asked, "preferences")
    if told.empty:
        yield "Not asked: `posterity audit` was not run on this generation."
        return
    named = named_in(told)
    if named.empty:
        yield (
            "Within a task, no trait of the valid plans is named as kept more or less often (at a "
            f"false discovery rate of {WANTED:.0%})."
        )
        return
    yield "Within a task, valid plans with these traits were kept more or less often than others:"
    yield "\n".join(
        f"- {_plain(str(row['name']).replace('_', ' '))}: odds times {row['odds_ratio']:.2f} "
        f"({row['low']:.2f} to {row['high']:.2f}), "
        + ("as the curator says" if row["declared"] > 0 else "**not declared**")
        for row in named.to_dict("records")
    )


def _plain(text: str) -> str:
    """A text without what Markdown or HTML would read as markup."""
    return re.sub(r"[^\w .,:;%()+=/@-]", " ", harmless(text))
