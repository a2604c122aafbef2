"""Questions of an audit about the weights that training started from: how stale replay is, which
rewards curators stand for, and whether a step is one of REINFORCE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from heapq import nsmallest
from typing import Any

import numpy as np
import pandas as pd

from curation.equivalence import Sketch, batch_of, compare, sketch
from curation.own import curator_named
from curation.rewards import (
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
from planners.records import INGESTED, content_hash, derive_seed
from planners.training.fine_tuning import encode
from warehouse.findings import Alternative, Reward
from warehouse.pool import completions_of, written_traits
from warehouse.store import Warehouse

WEIGHED = 2000
"""At most so many kept traces have their log-probability computed: those whose ids have the
lowest hashes. The lowest ids themselves are kept more often, where an id breaks ties.
"""
NOTICED = 0.05
"""Nats per trace by which sampler and trainer may differ before the audit says so."""
REWARDED = 200
"""The same for each curator's selection."""
Wrote = tuple[str, int]
"""A run, by its id, and its generation that wrote a trace."""


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
    share = len(known) / len(kept)
    if len(known) > WEIGHED:
        known = known.sort_values("trace", key=lambda ids: ids.map(content_hash)).head(WEIGHED)
        found.say(f"  staleness: {WEIGHED} of {len(kept)} kept traces stand for all")
    logprob, ratio = _weighed(trained, known)
    valid_ratios = _valid_ratios(trained)
    own = trained.experiment.curation.curator
    found.records += _rewards(trained, known, logprob, valid_ratios, trained.reward(own))
    # Those without a log-probability count as worth nothing.
    found.bound(trained.index, "min_ess", "", share * effective_size(ratio) / len(ratio))
    _tell_mismatch(trained, found, known, logprob)
    wrote = _wrote(known)
    names = sorted({*wrote}, key=lambda one: (one[0] != trained.experiment.id, one))
    number = np.array([names.index(one) for one in wrote])
    for which, stale in staleness(known["weight"].to_numpy(dtype=float), ratio, number).items():
        _tell_stale(trained, found, names[which], stale, valid_ratios.get(names[which]))


def _wrote(frame: pd.DataFrame) -> list[Wrote]:
    """The run and its generation that wrote each trace of a pool."""
    return list(zip(frame["experiment"], frame["source"].astype(int), strict=True))


def _tell_mismatch(
    trained: Trained, found: Audit, known: pd.DataFrame, logprob: np.ndarray
) -> None:
    """How far the sampler is from the weights that training started from, by the traces that these
    wrote: an estimate of KL(sampler, weights), in nats per trace (k3 of Schulman's "Approximating
    KL divergence", 2020). It is 0 if the model that sampled is the model that is trained.
    """
    start = (trained.experiment.id, trained.start)
    own = np.array([wrote == start for wrote in _wrote(known)], dtype=bool)
    if not own.any() or trained.experiment.deploy.top_p != 1.0:
        return  # tokens outside the nucleus have no log-probability to compare
    apart = logprob[own] - known["sampling_logprob"].to_numpy(dtype=float)[own]
    kl = float(np.mean(np.expm1(apart) - apart))
    measures = {"kl": kl, "largest": float(np.abs(apart).max()), "traces": int(own.sum())}
    found.note(trained.index, "mismatch", f"generation {trained.start}", measures)
    found.bound(trained.index, "max_mismatch", "", kl)
    if kl > NOTICED:
        found.say(
            f"  the sampler of generation {trained.start} is not the model that was trained: "
            f"KL {kl:.2g} nats a trace, log-probabilities up to {measures['largest']:.2g} apart"
        )


def _rewards(
    trained: Trained, known: pd.DataFrame, logprob: np.ndarray, ratios: Mapping[Wrote, float],
    reward: pd.Series,
) -> list[Reward]:  # fmt: skip
    """One record per kept trace: its log-probability, the ratio of valid shares, and the reward
    that the curator's choice stands for.
    """
    rows = zip(known["trace"], logprob, _wrote(known), known["valid"], strict=True)
    experiment = trained.experiment.id
    return [
        Reward(
            experiment,
            trained.index,
            trace,
            float(likely),
            ratios.get(wrote) if valid else None,
            float(reward[trace]),
        )
        for trace, likely, wrote, valid in rows
    ]


def _tell_stale(
    trained: Trained, found: Audit, wrote: Wrote, stale: Staleness, ratio: float | None
) -> None:
    """Note and report what the traces of one generation are worth."""
    run, generation = wrote
    writer = f"generation {generation}" + ("" if run == trained.experiment.id else f" of {run}")
    measures = {m: getattr(stale, m) for m in stale.__slots__} | {"valid_ratio": ratio}
    found.note(trained.index, "staleness", writer, measures)
    found.say(
        f"  {stale.traces} traces by {writer} ({stale.share:.0%} of the weight): "
        f"importance weights to generation {trained.start} would leave an effective sample of "
        f"{stale.effective:.1f} (fine-tuning weighs none); Z_pi/Z_beta, which the paper leaves "
        f"out, is {float('nan') if ratio is None else ratio:.2f}"
    )


