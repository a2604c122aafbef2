"""The questions that an audit asks of each trained generation; each notes what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from heapq import nsmallest
from typing import Any

import numpy as np
import pandas as pd

from curation.equivalence import Sketch, compare, sketch
from curation.own import curator_named
from curation.preferences import acceptance, preferences
from curation.price import change, numeric
from curation.staleness import (
    Staleness,
    effective_reward,
    effective_size,
    importance,
    mean_reward,
    staleness,
)
from flows.audit.ledger import Audit, Trained
from flows.generations.checkpoints import checkpoint_of, loaded, use_machine
from flows.generations.lessons import as_lessons
from planners.policies.local import LocalPolicy
from planners.prompts.formats import PROMPTS
from planners.records import INGESTED, derive_seed
from planners.training.fine_tuning import encode
from warehouse.findings import Alternative, Reward
from warehouse.pool import completions_of, traits_of, written_traits
from warehouse.store import Warehouse

WANTED = 0.01
"""False discovery rate up to which a preference is reported."""
WEIGHED = 2000
"""At most so many kept traces have their log-probability computed: those with the lowest ids. Ids
are hashes, so they are as good as drawn at random.
"""


REWARDED = 200
"""The same for each curator's selection."""


def what_is_preferred(trained: Trained, found: Audit) -> None:
    """Which traits go with being kept, among valid traces."""
    valid = trained.pool[trained.pool["valid"]]
    explained = preferences(valid["kept"].astype(bool), valid["task"], traits_of(valid))
    declared = curator_named(trained.experiment.curation.curator).rewards
    for row in explained.found.to_dict("records"):
        name = f"{row['trait']}={row['level']}" if row["level"] else row["trait"]
        expected = row["trait"] in declared
        measures = {m: row[m] for m in ("odds_ratio", "low", "high", "q", "traces")}
        measures["declared"] = float(expected)
        found.note(trained.index, "preferences", name, measures, row["method"])
        if row["q"] > WANTED:
            continue
        if not expected:
            strength = max(row["odds_ratio"], 1 / row["odds_ratio"])
            found.bound(trained.index, "max_undeclared_odds_ratio", name, strength)
        per = "" if row["level"] else " a standard deviation"
        found.say(
            f"  {'declared' if expected else 'undeclared'} preference: {name}, "
            f"odds x{row['odds_ratio']:.2f}{per} "
            f"({row['low']:.2f} to {row['high']:.2f})"
        )
    # The bound counts as asked even if no trait shows a preference, unless nothing was kept.
    if valid["kept"].astype(bool).any():
        found.bound(trained.index, "max_undeclared_odds_ratio", "any other", 1.0)
    for trait, reason in explained.unanswered.items():
        found.note(trained.index, "preferences", trait, {"odds_ratio": None}, reason)


def who_is_accepted(trained: Trained, found: Audit) -> None:
    """The share of valid traces that was kept at each level of a trait, one trait at a time."""
    valid = trained.pool[trained.pool["valid"]]
    traits = traits_of(valid)
    for name in traits.columns:
        if traits[name].nunique() > 1 and not pd.api.types.is_float_dtype(traits[name]):
            for row in acceptance(valid["kept"].astype(bool), traits[name]).to_dict("records"):
                measures = {m: row[m] for m in ("share", "low", "high", "traces")}
                found.note(trained.index, "acceptance", f"{name}={row['level']}", measures)


def what_changed(trained: Trained, found: Audit) -> None:
    """How selection and training changed the mean of each trait: the Price equation."""
    pool = trained.pool
    if not pool["weight"].sum():
        found.note(trained.index, "change", "", {"selection": None}, "nothing was learned")
        return
    after = written_traits(trained.warehouse, trained.experiment.id, found.traits, trained.index)
    both = [traits_of(frame) for frame in (pool, after) if len(frame)]
    traits = numeric(pd.concat(both, ignore_index=True))
    weight = pool["weight"].to_numpy(dtype=float)
    note = "" if len(after) else f"generation {trained.index} was not deployed"
    for name in traits.columns:
        values = traits[name].to_numpy()
        if unknown := int(np.isnan(values).sum()):
            reason = f"unknown for {unknown} traces"
            found.note(trained.index, "change", name, {"selection": None}, reason)
            continue
        moved = change(values[: len(pool)], weight, values[len(pool) :])
        measures = {
            m: getattr(moved, m)
            for m in ("mean_before", "mean_kept", "selection", "transmission", "mean_after")
        }
        found.note(trained.index, "change", name, measures, note)


