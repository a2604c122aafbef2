"""The tables, with a sentence for each table and column (stored as database comments).

Ids are made by the client from content, so that writing the same row twice is one row. Foreign
keys are declared for PostgreSQL only: DuckDB's are over-eager.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = 6
metadata = sa.MetaData()


def _column(
    name: str, kind: sa.types.TypeEngine[Any], comment: str, nullable: bool = False
) -> sa.Column[Any]:
    return sa.Column(name, kind, comment=comment, nullable=nullable)


def _key(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False, comment=comment)


TEXT, INT, FLAG = sa.String(), sa.BigInteger(), sa.Boolean()
REAL: sa.Double[float] = sa.Double()
IDS = sa.ARRAY(sa.BigInteger())
TIME = sa.DateTime()


def keyless() -> sa.MetaData:
    """The same tables as they are made, without their keys: `warehouse.load` lets none stand twice,
    and DuckDB's index of them takes three times the room of the rows. A lake has none anyway.
    """
    bare = sa.MetaData()
    for table in metadata.sorted_tables:
        columns = (
            sa.Column(c.name, c.type, nullable=c.nullable, comment=c.comment) for c in table.columns
        )
        sa.Table(table.name, bare, *columns, comment=table.comment)
    return bare


schema_version = sa.Table(
    "schema_version",
    metadata,
    _key("version", INT, "The schema this file has; it grows by named migrations."),
    comment="One row: which schema the file has.",
)

experiments = sa.Table(
    "experiments",
    metadata,
    _key("experiment", TEXT, "Name and hash of the experiment, as the views show it."),
    _column("hash", TEXT, "Hash of all that determines the run's contents."),
    _column("name", TEXT, "Name of the preset or file it came from."),
    _column("seed", INT, "The seed that every other seed of the run derives from."),
    _column("config", TEXT, "Everything that determines the run, as canonical JSON."),
    _column("code_version", TEXT, "Version of Posterity that started it."),
    comment="One row an experiment: everything that determines a run; and one a source of ingested "
    "traces, with empty settings.",
)

domains = sa.Table(
    "domains",
    metadata,
    _key("domain_hash", TEXT, "Hash of the domain's PDDL text."),
    _column("name", TEXT, "Name of the domain."),
    _column("pddl", TEXT, "The domain's PDDL text."),
    comment="One row a PDDL domain.",
)

tasks = sa.Table(
    "tasks",
    metadata,
    _key("task", TEXT, "Hash of the task's canonical PDDL."),
    _column("domain_hash", TEXT, "The domain it belongs to."),
    _column("domain", TEXT, "Name of that domain."),
    _column("size", INT, "Size as the domain's generator counts it, for example blocks."),
    _column(
        "horizon", INT, "Graded difficulty, for example moves of an optimal plan.", nullable=True
    ),
    _column("pddl", TEXT, "The problem's PDDL text."),
    comment="One row a planning task.",
)

experiment_tasks = sa.Table(
    "experiment_tasks",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("task", TEXT, "The task."),
    _column(
        "split", TEXT, "train (deployed and learned from), heldout, or larger than any trained on."
    ),
    _column("position", INT, "Place of the task in its split, from 0."),
    comment="One row a task of an experiment: which split it is in.",
)

generations = sa.Table(
    "generations",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("generation", INT, "Index of the generation; 0 is the base."),
    _column(
        "parent",
        INT,
        "Index of the generation that was deployed when it was made; none for the base.",
        nullable=True,
    ),
    _column(
        "start",
        TEXT,
        "Weights that training started from: base, parent, or none for the base itself.",
    ),
    _column(
        "checkpoint",
        TEXT,
        "Folder of the weights, relative to the warehouse's folder of checkpoints.",
    ),
    _column("weights_hash", TEXT, "Hash of the weights file."),
    _column(
        "training_set_hash",
        TEXT,
        "Hash of prompts, completions and weights learned.",
        nullable=True,
    ),
    _column(
        "training",
        TEXT,
        "Facts of the training run as JSON: rows, steps, tokens, losses.",
        nullable=True,
    ),
    comment="One row a model generation.",
)

traces = sa.Table(
    "traces",
    metadata,
    _key(
        "trace",
        TEXT,
        "Hash of experiment, generation, purpose, task and sample; of an ingested trace, of its "
        "source, task, model and text.",
    ),
    _column("experiment", TEXT, "The experiment, or the source of ingested traces."),
    _column("generation", INT, "Generation that wrote it; -1 for ingested traces."),
    _column(
        "purpose",
        TEXT,
        "deploy (may be learned from), evaluate (never is), or ingest (made elsewhere).",
    ),
    _column("task", TEXT, "The task it answers."),
    _column("sample", INT, "Number of the sample of this task, from 0."),
    _column("seed", INT, "Seed of its random draws."),
    _column("prompt_format", TEXT, "Name and version of the prompt format."),
    _column("prompt_hash", TEXT, "Hash of the prompt text."),
    _column("text", TEXT, "The whole completion: reasoning, then a plan."),
    _column("token_ids", IDS, "Token ids of the completion, end-of-sequence included."),
    _column("reasoning_tokens", INT, "Tokens up to and with the end of the reasoning."),
    _column("plan_tokens", INT, "Tokens behind the reasoning."),
    _column("finish_reason", TEXT, "stop (the model ended it) or length (cut)."),
    _column("logprob", REAL, "Natural log-probability under the model itself.", nullable=True),
    _column(
        "sampling_logprob",
        REAL,
        "The same under the distribution it was drawn from.",
        nullable=True,
    ),
    _column("policy", TEXT, "Name and weights hash of what wrote it."),
    _column("code_version", TEXT, "Version of Posterity that sampled or ingested it."),
    _column("written_at", TIME, "When an ingested trace was written, in UTC.", nullable=True),
    comment="One row a trace; kept for ever, valid or not.",
)

judgements = sa.Table(
    "judgements",
    metadata,
    _key("trace", TEXT, "The trace."),
    _key("checker", TEXT, "Name of the checker."),
    _key("checker_version", TEXT, "Version of the checker + that of the extraction."),
    _column("extraction_version", TEXT, "Version of the step that finds the plan in the text."),
    _column("outcome", TEXT, "What became of the plan, from the closed table of outcomes."),
    _column("step", INT, "Index of the first bad action, from 0.", nullable=True),
    _column("detail", TEXT, "The unmet condition in PDDL, or what else was wrong."),
    _column(
        "plan_length", INT, "Actions of the plan found; none where there is no plan.", nullable=True
    ),
    _column("cost", REAL, "Cost of a valid plan under the task's metric.", nullable=True),
    _column(
        "superseded",
        FLAG,
        "Whether another version has judged the trace since; views show the others.",
        nullable=True,
    ),
    *(
        _column(c.name, c.type, f"The trace's {c.name}, so that views need no join.")
        for c in (traces.c.experiment, traces.c.generation, traces.c.purpose, traces.c.task)
    ),
    _column("redundant", INT, "Actions that greedy action elimination leaves out.", nullable=True),
    _column(
        "plan",
        TEXT,
        "The plan that was found, one action per line, in the task's own names; none where there "
        "is no plan, or where it was judged before schema 6.",
        nullable=True,
    ),
    comment="One row a trace and checker: the verdict. A trace without a row is not judged.",
)

feedback = sa.Table(
    "feedback",
    metadata,
    _key("trace", TEXT, "The trace."),
    _column("accepted", FLAG, "Whether its user accepted it; no verdict on its plan."),
    comment="One row a trace that a user accepted or rejected.",
)

selections = sa.Table(
    "selections",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("generation", INT, "Generation that is trained on the selection."),
    _key("trace", TEXT, "A trace of the pool."),
    _column("kept", FLAG, "Whether the generation learns from it."),
    _column("weight", REAL, "Its weight in training; 0 where dropped."),
    _column("reason", TEXT, "Why it was kept or dropped."),
    _column("task", TEXT, "The trace's task."),
    _column("from_generation", INT, "The generation that wrote it; -1 where made elsewhere."),
    _column("plan_length", INT, "Actions of its plan, as judged then.", nullable=True),
    _column("reasoning_tokens", INT, "Tokens of its reasoning."),
    _column(
        "accepted",
        FLAG,
        "Whether its user had accepted it by then; none where they had said nothing.",
        nullable=True,
    ),
    comment="One row a generation trained and trace of its pool: the curator's decision.",
)

opinions = sa.Table(
    "opinions",
    metadata,
    _key("trace", TEXT, "The trace."),
    _key("referee", TEXT, "Whose opinion it is."),
    _column("valid", FLAG, "Is the plan valid; none where there is no verdict.", nullable=True),
    _column("note", TEXT, "Why there is no verdict."),
    comment="One row a trace and referee: a second opinion, which never decides anything.",
)

promotions = sa.Table(
    "promotions",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("position", INT, "Place of the decision, from 0; the last one promoted is deployed."),
    _column("generation", INT, "The generation that was decided on."),
    _column("promoted", FLAG, "Whether it may be deployed."),
    _column("decided_by", TEXT, "always, if-better, if-audited, or person (posterity promote)."),
    _column("reason", TEXT, "What it was decided on."),
    comment="One row a decision on whether a generation is deployed, and followed by others.",
)

canaries = sa.Table(
    "canaries",
    metadata,
    _key("canary", TEXT, "Hash of experiment, generation, kind and text."),
    _column("experiment", TEXT, "The experiment."),
    _column("generation", INT, "Generation whose valid plan was broken."),
    _column("task", TEXT, "The task."),
    _column("kind", TEXT, "What was done to the plan."),
    _column("text", TEXT, "The broken completion."),
    _column("outcome", TEXT, "The checker's verdict; VALID here stops the loop."),
    comment="One row a plan broken on purpose and judged beside the traces.",
)

rewards = sa.Table(
    "rewards",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("generation", INT, "The generation that learned the trace."),
    _key("trace", TEXT, "A kept trace."),
    _column("logprob", REAL, "Its log-probability under the weights that training started from."),
    _column(
        "valid_ratio",
        REAL,
        "Share of valid traces under those weights, over that under the ones that wrote it; none "
        "where the trace is invalid.",
        nullable=True,
    ),
    comment="One row a kept trace that was audited: how likely what learned it would have been to "
    "write it.",
)

alternatives = sa.Table(
    "alternatives",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("generation", INT, "The generation that was trained."),
    _key("curator", TEXT, "Another curator."),
    _key("trace", TEXT, "A trace on which it differs."),
    _column(
        "kept", FLAG, "Whether the generation learned it; the other curator decides the opposite."
    ),
    comment="One row a trace that another curator would have decided on otherwise, row by row the "
    "difference of the two training sets; filled by audits.",
)

audits = sa.Table(
    "audits",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("generation", INT, "The generation that is asked about."),
    _key(
        "question",
        TEXT,
        "preferences, acceptance, change, staleness, equivalence, diversity, other-curator or "
        "bounds.",
    ),
    _key("name", TEXT, "Whom it is about: a trait, a source generation, a curator."),
    _key("measure", TEXT, "What was measured."),
    _column("value", REAL, "How much; none where the question has no answer.", nullable=True),
    _column("note", TEXT, "How it was found, or why there is no answer."),
    comment="One row a figure of an audit; auditing again replaces them.",
)

landed = sa.Table(
    "landed",
    metadata,
    _key("file", TEXT, "Name of the file: table and hash of the contents."),
    _column("rows", INT, "Rows in it."),
    comment="One row a landed file that is loaded; written with the file's rows.",
)

marks = sa.Table(
    "marks",
    metadata,
    _key("experiment", TEXT, "The experiment."),
    _key("generation", INT, "The generation."),
    _key("stage", TEXT, "The stage that is complete."),
    _key(
        "part",
        INT,
        "Which part of the stage, from 0; written with the part's data in one transaction.",
    ),
    comment="One row a finished part of a stage: what is here need not be done again.",
)
