"""The implicit-reward audit: what is this loop really being rewarded for?

Each question is asked of every generation that was trained; what it cannot answer it says. Figures
go to the table `audits`, what each kept trace stands for to `rewards`; views make them readable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from curation.curators import CURATORS
from curation.diversity import diversity, trend
from curation.preferences import preferences
from curation.selection import change, numeric
from curation.staleness import effective_size, importance, staleness
from flows.checkpoints import checkpoint_of
from flows.experiment import Experiment
from flows.learn import select
from flows.progress import Watch
from planners.errors import InvalidInput
from planners.local import LocalPolicy, load, use_threads
from planners.pddl import read_task
from planners.prompts import PROMPTS
from warehouse import schema
from warehouse.evidence import TRAITS, traits_of, witnesses
from warehouse.store import Row, Rows, Warehouse

WANTED = 0.01
"""False discovery rate at which a preference is told."""


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
        _preferences, _change, _staleness, _other_curators,
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
    start = 0 if experiment.training.start == "base" else generation - 1
    kept = pool[pool["kept"].astype(bool)]
    known = kept[kept["sampling_logprob"].notna()]
    if len(known) < len(kept):
        note = f"{len(kept) - len(known)} kept traces have no log-probability of their own"
        found.note(generation, "staleness", "", {"traces": None}, note)
    if known.empty:
        return
    logprob = _logprobs(warehouse, experiment, start, generation)
    known = known.assign(now=known["trace"].map(logprob))
    shares = valid_shares(warehouse, experiment.id)
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
    kept = set(pool.loc[pool["kept"].astype(bool), "trace"])
    for name, curator in CURATORS.items():
        if name == found.experiment.curation.curator or curator.needs is not None:
            continue
        try:
            other = select(warehouse, found.experiment, generation, name)
        except InvalidInput as error:
            found.note(generation, "other-curator", name, {"both": None}, str(error))
            continue
        chosen = set(other.kept)
        measures = {
            "both": len(kept & chosen),
            "only_here": len(kept - chosen),
            "only_there": len(chosen - kept),
        }
        found.note(generation, "other-curator", name, measures)


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


def valid_shares(warehouse: Warehouse, experiment: str) -> dict[int, float]:
    """The share of valid traces among those that each generation wrote when deployed."""
    rows: list[Row] = warehouse.frame(
        "SELECT generation, avg((outcome = 'VALID')::INT) AS share FROM stg_verdicts "
        "WHERE experiment = :experiment AND purpose = 'deploy' GROUP BY ALL",
        experiment=experiment,
    ).to_dict("records")
    return {int(row["generation"]): float(row["share"]) for row in rows if row["share"]}


def tell(found: Audit, watch: Watch) -> None:
    """What was found, in words."""
    watch.say(f"[bold]{found.experiment.id}[/]")
    for line in (*found.lines, *found.broken):
        watch.say(line)