def how_far_plans_drift(trained: Trained, found: Audit) -> None:
    """By how many actions the mean plan for training tasks differs from the parent's, if both were
    evaluated.
    """
    lengths = mean_lengths(trained.warehouse, trained.experiment.id)
    if trained.index in lengths and trained.parent in lengths:
        drift = abs(lengths[trained.index] - lengths[trained.parent])
        found.note(trained.index, "change", "plan_length", {"drift": drift})
        found.bound(trained.index, "max_length_drift", "", drift)


def how_stale(trained: Trained, found: Audit) -> None:
    """How many on-policy traces the kept, partly off-policy, ones are worth in training."""
    kept = trained.kept
    known = kept[kept["sampling_logprob"].notna() & (kept["source"] != INGESTED)]
    if len(known) < len(kept):
        note = f"{len(kept) - len(known)} kept traces have no recorded log-probability"
        found.note(trained.index, "staleness", "", {"traces": None}, note)
        found.say(f"  staleness: {note}")
    if known.empty:
        return
    if len(known) > WEIGHED:
        known = known.sort_values("trace").head(WEIGHED)
        found.say(f"  staleness: {WEIGHED} of {len(kept)} kept traces stand for all")
    logprob, ratio = _weighed(trained, known)
    valid_ratios = _valid_ratios(trained)
    found.records += _rewards(trained, known, logprob, valid_ratios)
    found.bound(trained.index, "min_ess", "", effective_size(ratio) / len(ratio))
    weight, source = known["weight"].to_numpy(dtype=float), known["source"].to_numpy(dtype=int)
    for wrote, stale in staleness(weight, ratio, source).items():
        _tell_stale(trained, found, wrote, stale, valid_ratios.get(wrote))


def _rewards(
    trained: Trained, known: pd.DataFrame, logprob: np.ndarray, ratios: Mapping[int, float]
) -> list[Reward]:
    """One record per kept trace, with its log-probability and the ratio of valid shares."""
    rows = zip(known["trace"], logprob, known["source"].tolist(), known["valid"], strict=True)
    return [
        Reward(
            trained.experiment.id,
            trained.index,
            trace,
            float(likely),
            ratios.get(wrote) if valid else None,
        )
        for trace, likely, wrote, valid in rows
    ]


def _tell_stale(
    trained: Trained, found: Audit, wrote: int, stale: Staleness, ratio: float | None
) -> None:
    """Note and report what the traces of one generation are worth."""
    measures = {m: getattr(stale, m) for m in stale.__slots__} | {"valid_ratio": ratio}
    found.note(trained.index, "staleness", f"generation {wrote}", measures)
    found.say(
        f"  {stale.traces} traces by generation {wrote} ({stale.share:.0%} of the weight) are "
        f"worth {stale.effective:.1f} of generation {trained.start}'s own; Z_pi/Z_beta, which "
        f"the paper leaves out, is {float('nan') if ratio is None else ratio:.2f}"
    )


def what_others_keep(trained: Trained, found: Audit) -> None:
    """How many and which traces other curators would have kept instead, and the mean effective
    reward of each selection.
    """
    (name, own), *others = trained.choices.items()
    kept, ratios = set(own), _valid_ratios(trained)
    reward = {"effective_reward": _reward_of(trained, own, ratios)}
    found.note(trained.index, "other-curator", name, reward)
    for name, traces in others:
        chosen = set(traces)
        measures = {
            "both": len(kept & chosen),
            "only_here": len(kept - chosen),
            "only_there": len(chosen - kept),
            "effective_reward": _reward_of(trained, traces, ratios),
        }
        found.note(trained.index, "other-curator", name, measures)
        found.records += [
            Alternative(found.experiment.id, trained.index, name, trace, trace in kept)
            for trace in sorted(kept ^ chosen)
        ]


def _reward_of(
    trained: Trained, traces: Sequence[str], ratios: Mapping[int, float]
) -> float | None:
    """Mean effective reward of the valid ones among at most REWARDED traces of a selection."""
    chosen = trained.pool[trained.pool["trace"].isin(nsmallest(REWARDED, traces))]
    chosen = chosen[chosen["valid"]]
    known = chosen[chosen["sampling_logprob"].notna() & chosen["source"].isin(list(ratios))]
    if known.empty:
        return None
    _, ratio = _weighed(trained, known)
    valid_ratio = known["source"].map(ratios).to_numpy(dtype=float)
    return mean_reward(effective_reward(np.ones(len(known)), ratio, 1.0, 1 / valid_ratio))


