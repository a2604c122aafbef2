"""The audit's part of the report, in words and figures."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from curation.tasks import NOTABLE
from flows.audit.questions import WANTED
from flows.audit.weights import WEIGHED
from flows.report.figures import INK, PALETTE, beside, drawing, odds
from flows.report.parts import Section
from warehouse.reading import query_sql
from warehouse.store import Warehouse

LIMITS = (
    "These are associations in what was kept, not causes. A trait that nobody thought of can hide "
    "behind one that is named, and early warning is not reliable: what is too weak for the number "
    "of traces goes unnamed until it has been learned. A quiet audit proves no loop harmless."
)


def audit_sections(warehouse: Warehouse, experiment: str) -> Iterator[Section]:
    """Sections on what is rewarded besides validity and how stale replay is (in the last generation
    asked about), what selection and training changed, and whether a step is one of REINFORCE.
    """
    found = warehouse.query("report_audits")
    found = found[found["experiment"] == experiment]
    if found.empty:
        return
    for part in (_preferences, _disputes, _staleness, _change, _equivalence):
        section = part(experiment, found, query_sql("report_audits"))
        if section is not None:
            yield section


def answers(found: pd.DataFrame, question: str) -> tuple[int, pd.DataFrame]:
    """The last generation with answers to a question, or -1, and its answers, one row per name."""
    told = found[(found["question"] == question) & found["value"].notna()]
    if told.empty:
        return -1, pd.DataFrame()
    last = int(told["generation"].max())
    told = told[told["generation"] == last]
    wide = told.pivot(index="name", columns="measure", values="value").reset_index()
    notes = told.drop_duplicates("name").set_index("name")["note"]
    return last, wide.assign(note=wide["name"].map(notes))


def named_in(told: pd.DataFrame) -> pd.DataFrame:
    """Of answers on preferences those that the audit names, the clearest first."""
    return told[(told["q"] <= WANTED) & (told.get("named", 1) > 0)].sort_values("q")


def _preferences(experiment: str, found: pd.DataFrame, sql: str) -> Section | None:
    generation, told = answers(found, "preferences")
    if told.empty:
        return None
    told = told.assign(declared=told["declared"] > 0)
    named = named_in(told)
    shown = named if len(named) else told.nsmallest(5, "q")
    words = [
        f"Within a task, which of its valid traces were kept for generation {generation}. "
        "To the right of 1: kept more often; numbers count per standard deviation within tasks. "
        "Round and blue is what the curator is known for; square and orange nobody declared."
    ]
    words += [_preference(row) for row in named.to_dict("records")] or [
        f"Nothing is named at a false discovery rate of {WANTED:.0%}; shown are the nearest."
    ]
    words += _between(found)
    with drawing(f"odds {experiment}", height=1.2 + 0.28 * len(shown)) as drawn:
        odds(drawn.axes[0], shown)
    title = f"{experiment}: what is rewarded besides validity"
    return Section(title, sql, [*words, LIMITS], drawn.svg)


def _between(found: pd.DataFrame) -> list[str]:
    """A sentence on which tasks weigh more among what was learned; none where none do."""
    generation, told = answers(found, "between-tasks")
    if told.empty:
        return []
    clear = told[(told["q"] <= WANTED) & (told["shift"].abs() >= NOTABLE)].sort_values("q")
    shifts = [f"{r.name_} {r.mean_pool:.2f} to {r.mean_kept:.2f}"
              for r in clear.rename(columns={"name": "name_"}).itertuples()]  # fmt: skip
    if not shifts:
        return []
    return [
        f"Between tasks, for generation {generation}: tasks weigh otherwise among what was kept "
        f"than in the pool of valid traces. Means over tasks: {'; '.join(shifts[:8])}."
    ]


def _preference(row: dict[str, object]) -> str:
    name, _, level = str(row["name"]).partition("=")
    what = name.replace("_", " ") + (f" {level}" if level else "")
    kind = "Declared" if row["declared"] else "Undeclared"
    return (
        f"{kind}: {what}, odds times {row['odds_ratio']:.2f} "
        f"(95% interval {row['low']:.2f} to {row['high']:.2f})."
    )


def _disputes(experiment: str, found: pd.DataFrame, sql: str) -> Section | None:
    told = found[(found["question"] == "disputed") & found["value"].notna()]
    if told.empty:
        return None
    wide = told.pivot(index=["generation", "name"], columns="measure", values="value")
    table = wide.reset_index().rename(columns={"name": "by"})
    words = [
        "Plans that the checker calls valid and a referee does not, of those that it was asked "
        "about, with a 95% interval; and how many learned traces are invalid by the checker itself."
    ]
    shown = table.map(lambda v: "-" if v != v else f"{v:g}" if isinstance(v, float) else v)
    return Section(f"{experiment}: can the checker be trusted", sql, words, table=shown)


def _staleness(experiment: str, found: pd.DataFrame, sql: str) -> Section | None:
    generation, told = answers(found, "staleness")
    if told.empty:
        return None
    traces, worth = told["traces"].sum(), told["effective"].sum()
    words = [
        f"Of what generation {generation} learned, {traces:.0f} traces with recorded "
        f"log-probabilities are looked at (at most {WEIGHED}). Weighted to be like samples of the "
        f"weights that training started from, they would be an effective sample of {worth:.0f} (by "
        "the generation that wrote them). Fine-tuning weighs none of them."
    ]
    with drawing(f"staleness {experiment}", height=2.6) as drawn:
        axes, places = drawn.axes[0], range(len(told))
        axes.bar([p - 0.2 for p in places], told["traces"], 0.4, label="learned", color=PALETTE[0])
        axes.bar(
            [p + 0.2 for p in places], told["effective"], 0.4, label="effective sample",
            color=PALETTE[1], hatch="///", edgecolor=INK, linewidth=0.4,
        )  # fmt: skip
        axes.set_xticks(list(places), [f"by {name}" for name in told["name"]])
        axes.set_ylabel("traces")
        beside(axes)
    return Section(f"{experiment}: how stale replay is", sql, words, drawn.svg)


def _change(experiment: str, found: pd.DataFrame, sql: str) -> Section | None:
    told = found[(found["question"] == "change") & found["value"].notna()]
    lengths = told[told["name"] == "plan_length"].pivot(
        index="generation", columns="measure", values="value"
    )
    measures = [
        "mean_before", "checker", "between", "within", "transmission", "mean_after"
    ]  # fmt: skip
    if lengths.empty or "within" not in lengths:
        return None
    # NaN, where a measure is missing, is the only value unequal to itself.
    table = lengths.reindex(columns=measures).map(lambda v: "-" if v != v else f"{v:+.2f}")
    table["mean_before"] = table["mean_before"].str.lstrip("+")
    table["mean_after"] = table["mean_after"].str.lstrip("+")
    words = [
        "Plan length by the Price equation, in actions: the mean over the pool, what the checker "
        "selects, what the curator selects between tasks (which weigh more) and within them, what "
        "training did, and the mean of the next generation's plans."
    ]
    title = f"{experiment}: what selection changed, and what training did"
    return Section(title, sql, words, table=table.reset_index())


def _equivalence(experiment: str, found: pd.DataFrame, sql: str) -> Section | None:
    told = found[(found["question"] == "equivalence") & found["value"].notna()]
    if told.empty:
        return None
    wide = told.pivot(index=["generation", "name"], columns="measure", values="value")
    cosine = wide["cosine"].map("{:.2f}".format)
    if "error" in wide:
        cosine += wide["error"].map(" ± {:.2f}".format)
    table = cosine.unstack().fillna("?").reset_index()
    words = [
        "The cosine between the first step of training on what each curator keeps and that of "
        "REINFORCE with reward 1 for valid plans, at the weights that training started from: 1 is "
        "the same direction. An identity at one step with frozen data, not over epochs. What each "
        "stands for:"
    ]
    implied = told.drop_duplicates("name")[["name", "note"]].to_numpy()
    words += [f"{name}: {note}." for name, note in implied]
    return Section(f"{experiment}: is it REINFORCE", sql, words, table=table)
