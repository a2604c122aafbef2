"""An audit of anyone's selection: which rows of a group were kept, and which groups weigh more?"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from curation.preferences import Preferences, preferences
from curation.tasks import cases, contested, is_number, labelled, per_unit
from curation.vocabulary import unlisted
from flows.audit.questions import UNLISTED, WANTED, clearest
from planners.errors import InvalidInput
from warehouse.sandbox.foreign import foreign_rows

LEVELS = 50
"""Different texts in a column, at most, for it to be a trait by itself."""
INDEX = re.compile(r"__index_level_\d+__")
"""Columns in which pandas keeps the numbers of rows."""
NAME = 40
"""Characters of such a text, at most."""
READ, LONGEST = 20_000, 10_000
"""Rows in whose texts words are looked for, and characters of each, at most."""


def audit_pool(file: Path, kept: str, group: str, traits: Mapping[str, str]) -> Iterator[str]:
    """The findings on a data set in words: what its selection prefers within groups and between.

    `kept` and `group` name columns: whether a row was kept (booleans, or 0 and 1), and what it
    competes in, such as its prompt. Without `traits`, which are columns or SQL, all other columns
    are asked about. Words are looked for in every column of texts. Raises InvalidInput where
    nothing can be answered.
    """
    frame = foreign_rows(file, traits)
    for name, what in ((kept, "--kept"), (group, "--group")):
        if name not in frame:
            known = ", ".join(map(str, frame.columns[:20]))
            raise InvalidInput(f"{file} has no column {name!r} ({what}); it has {known}")
    frame[group] = _hashable(frame[group])
    named = {kept, group, *traits}
    frame = frame.drop(columns=[n for n in frame if INDEX.fullmatch(str(n)) and n not in named])
    known = frame[frame[kept].notna() & frame[group].notna()]
    if known.empty:
        raise InvalidInput(
            f"nothing can be asked of {file}: none of its {len(frame)} rows has {kept} and {group}"
        )
    chosen = _flag(known[kept], kept)
    others = known.drop(columns=[kept, group])
    derived = [name for name, sql in traits.items() if sql.strip() not in ("", name)]
    columns = known[[name for name in traits if name not in derived]] if traits else others
    asked = pd.concat([_plain(columns), known[derived]], axis=1)
    gaps = asked.isna().sum()
    asked = _filled(asked, known[group])
    mixed = chosen.groupby(known[group]).nunique().eq(2).sum()
    yield (
        f"{file}: {len(frame)} rows, {len(frame) - len(known)} without {kept} or {group}; "
        f"{int(chosen.sum())} of {len(known)} kept, in {_counted(known[group].nunique())}, of "
        f"which {mixed} have kept and dropped rows"
    )
    for name in columns:
        if name not in asked and f"length of {name}" not in asked:
            yield f"no answer for {name}: neither numbers nor texts; ask with --trait NAME=SQL"
    if not len(asked.columns) or chosen.nunique() < 2:
        why = "all rows were kept" if chosen.all() else "no row was kept"
        raise InvalidInput(
            f"nothing can be asked of {file}: "
            + (why if chosen.nunique() < 2 else "no column can be a trait; name one with --trait")
        )
    for name, count in gaps[gaps > 0].items():
        number = is_number(frame[name]) if name in frame else True  # or the length of a text
        what = "which say nothing of it" if number else "which is a level of its own"
        yield f"{name} is unknown for {count} rows, {what}"
    besides = known.drop(columns=[kept, group, *derived])
    one = cases(chosen, known[group], _compared(besides))
    if len(one) < len(known):
        yield (
            f"{len(known) - len(one)} rows repeat another of their group and are kept with it more "
            "often than by chance: within groups, each different text counts once"
        )
    found = preferences(
        chosen.reset_index(drop=True),
        known[group].reset_index(drop=True),
        asked.reset_index(drop=True),
        one=one,
    )
    yield from _tell(found)
    yield from _words(besides.iloc[one], chosen.iloc[one], known[group].iloc[one])
    if found.found.empty and found.between.empty:
        first = islice(found.unanswered.items(), 5)
        why = "; ".join(f"{trait}: {reason}" for trait, reason in first)
        raise InvalidInput(f"no trait of {file} can be answered: {why}")


def traits_named(given: Sequence[str]) -> dict[str, str]:
    """Traits by name, each given as NAME=SQL, or as a column's name alone, then without SQL."""
    found = {}
    for one in given:
        name, equals, sql = one.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or bool(equals) != bool(sql.strip()):
            raise InvalidInput(
                f"--trait {one!r} is neither NAME=SQL, such as words=length(answer), nor a column"
            )
        found[name] = sql
    return found


