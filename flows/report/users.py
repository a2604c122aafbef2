"""The report's part on users: what they asked of each generation, and what they said of it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from curation.tasks import wilson
from flows.report.figures import PALETTE, beside, drawing, percent, whole_generations
from flows.report.history import Runs
from flows.report.parts import Section
from warehouse.reading import query_sql
from warehouse.store import Warehouse

MOST = 20
"""Users that are listed at most."""


def users(warehouse: Warehouse, runs: Runs) -> Iterator[Section]:
    """The share of answers that users accepted, and of plans that are valid, by generation."""
    found = warehouse.query("report_deployments")
    for name, ids in runs.items():
        for id in ids:
            label = name if len(ids) == 1 else id
            told = found[(found["experiment"] == id) & (found["told"] > 0)]
            if not told.empty:
                yield _shares(label, told)
                yield from _exceptions(warehouse, label, id)
            yield from _shadows(warehouse, label, id)


def _shares(name: str, told: pd.DataFrame) -> Section:
    with drawing(f"users {name}") as drawn:
        axes = drawn.axes[0]
        for part, whole, label, colour, dashes in (
            ("accepted", "told", "accepted, of answers with feedback", PALETTE[0], "-"),
            ("valid", "judged", "valid, of answers that were judged", PALETTE[2], "--"),
        ):
            known = told[told[whole] > 0]
            share = known[part] / known[whole]
            # A user who judges often counts as one opinion; the checker's verdicts are its own.
            counted = known["opinions"] if whole == "told" else known[whole]
            low, high = wilson(share * counted, counted)
            axes.plot(known["generation"], share, dashes, marker="o", label=label, color=colour)
            axes.fill_between(known["generation"], low, high, color=colour, alpha=0.2, linewidth=0)
        whole_generations(axes)
        percent(axes)
        beside(axes)
    first, last = told.iloc[0], told.iloc[-1]
    later = (
        f", and {last['accepted'] / last['told']:.1%} of those of generation {last['generation']}"
        if len(told) > 1
        else ""
    )
    words = [
        f"Users accepted {first['accepted'] / first['told']:.1%} of the answers of generation "
        f"{first['generation']} that they judged{later}. Bands: 95% intervals."
    ]
    shown = told.drop(columns="experiment").assign(
        latency_ms=told["latency_ms"].map("{:.0f}".format)
    )
    shown.columns = [str(column).replace("_", " ") for column in shown.columns]
    title = f"{name}: before users"
    return Section(title, query_sql("report_deployments"), words, drawn.svg, shown)


def _exceptions(warehouse: Warehouse, name: str, id: str) -> Iterator[Section]:
    """Users whose word is not the checker's: a plan can be valid and useless, or the other way."""
    found = warehouse.query("report_exceptions")
    told = found[found["experiment"] == id].drop(columns="experiment")
    if told.empty:
        return
    wrong = int(told["accepted_invalid"].sum())
    named = int((told["told_by"] != "nobody named").sum())
    cut = f" The first {MOST} are shown." if len(told) > MOST else ""
    words = [
        f"users who disagreed with the checker: {named}"
        f"{', and some whom nobody named' if named < len(told) else ''}; they accepted {wrong} "
        f"invalid plans and rejected {int(told['rejected_valid'].sum())} valid ones.{cut} The "
        "curator `feedback` learns what was accepted, valid or not; `accepted-and-valid` does not."
    ]
    shown = told.head(MOST).rename(columns=lambda column: str(column).replace("_", " "))
    yield Section(
        f"{name}: where users and the checker differ", query_sql("report_exceptions"), words,
        table=shown,
    )  # fmt: skip


def _shadows(warehouse: Warehouse, name: str, id: str) -> Iterator[Section]:
    """How often generations that answered unseen found a plan where the deployed one did not."""
    from scipy.stats import binomtest

    found = warehouse.query("report_shadows")
    told = found[found["experiment"] == id].drop(columns="experiment")
    words = []
    for row in told.to_dict("records"):
        better, worse = int(row["only_shadow_valid"]), int(row["only_users_valid"])
        differ = better + worse
        chance = f" (p = {binomtest(better, differ).pvalue:.2g})" if differ else ""
        words.append(
            f"Of {row['answers']} prompts, generation {row['generation']} alone found a valid plan "
            f"for {better}, and generation {row['beside']}, which users had, for {worse}{chance}."
        )
    if words:
        words.append(
            "By the exact test of McNemar, which counts the prompts where the two differ. Users "
            "may ask the same again: then it takes too much for granted."
        )
        shown = told.rename(columns=lambda column: str(column).replace("_", " "))
        title = f"{name}: who answered in silence"
        yield Section(title, query_sql("report_shadows"), words, table=shown)
