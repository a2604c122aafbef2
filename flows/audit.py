"""The implicit-reward audit: what is this loop really being rewarded for?

Each question is asked of every generation that was trained; what it cannot answer it says. Figures
go to the table `audits`, what each kept trace stands for to `rewards`; views make them readable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pandas as pd

from curation.curators import CURATORS
from curation.diversity import diversity, trend
from curation.equivalence import compare, gradient
from curation.preferences import preferences
from curation.selection import change, numeric
from curation.staleness import effective_size, importance, staleness
from flows.checkpoints import checkpoint_of
from flows.experiment import Experiment
from flows.learn import select
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.fine_tuning import Lesson, encode
from planners.local import LocalPolicy, load, use_threads
from planners.pddl import read_task
from planners.prompts import PROMPTS
from planners.records import derive_seed
from warehouse import schema
from warehouse.evidence import TRAITS, traits_of, witnesses
from warehouse.store import Row, Rows, Warehouse

WANTED = 0.01
"""False discovery rate at which a preference is told."""
SKETCHED = 2000
"""Traces that a gradient is taken of, at most; of more, that many drawn at random stand for all."""


@dataclass(slots=True)
class Audit:
    """What was found of one experiment: rows for the warehouse, and lines for people."""

    experiment: Experiment
    traits: Mapping[str, str]
    rows: Rows = field(default_factory=lambda: {schema.audits: [], schema.rewards: []})
    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def bound(self, generation: int, name: str, value: float, low: float, high: float) -> None:
        """Compare a figure with its bounds, where the experiment has them."""
        limit = getattr(self.experiment.audit, name)
        if limit is None:
            return
        held = low <= value <= high
        self.note(generation, "bounds", name, {"value": value, "bound": limit, "held": int(held)})
        if not held:
            self.broken.append(f"generation {generation}: {name} = {limit} is broken: {value:.3g}")

    def note(
        self, generation: int, question: str, name: str, measures: Mapping[str, object],
        note: str = "",
    ) -> None:  # fmt: skip
        """A figure each measure; None where there is no answer."""
        for measure, value in measures.items():
            number = None if value is None or value != value else float(str(value))
            key = {"experiment": self.experiment.id, "generation": generation, "question": question}
            row = {**key, "name": name, "measure": measure, "value": number, "note": note}
            self.rows[schema.audits].append(row)

    def say(self, line: str) -> None:
        self.lines.append(line)


Question = Callable[[Warehouse, Audit, int, pd.DataFrame], None]
"""Asks of a generation trained, given the pool that it was trained from."""


def audit(warehouse: Warehouse, experiment: Experiment, watch: Watch) -> Audit:
    """Every question of every generation of an experiment; writes nothing.

    The warehouse is open read-only, for users' traits are SQL.
    """
    found = Audit(experiment, {**TRAITS, **experiment.audit.traits})
    questions: tuple[Question, ...] = (
        _preferences, _change, _staleness, _other_curators, _equivalence,
    )  # fmt: skip
    trained = [g for g in range(1, experiment.generations + 1)
               if warehouse.generation(experiment.id, g) is not None]  # fmt: skip
    with watch.bar(f"audit {experiment.id}", len(trained) * len(questions)) as advance:
        for generation in trained:
            pool = witnesses(warehouse, experiment.id, found.traits, pool=generation)
            kept = int(pool["kept"].sum())
            found.say(
                f"[bold]generation {generation}[/] learned {kept} of {len(pool)} traces with a "
                f"plan ({int(pool['valid'].sum())} valid), curator {experiment.curation.curator}"
            )
            for question in questions:
                question(warehouse, found, generation, pool)
                advance(1)
    _diversity(warehouse, found)
    return found


def _preferences(warehouse: Warehouse, found: Audit, generation: int, pool: pd.DataFrame) -> None:
    """What goes with being kept, given a valid plan."""
    valid = pool[pool["valid"]]
    explained = preferences(valid["kept"].astype(bool), valid["task"], traits_of(valid))
    declared = CURATORS[found.experiment.curation.curator].rewards
    for row in explained.found.to_dict("records"):
        name = f"{row['trait']}={row['level']}" if row["level"] else row["trait"]
        kind = "declared" if row["trait"] in declared else "undeclared"
        measures = {m: row[m] for m in ("odds_ratio", "low", "high", "q", "traces")}
        found.note(generation, "preferences", name, measures, f"{kind}, {row['method']}")
        if row["q"] <= WANTED:
            if kind == "undeclared":
                strength = max(row["odds_ratio"], 1 / row["odds_ratio"])
                limit = found.experiment.audit.max_undeclared_odds_ratio or 0
                found.bound(generation, "max_undeclared_odds_ratio", strength, 0, limit)
            per = "" if row["level"] else " a standard deviation"
            found.say(
                f"  {kind} preference: {name}, odds x{row['odds_ratio']:.2f}{per} "
                f"({row['low']:.2f} to {row['high']:.2f})"
            )
    for trait, reason in explained.unanswered.items():
        found.note(generation, "preferences", trait, {"odds_ratio": None}, reason)


def _change(warehouse: Warehouse, found: Audit, generation: int, pool: pd.DataFrame) -> None:
    """What selection changed, and what training did: the Price equation."""
    if not pool["weight"].sum():
        found.note(generation, "change", "", {"selection": None}, "nothing was learned")
        return
    after = witnesses(warehouse, found.experiment.id, found.traits, written=generation)
    traits = numeric(pd.concat([traits_of(pool), traits_of(after)], ignore_index=True))
    weight = pool["weight"].to_numpy(dtype=float)
    for name in traits.columns:
        values = traits[name].to_numpy()
        moved = change(values[: len(pool)], weight, values[len(pool) :])
        measures = {
            m: getattr(moved, m)
            for m in ("mean_before", "mean_kept", "selection", "transmission", "mean_after")
        }
        if name == "plan_length" and moved.mean_after is not None:
            drift = abs(moved.mean_after - moved.mean_before)
            limit = found.experiment.audit.max_length_drift or 0
            found.bound(generation, "max_length_drift", drift, 0, limit)
        note = "" if len(after) else f"generation {generation} was not deployed"
        found.note(generation, "change", name, measures, note)


def _staleness(warehouse: Warehouse, found: Audit, generation: int, pool: pd.DataFrame) -> None:
    """What replayed traces are worth to the policy that learns them."""
    experiment = found.experiment
    start = experiment.start_of(generation)
    kept = pool[pool["kept"].astype(bool)]
    known = kept[kept["sampling_logprob"].notna()]
    if len(known) < len(kept):
        note = f"{len(kept) - len(known)} kept traces have no log-probability of their own"
        found.note(generation, "staleness", "", {"traces": None}, note)
    if known.empty:
        return
    logprob = _logprobs(warehouse, experiment, start, generation)
    known = known.assign(now=known["trace"].map(logprob))
    counts = valid_counts(warehouse, experiment.id)
    shares = {g: valid / traces for g, (valid, traces) in counts.items() if valid}
    source = known["source"].to_numpy(dtype=int)
    ratio = importance(known["now"].to_numpy(), known["sampling_logprob"].to_numpy(dtype=float))
    for trace, now, wrote in zip(known["trace"], known["now"], source, strict=True):
        found.rows[schema.rewards].append(
            {
                "experiment": experiment.id,
                "generation": generation,
                "trace": trace,
                "logprob": float(now),
                "valid_ratio": shares[start] / shares[int(wrote)] if start in shares else None,
            }
        )
    worth = effective_size(ratio) / len(ratio)
    found.bound(generation, "min_ess", worth, found.experiment.audit.min_ess or 0, 1)
    weight = known["weight"].to_numpy(dtype=float)
    for wrote, stale in staleness(weight, ratio, source).items():
        measures = {m: getattr(stale, m) for m in stale.__slots__}
        found.note(generation, "staleness", f"generation {wrote}", measures)
        found.say(
            f"  {stale.traces} traces by generation {wrote} ({stale.share:.0%} of the weight) are "
            f"worth {stale.effective:.1f} of generation {start}'s own"
        )


def _other_curators(
    warehouse: Warehouse, found: Audit, generation: int, pool: pd.DataFrame
) -> None:
    """Would another curator have chosen otherwise."""
    choices = _choices(warehouse, found, generation, pool)
    kept = set(choices.pop(found.experiment.curation.curator))
    for name, traces in choices.items():
        chosen = set(traces)
        measures = {
            "both": len(kept & chosen),
            "only_here": len(kept - chosen),
            "only_there": len(chosen - kept),
        }
        found.note(generation, "other-curator", name, measures)


def _equivalence(warehouse: Warehouse, found: Audit, generation: int, pool: pd.DataFrame) -> None:
    """How far each curator's step goes from that of REINFORCE with reward 1 for valid plans."""
    experiment = found.experiment
    start = experiment.start_of(generation)
    own = witnesses(warehouse, experiment.id, {}, written=start)
    valid = own.loc[own["valid"], "trace"].tolist()
    if not valid:
        note = f"generation {start} wrote no valid trace"
        found.note(generation, "equivalence", "", {"cosine": None}, note)
        return
    use_threads(experiment.model.threads)
    model, tokenizer = load(checkpoint_of(warehouse, experiment, start)[0])
    rng = Random(derive_seed(experiment.seed, generation, "audit"))

    def step(traces: Sequence[str], of: int) -> Any:
        """The gradient of their summed log-probability over `of`, from a sample where many."""
        drawn = sorted(rng.sample(sorted(traces), min(len(traces), SKETCHED)))
        rows = [
            Lesson(read_task(row["domain_pddl"], row["pddl"]), row["text"])
            for row in warehouse.completions(drawn)
        ]
        told = encode(rows, tokenizer, experiment.model.prompt)
        return gradient(model, told, [len(traces) / len(drawn) / of] * len(told))

    reinforce = step(valid, valid_counts(warehouse, experiment.id)[start][1])
    chosen = {"valid, of its own": valid, **_choices(warehouse, found, generation, pool)}
    for name, traces in chosen.items():
        cosine, ratio = compare(step(traces, len(traces)), reinforce)
        found.note(generation, "equivalence", name, {"cosine": cosine, "norm_ratio": ratio})
    found.say(
        "  cosine with REINFORCE's step: "
        + ", ".join(f"{n['name']} {n['value']:.2f}" for n in found.rows[schema.audits]
                    if n["question"] == "equivalence" and n["generation"] == generation
                    and n["measure"] == "cosine" and n["value"] is not None)
    )  # fmt: skip