def _tell(found: Preferences) -> Iterator[str]:
    clear = found.clear(WANTED)
    for row in clear.itertuples():
        also = f" (or {row.also}, from which it cannot be told)" if row.also else ""
        yield (
            f"within groups: {labelled(row.trait, row.level)}{also}, odds of being kept "
            f"x{row.odds_ratio:.2f}{per_unit(row.level)} ({row.low:.2f} to {row.high:.2f})"
        )
    if clear.empty:
        yield f"within groups: no preference is named at a false discovery rate of {WANTED:.0%}"
    for row in found.heavier(WANTED).itertuples():
        yield (
            f"between groups: the mean of {labelled(row.trait, row.level)} goes from "
            f"{row.mean_pool:.3g} to {row.mean_kept:.3g}, by which groups weigh more"
        )
    for trait, why in found.unanswered.items():
        yield f"no answer for {trait}: {why}"


def _words(frame: pd.DataFrame, chosen: pd.Series, group: pd.Series) -> Iterator[str]:
    """Words that go with being kept within a group, of columns that are texts, named by nobody."""
    mixed = contested(chosen, group)
    # Group by group, in an order that has nothing to do with them.
    by_chance = pd.util.hash_array(group.astype(str).to_numpy(dtype=object))
    order = np.argsort(by_chance, kind="stable")
    rows = order[mixed[order]][:READ]
    texts = {name: values for name, values in frame.items() if _is_text(values)}
    for name, values in texts.items():
        prose = [text[:LONGEST] for text in values.fillna("").iloc[rows]]
        told = unlisted(chosen.iloc[rows], group.iloc[rows], [""] * len(rows), prose)
        told = told.assign(p=told["p"] * len(texts))
        clear = told[told["p"] <= UNLISTED]
        if len(clear):
            told_of = clearest(clear, f" of {name}")
            yield f"within groups, though not listed (it may go with what is): {told_of}"


def _filled(asked: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Traits without gaps: an unknown number is the mean of its group, so that it says nothing
    within it; an unknown level is one of its own; and so is that a number is unknown.
    """
    found = {}
    for name, values in asked.items():
        if not values.isna().any() or values.isna().all():
            found[name] = values
        elif is_number(values):
            numbers = values.astype(float)
            means = numbers.groupby(group).transform("mean").fillna(numbers.mean())
            found |= {name: numbers.fillna(means), f"{name} is unknown": values.isna()}
        else:
            found[name] = values.astype(object).where(values.notna(), "unknown").astype(str)
    return pd.DataFrame(found)


def _compared(frame: pd.DataFrame) -> pd.Series:
    """The part of each row by which rows of a group are copies: its texts, or all where it has
    none. A column that is another one in each row, such as a name of the row, tells nothing.
    """
    rest = frame.loc[:, [_hashable(one).nunique() < len(frame) for _, one in frame.items()]]
    texts = [name for name, values in rest.items() if _is_text(values)]
    told = rest[texts or list(rest)].astype(str)
    if told.empty:
        return pd.Series(np.arange(len(frame)), frame.index)
    return pd.Series(list(map(tuple, told.to_numpy())), frame.index)


def _hashable(values: pd.Series) -> pd.Series:
    """A column whose values can be compared: lists, structs and bytes as texts."""
    odd = values.map(lambda one: isinstance(one, Collection) and not isinstance(one, str))
    return values.where(~odd, values.astype(str)) if odd.any() else values


def _is_text(values: pd.Series) -> bool:
    """Whether a column holds texts, and more than levels of a trait."""
    return set(values.dropna().map(type)) == {str} and not _few(values)


def _few(values: pd.Series) -> bool:
    """Whether a column's texts are few and short, so that each can be a level of a trait."""
    return bool(values.nunique() <= LEVELS and values.astype(str).str.len().max() <= NAME)


def _counted(groups: int) -> str:
    return f"{groups} {'group' if groups == 1 else 'groups'}"


def _flag(values: pd.Series, name: str) -> pd.Series:
    """Which rows were kept. Raises InvalidInput unless the column has booleans or numbers."""
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        numbers = values.astype(float)
        if odd := sorted(set(numbers[~numbers.isin([0.0, 1.0])])):
            raise InvalidInput(
                f"the column {name!r} has values such as {odd[0]:g}: to say kept, it needs "
                "booleans, or 0 and 1"
            )
        return numbers != 0
    if set(values.map(type)) == {bool}:
        return values.astype(bool)
    raise InvalidInput(
        f"the column {name!r} has neither booleans nor numbers, so it cannot say kept"
    )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that can be traits as they are; a text that is mostly unique is its length."""
    found = {}
    for name, values in frame.items():
        if pd.api.types.is_numeric_dtype(values):
            found[str(name)] = values
        elif set(values.dropna().map(type)) <= {str, bool}:
            few = _few(values)
            found[str(name) if few else f"length of {name}"] = (
                values.astype(str) if few else values.str.len()
            )
    return pd.DataFrame(found)