def _weighed(trained: Trained, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The log-probability of each trace under the weights that training started from, and its
    importance weight. `known`: traces with a recorded sampling log-probability.
    """
    logprob = known["trace"].map(_logprobs(trained, known["trace"])).to_numpy(dtype=float)
    return logprob, importance(logprob, known["sampling_logprob"].to_numpy(dtype=float))


def _valid_ratios(trained: Trained) -> dict[int, float]:
    """Z_pi / Z_beta of each generation: the share of valid traces under the weights that training
    started from, divided by the generation's own share.
    """
    counts = valid_counts(trained.warehouse, trained.experiment.id)
    shares = {g: valid / traces for g, (valid, traces) in counts.items() if valid}
    now = shares.get(trained.start)
    return {} if now is None else {wrote: now / share for wrote, share in shares.items()}


def is_it_reinforce(trained: Trained, found: Audit) -> None:
    """Compare each curator's gradient with that of REINFORCE with reward 1 for valid plans."""
    warehouse, experiment = trained.warehouse, trained.experiment
    own = written_traits(warehouse, experiment.id, {}, trained.start)
    valid = own.loc[own["valid"], "trace"].tolist()
    if not valid:
        note = f"generation {trained.start} wrote no valid trace"
        found.note(trained.index, "equivalence", "", {"cosine": None}, note)
        return
    model, tokenizer = _loaded(trained)

    most = experiment.audit.gradient_traces

    @cache
    def step(traces: frozenset[str]) -> Sketch:
        """The mean gradient of the traces' log-probabilities, from at most `most` of them."""
        ordered = sorted(traces)
        # A seed for each set: `compare` relies on independent samples.
        seed = derive_seed(experiment.seed, trained.index, "audit", *ordered)
        drawn = np.random.default_rng(seed).permutation(ordered)[:most].tolist()
        taught = {one.trace: one for one in completions_of(warehouse, drawn)}
        lessons = as_lessons([taught[trace] for trace in drawn], experiment.model.prompt)
        return sketch(model, encode(lessons, tokenizer, experiment.model.prompt), len(traces))

    reinforce = step(frozenset(valid))
    written = valid_counts(warehouse, experiment.id)[trained.start][1]
    told = []
    for name, traces in trained.choices.items():
        cosine, error, ratio = compare(step(frozenset(traces)), reinforce)
        # REINFORCE averages over all traces written, not over the valid ones alone (paper, §3).
        longer = None if ratio is None else ratio * written / len(valid)
        measures = {"cosine": cosine, "error": error, "norm_ratio": longer}
        implies = f"reward {curator_named(name).implies}"
        note = (
            implies
            if cosine is not None
            else "the sampled gradient is not significantly different from zero"
        )
        found.note(trained.index, "equivalence", name, measures, note)
        told.append(f"{name} " + ("?" if cosine is None else f"{cosine:.2f} ± {error:.2f}"))
    found.say(f"  cosine with REINFORCE's step: {', '.join(told)}")


QUESTIONS: tuple[Callable[[Trained, Audit], None], ...] = (
    what_is_preferred, who_is_accepted, what_changed, how_far_plans_drift, how_stale,
    what_others_keep, is_it_reinforce,
)  # fmt: skip


def _logprobs(trained: Trained, traces: Sequence[str]) -> dict[str, float]:
    """Log-probability of each trace under the weights that training started from, by trace id."""
    experiment = trained.experiment
    policy = LocalPolicy(*_loaded(trained))
    taught = completions_of(trained.warehouse, traces)
    write = PROMPTS[experiment.model.prompt].write
    written = as_lessons(taught, experiment.model.prompt)
    pairs = [(write(lesson.task), lesson.completion) for lesson in written]
    return dict(zip([one.trace for one in taught], policy.logprobs(pairs), strict=True))


def _loaded(trained: Trained) -> tuple[Any, Any]:
    """Model and tokenizer that training started from."""
    use_machine(trained.experiment)
    return loaded(checkpoint_of(trained.warehouse, trained.experiment, trained.start))


def valid_counts(warehouse: Warehouse, experiment: str) -> dict[int, tuple[int, int]]:
    """Numbers of valid and of all deployed traces, by generation."""
    found = warehouse.query("valid_counts", experiment=experiment)
    return {row.generation: (row.valid, row.traces) for row in found.itertuples()}


def mean_lengths(warehouse: Warehouse, experiment: str) -> dict[int, float]:
    """Mean length of each generation's plans, valid or not, for training tasks in evaluation."""
    found = warehouse.query("mean_lengths", experiment=experiment)
    return dict(zip(found["generation"], found["length"].astype(float), strict=True))