def what_others_keep(trained: Trained, found: Audit) -> None:
    """How many and which traces other curators would have kept instead, and the mean effective
    reward of each selection.
    """
    (name, own), *others = trained.choices.items()
    kept, ratios, experiment = set(own), _valid_ratios(trained), found.experiment.id
    reward = {"effective_reward": _reward_of(trained, name, own, ratios)}
    found.note(trained.index, "other-curator", name, reward)
    for name, traces in others:
        chosen = set(traces)
        measures = {
            "both": len(kept & chosen),
            "only_here": len(kept - chosen),
            "only_there": len(chosen - kept),
            "effective_reward": _reward_of(trained, name, traces, ratios),
        }
        found.note(trained.index, "other-curator", name, measures)
        found.records += [
            Alternative(experiment, trained.index, name, trace, trace in kept)
            for trace in sorted(kept ^ chosen)
        ]


def _reward_of(
    trained: Trained, curator: str, traces: Sequence[str], ratios: Mapping[Wrote, float]
) -> float | None:
    """Mean effective reward of the valid ones among at most REWARDED traces of a selection."""
    chosen = trained.pool[trained.pool["trace"].isin(nsmallest(REWARDED, traces, key=content_hash))]
    chosen = chosen[chosen["valid"]]
    from_known = np.array([wrote in ratios for wrote in _wrote(chosen)], dtype=bool)
    known = chosen[chosen["sampling_logprob"].notna() & from_known]
    if known.empty:
        return None
    _, ratio = _weighed(trained, known)
    valid_ratio = np.array([ratios[wrote] for wrote in _wrote(known)])
    reward = known["trace"].map(trained.reward(curator)).to_numpy(dtype=float)
    return mean_reward(effective_reward(reward, ratio, 1.0, 1 / valid_ratio))


def _weighed(trained: Trained, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The log-probability of each trace under the weights that training started from, at the
    temperature that it was sampled at, and its importance weight. `known`: traces with a recorded
    sampling log-probability.
    """
    logprob = known["trace"].map(_logprobs(trained, known["trace"])).to_numpy(dtype=float)
    return logprob, importance(logprob, known["sampling_logprob"].to_numpy(dtype=float))


def _valid_ratios(trained: Trained) -> dict[Wrote, float]:
    """Z_pi / Z_beta of each generation, also of runs that it is crossed with: the share of valid
    traces under the weights that training started from, divided by the generation's own share.
    """
    own = trained.experiment.id
    shares = {
        (run, generation): valid / traces
        for run in (own, *(other.id for other in trained.experiment.crossed()))
        for generation, (valid, traces) in valid_counts(trained.warehouse, run).items()
        if valid
    }
    now = shares.get((own, trained.start))
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
        seed = derive_seed(experiment.seed, trained.index, "audit", *ordered)
        drawn = np.random.default_rng(seed).permutation(ordered)[:most].tolist()
        taught = {one.trace: one for one in completions_of(warehouse, drawn)}
        lessons = as_lessons([taught[trace] for trace in drawn], experiment.model.prompt)
        rows = encode(lessons, tokenizer, experiment.model.prompt)
        return sketch(model, rows, [batch_of(lesson.task.key) for lesson in lessons])

    own_step = frozenset(valid)
    reinforce = step(own_step)
    is_distinct = reinforce.is_distinct()  # otherwise nothing but itself compares with it
    written = valid_counts(warehouse, experiment.id)[trained.start][1]
    told = []
    for name, traces in trained.choices.items():
        if is_distinct or own_step == frozenset(traces):
            cosine, error, ratio = compare(step(frozenset(traces)), reinforce)
        else:
            cosine = error = ratio = None
        # REINFORCE averages over all traces written, not over the valid ones alone (paper, §3).
        longer = None if ratio is None else ratio * written / len(valid)
        measures = {"cosine": cosine, "error": error, "norm_ratio": longer}
        note = (
            f"reward {curator_named(name).implies}"
            if cosine is not None
            else "the sampled gradient is not significantly different from zero"
        )
        found.note(trained.index, "equivalence", name, measures, note)
        told.append(f"{name} " + ("?" if cosine is None else f"{cosine:.2f} ± {error:.2f}"))
    unclear = any(one.endswith("?") for one in told)
    words = " (?: the traces are too few to tell)" if unclear else ""
    found.say(f"  cosine with REINFORCE's step: {', '.join(told)}{words}")
    if experiment.deploy.temperature != 1:
        found.say(
            "  (both steps are of the policy at temperature 1, and the traces were drawn at "
            f"{experiment.deploy.temperature:g})"
        )


def _logprobs(trained: Trained, traces: Sequence[str]) -> dict[str, float]:
    """Log-probability of each trace under the weights that training started from, by trace id."""
    experiment, known = trained.experiment, trained.logprobs
    traces = [trace for trace in traces if trace not in known]
    if not traces:
        return known
    policy = LocalPolicy(*_loaded(trained))
    taught = completions_of(trained.warehouse, traces)
    prompt = experiment.model.prompt
    rows = encode(as_lessons(taught, prompt), policy.tokenizer, prompt, as_sampled=True)
    found = policy.row_logprobs(rows, experiment.deploy.temperature or 1.0)
    known.update(zip([one.trace for one in taught], found, strict=True))
    return known


def _loaded(trained: Trained) -> tuple[Any, Any]:
    """Model and tokenizer that training started from."""
    use_machine(trained.experiment)
    return loaded(checkpoint_of(trained.warehouse, trained.experiment, trained.start))


def valid_counts(warehouse: Warehouse, experiment: str) -> dict[int, tuple[int, int]]:
    """Numbers of valid and of all deployed traces, by generation."""
    found = warehouse.query("valid_counts", experiment=experiment)
    return {row.generation: (row.valid, row.traces) for row in found.itertuples()}