def _choices(
    warehouse: Warehouse, found: Audit, generation: int, pool: pd.DataFrame
) -> dict[str, list[str]]:
    """What each curator keeps of the pool, the experiment's own first."""
    own = found.experiment.curation.curator
    kept = {own: pool.loc[pool["kept"].astype(bool), "trace"].tolist()}
    for name, curator in CURATORS.items():
        if name != own and curator.needs is None:
            try:
                kept[name] = select(warehouse, found.experiment, generation, name).kept
            except InvalidInput as error:
                found.note(generation, "other-curator", name, {"both": None}, str(error))
    return kept


def _diversity(warehouse: Warehouse, found: Audit) -> None:
    """Is the loop collapsing: figures a deployed generation, and their trend over all."""
    series: dict[str, list[float]] = {}
    last = -1
    for generation in range(found.experiment.generations + 1):
        written = witnesses(
            warehouse, found.experiment.id, {"first_action": TRAITS["first_action"]},
            written=generation, text=True,
        )  # fmt: skip
        if written.empty:
            continue
        last = generation
        frame = written.assign(first_action=traits_of(written)["first_action"])
        measured = diversity(frame)
        found.note(generation, "diversity", "", measured)
        for name, value in measured.items():
            series.setdefault(name, []).append(value)
    for name, values in series.items():
        found.note(last, "diversity", "trend", {name: trend(values)})
    if last >= 0:
        told = ("distinct_plans", "first_action_entropy", "gap", "compression")
        found.say(
            "over deployed generations: "
            + "; ".join(f"{n} {series[n][0]:.2f} to {series[n][-1]:.2f}" for n in told)
        )


