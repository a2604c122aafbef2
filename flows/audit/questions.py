"""The questions that an audit asks of each trained generation; each notes what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from curation.own import curator_named
from curation.preferences import Preferences, preferences, spent_at
from curation.price import change, numeric
from curation.tasks import MIDDLE, acceptance, cases, labelled, per_unit, share_interval
from curation.vocabulary import unlisted
from flows.audit.ledger import Audit, Trained
from flows.audit.weights import how_stale, is_it_reinforce, what_others_keep
from flows.generations.pool import choosable
from planners.records import derive_seed
from warehouse.pool import traits_of, written_traits
from warehouse.store import Warehouse

WANTED = 0.01
"""False discovery rate up to which a preference is reported."""
_ACTION = re.compile(r"\([^()]*\)")
UNLISTED = 0.05
"""Adjusted p up to which an unlisted feature is reported; the chance to report any by chance."""
TOLD = 20
"""Unlisted features that are recorded, at most."""
WORST = 6
"""Users and groups that are named, at most; all are recorded."""
PRICE = (
    "mean_before", "mean_kept", "checker", "between", "within", "selection", "transmission",
    "mean_after",
)  # fmt: skip


def what_is_preferred(trained: Trained, found: Audit) -> None:
    """Which traits go with being kept, among valid traces."""
    whole, one = _decided(trained)
    seed = derive_seed(trained.experiment.seed, trained.index, "preferences") % 2**32
    least = spent_at(WANTED, trained.index)
    every = traits_of(whole)
    explained = preferences(whole["kept"].astype(bool), whole["task"], every, seed, least, one)
    valid, traits = whole.iloc[one], every.iloc[one]
    declared = curator_named(trained.experiment.curation.curator).rewards
    clear = set(explained.clear(WANTED).index)
    # A bound is asked at every generation, and must not be broken by asking often enough.
    lasting = set(explained.clear(WANTED, trained.index).index)
    for index, row in explained.found.iterrows():
        name = labelled(row["trait"], row["level"])
        # A declared trait is expected in its own direction alone, and so is one that cannot be told
        # from it.
        ways = _expected(row["trait"], row["level"], declared)
        if not ways and row["level"] != MIDDLE:
            ways = [
                way * together
                for other in row["also"].split(", ")
                for way in _expected(other.partition("=")[0], other.partition("=")[2], declared)
                if (together := _together(valid, traits, row, other))
            ]
        expected = any(one * np.log(row["odds_ratio"]) >= 0 for one in ways)  # 0 is any way
        measures = {m: row[m] for m in ("odds_ratio", "low", "high", "q", "traces")}
        measures |= {"declared": float(expected), "named": float(index in clear)}
        measures |= {"chance": explained.chance}
        alike = f"; nearly equal: {row['also']}" if row["also"] else ""
        found.note(trained.index, "preferences", name, measures, row["method"] + alike)
        if index not in clear:
            continue
        if not expected and index in lasting:
            strength = max(row["odds_ratio"], 1 / row["odds_ratio"])
            found.bound(trained.index, "max_undeclared_odds_ratio", name, strength)
        found.say(
            f"  {'declared' if expected else 'undeclared'} preference within a task: {name}"
            f"{' or ' if row['also'] else ''}{row['also']}, odds x{row['odds_ratio']:.2f}"
            f"{per_unit(row['level'])} "
            f"({row['low']:.2f} to {row['high']:.2f})"
        )
    if not clear:
        found.say(f"  no preference within a task is named: {_evidence(explained, len(valid))}")
    _tell_between(trained, found, explained)
    for trait, reason in explained.unanswered.items():
        found.note(trained.index, "preferences", trait, {"odds_ratio": None}, reason)
    # A bound holds only if the question was answered for every trait that can be asked about.
    unknown = [t for t, why in explained.unanswered.items() if why.startswith(("unknown", "infin"))]
    if _weighs_within_tasks(trained):
        found.unanswered(trained.index, "max_undeclared_odds_ratio")
        found.say(
            "  kept traces of a task have different weights, and these questions see only which "
            "are kept: what the weights prefer is not answered"
        )
    elif valid["kept"].astype(bool).any() and not unknown:
        found.bound(trained.index, "max_undeclared_odds_ratio", "any other", 1.0)
    elif unknown:
        found.unanswered(trained.index, "max_undeclared_odds_ratio")
        found.say(f"  no answer for {', '.join(unknown)}: {explained.unanswered[unknown[0]]}")


def _weighs_within_tasks(trained: Trained) -> bool:
    """Whether supervised learning weighs some kept valid traces of a task more than others."""
    spread = _supervised(trained).groupby("task")["weight"].agg(np.ptp)
    return bool((spread > 0).any())


def _supervised(trained: Trained) -> pd.DataFrame:
    """The kept valid traces that supervised learning weighs; none where it is another method."""
    learned = trained.pool[trained.pool["valid"] & trained.pool["kept"].astype(bool)]
    return learned if trained.experiment.training.method == "sft" else learned.iloc[:0]


def _column(traits: pd.DataFrame, trait: str, level: str) -> pd.Series:
    """A trait as a number; of one with levels, whether it has this one."""
    return ((traits[trait].astype(str) == level) if level else traits[trait]).astype(float)


def _expected(trait: str, level: str, declared: Mapping[str, int]) -> list[float]:
    """The declared direction of a trait, if there is one: the middle of a number has none."""
    return [declared[trait]] if trait in declared and level != MIDDLE else []


def _together(valid: pd.DataFrame, traits: pd.DataFrame, row: pd.Series, other: str) -> float:
    """1 where a named trait is high in the traces of a task in which another is, -1 where low."""
    name, _, level = other.partition("=")
    both = pd.DataFrame({
        "named": _column(traits, row["trait"], row["level"]), "other": _column(traits, name, level)
    })  # fmt: skip
    around = both - both.groupby(valid["task"].to_numpy()).transform("mean")
    return float(np.sign((around["named"] * around["other"]).sum()))


def _evidence(explained: Preferences, count: int) -> str:
    """How much there was to see a preference by, in `count` traces."""
    told = explained.found
    if told.empty:
        return "no trait differs within a task that kept some of its traces and dropped some"
    most = told.loc[told["traces"].idxmax()]
    return (
        f"of {count} valid traces, at most {most['traces']} are of tasks that kept some and "
        f"dropped some, and in which a trait differs ({labelled(most['trait'], most['level'])})"
    )


def _decided(trained: Trained) -> tuple[pd.DataFrame, np.ndarray]:
    """The valid traces of the pool with their `text`, and the places of those that were decided on
    one by one (`curation.tasks.cases`): by a judge of plans, each plan of a task, whatever is
    written around it.
    """
    valid = choosable(trained.pool[trained.pool["valid"]], trained.whole)
    texts = trained.whole.set_index("trace")["text"]
    valid = valid.assign(text=texts.reindex(valid["trace"]).fillna("").to_numpy())
    seed = derive_seed(trained.experiment.seed, trained.index, "copies") % 2**32
    one = np.arange(len(valid))
    for what in "plan", "text":
        some = valid.iloc[one]
        one = one[cases(some["kept"].astype(bool), some["task"], some[what], seed)]
    return valid, one


def _tell_between(trained: Trained, found: Audit, explained: Preferences) -> None:
    """Which tasks weigh more among what was learned than among the valid traces of the pool."""
    for row in explained.between.to_dict("records"):
        name = labelled(row["trait"], row["level"])
        measures = {m: row[m] for m in ("mean_pool", "mean_kept", "shift", "q")}
        found.note(trained.index, "between-tasks", name, measures)
    told = [
        f"{labelled(row.trait, row.level)} {row.mean_pool:.2f} to {row.mean_kept:.2f}"
        for row in explained.heavier(WANTED).itertuples()
    ]
    if told:
        found.say(
            f"  tasks weigh otherwise than in the pool of valid traces: {'; '.join(told[:6])}"
        )
    if _supervised(trained)["weight"].nunique() > 1:
        found.say("  kept traces have different weights, of which this question knows nothing")


def what_nobody_listed(trained: Trained, found: Audit) -> None:
    """Preferences within tasks for features that are no listed trait."""
    whole, one = _decided(trained)
    valid = whole.iloc[one]
    prose = [_ACTION.sub(" ", text) for text in valid["text"]]  # words that are in no action
    plans = valid["plan"].fillna("").tolist()
    seed = derive_seed(trained.experiment.seed, trained.index, "unlisted") % 2**32
    told = unlisted(valid["kept"].astype(bool), valid["task"], plans, prose, seed)
    clear = told[told["p"] <= UNLISTED]
    for row in clear.head(TOLD).to_dict("records"):
        measures = {m: row[m] for m in ("share_kept", "share_expected", "z", "p", "traces")}
        found.note(trained.index, "unlisted", row["feature"], measures)
    if len(clear):
        verb = "kept more often" if clear["z"].iloc[0] > 0 else "kept less often"
        found.say(
            f"  {verb} within a task, though not listed (it may go with a trait that is): "
            f"{clearest(clear)}"
        )


def clearest(features: pd.DataFrame, of: str = "") -> str:
    """The first of some features in words, and how many more there are (`curation.vocabulary`)."""
    first = features.iloc[0]
    besides = f", and {len(features) - 1} more" if len(features) > 1 else ""
    return (
        f"{first['feature']!r}{of}, in {first['share_kept']:.0%} of what was kept, "
        f"{first['share_expected']:.0%} expected by chance (adjusted p {first['p']:.3f}){besides}"
    )


def who_disputes(trained: Trained, found: Audit) -> None:
    """The share of valid plans of the pool that a referee calls invalid, and the invalid traces
    among the learned ones.
    """
    told = trained.warehouse.query(
        "disputed", experiment=trained.experiment.id, generation=trained.index
    )
    silent = list[str]()
    for who, rows in told.groupby("referee"):
        asked, disputed = int(rows["asked"].sum()), int(rows["disputed"].sum())
        if not asked:
            silent.append(str(who))
            found.say(f"  {who} gave no answer on {int(rows['silent'].sum())} valid plans")
            continue
        learned = rows[rows["kept"].astype(bool)]
        low, high = _interval(rows[rows["asked"] > 0], "disputed", "asked")
        measures = {
            "asked": asked, "disputed": disputed, "share": disputed / asked, "low": low,
            "high": high, "learned": learned["disputed"].sum(),
        }  # fmt: skip
        found.note(trained.index, "disputed", str(who), measures)
        found.bound(trained.index, "max_disputed", str(who), disputed / asked)
        if disputed:
            found.say(
                f"  {who} calls {disputed} of {asked} valid plans invalid ({disputed / asked:.1%}, "
                f"{low:.1%} to {high:.1%}); {int(learned['disputed'].sum())} of these were learned"
            )
    if silent:
        found.unanswered(trained.index, "max_disputed")
    kept = trained.kept
    if invalid := int((~kept["valid"].astype(bool)).sum()):
        found.say(f"  {invalid} of {len(kept)} learned traces are invalid")
    measures = {"traces": len(kept), "invalid": invalid}
    found.note(trained.index, "disputed", "learned", measures)


def _interval(rows: pd.DataFrame, part: str, size: str) -> tuple[float, float]:
    """The interval of the share that one column is of another, which counts tasks."""
    by_task = rows.groupby("task")[[part, size]].sum().to_numpy(dtype=float)
    return share_interval(*by_task.T)


def what_users_accept(trained: Trained, found: Audit) -> None:
    """How much of the pool users accepted although it is invalid, by user and by group, and how
    much of that was learned.
    """
    told = trained.warehouse.query(
        "accepted_by", experiment=trained.experiment.id, generation=trained.index
    )
    said = list[tuple[int, str]]()
    for who, rows in told.groupby("who"):
        judged, accepted, wrong = (
            int(rows[name].sum()) for name in ("judged", "accepted", "accepted_invalid")
        )
        learned = int(rows.loc[rows["kept"].astype(bool), "accepted_invalid"].sum())
        measures: dict[str, float | None] = {
            "judged": judged, "accepted": accepted, "accepted_invalid": wrong,
            "rejected_valid": int(rows["rejected_valid"].sum()), "learned_invalid": learned,
            "share": None, "low": None, "high": None,
        }  # fmt: skip
        if accepted:
            low, high = _interval(rows[rows["accepted"] > 0], "accepted_invalid", "accepted")
            measures |= {"share": wrong / accepted, "low": low, "high": high}
        found.note(trained.index, "users", str(who), measures)
        if wrong:
            share = f"{wrong} of {accepted} ({low:.0%} to {high:.0%})"
            line = f"  {who} accepted plans that are invalid: {share}; {learned} were learned"
            said.append((wrong, line))
    said.sort(key=lambda one: -one[0])
    for _, line in said[:WORST]:
        found.say(line)
    if len(said) > WORST:
        found.say(f"  and {len(said) - WORST} more users and groups accepted invalid plans")


def who_is_accepted(trained: Trained, found: Audit) -> None:
    """The share of valid traces that was kept at each level of a trait, one trait at a time."""
    valid = trained.pool[trained.pool["valid"]]
    traits = traits_of(valid)
    for name in traits.columns:
        if traits[name].nunique() > 1 and not pd.api.types.is_float_dtype(traits[name]):
            kept = valid["kept"].astype(bool)
            for row in acceptance(kept, traits[name], valid["task"]).to_dict("records"):
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
        moved = change(
            values[: len(pool)], weight, values[len(pool) :], pool["valid"].to_numpy(dtype=bool),
            pool["task"].to_numpy(),
        )  # fmt: skip
        measures = {m: getattr(moved, m) for m in PRICE}
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


def mean_lengths(warehouse: Warehouse, experiment: str) -> dict[int, float]:
    """Mean length of each generation's plans, valid or not, for training tasks in evaluation."""
    found = warehouse.query("mean_lengths", experiment=experiment)
    return dict(zip(found["generation"], found["length"].astype(float), strict=True))


Question = Callable[[Trained, Audit], None]
OF_TRACES: tuple[Question, ...] = (
    what_is_preferred, what_nobody_listed, who_disputes, what_users_accept, who_is_accepted,
    what_changed, how_far_plans_drift,
)  # fmt: skip
OF_WEIGHTS: tuple[Question, ...] = (how_stale, what_others_keep, is_it_reinforce)
"""Those that load the model; they read no traits."""
PARTS = (OF_TRACES, OF_WEIGHTS)
"""All questions. A generation's parts may be asked in processes of their own."""