def _logprobs(
    warehouse: Warehouse, experiment: Experiment, start: int, generation: int
) -> dict[str, float]:
    """How likely the weights that training started from are to write each kept trace."""
    use_threads(experiment.model.threads)
    policy = LocalPolicy(*load(checkpoint_of(warehouse, experiment, start)[0]))
    lessons = warehouse.lessons(experiment.id, generation)
    write = PROMPTS[experiment.model.prompt].write
    pairs = [(write(read_task(r["domain_pddl"], r["pddl"])), r["text"]) for r in lessons]
    return dict(zip([row["trace"] for row in lessons], policy.logprobs(pairs), strict=True))


def valid_counts(warehouse: Warehouse, experiment: str) -> dict[int, tuple[int, int]]:
    """How many of each generation's deployed traces are valid, and how many there are."""
    rows: list[Row] = warehouse.frame(
        "SELECT generation, count(*) FILTER (WHERE outcome = 'VALID') AS valid, count(*) AS traces "
        "FROM stg_verdicts WHERE experiment = :experiment AND purpose = 'deploy' GROUP BY ALL",
        experiment=experiment,
    ).to_dict("records")
    return {int(row["generation"]): (int(row["valid"]), int(row["traces"])) for row in rows}


def tell(found: Audit, watch: Watch) -> None:
    """What was found, in words."""
    watch.say(f"[bold]{found.experiment.id}[/]")
    for line in (*found.lines, *found.broken):
        watch.say(line)
