"""`posterity audit --pool`: anyone's selection."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import flows.commands.main  # noqa: F401  the command audit
from flows.commands.terminal import app
from warehouse.sandbox.foreign import foreign_rows


def answers(rows: int = 1600) -> pd.DataFrame:
    """Answers to prompts: shorter ones are kept, and easy prompts have many answers."""
    rng = np.random.default_rng(0)
    prompt = rng.choice(80, rows, p=(w := np.arange(1, 81) / 80) / w.sum())
    text = ["word " * int(n) for n in rng.integers(3, 40, rows)]
    length = np.array([len(t) for t in text])
    kept = rng.random(rows) < 1 / (1 + np.exp((length - 100) / 40))
    return pd.DataFrame({
        "prompt": [f"p{p}" for p in prompt], "answer": text, "accepted": kept,
        "model": rng.choice(["a", "b"], rows), "score": rng.normal(size=rows),
    })  # fmt: skip


def ask(frame: pd.DataFrame, tmp_path: Path, *options: str) -> tuple[int, str]:
    frame.to_parquet(tmp_path / "pool.parquet")
    words = ["audit", "--pool", str(tmp_path / "pool.parquet"), *options]
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output


def test_a_preference_of_anyones_selection_is_named(tmp_path: Path) -> None:
    columns = ("--kept", "accepted", "--group", "prompt")
    status, told = ask(answers(), tmp_path, *columns)
    assert status == 0, told
    assert "1600 rows, 0 without accepted or prompt" in told
    assert "within groups: length of answer, odds of being kept x0." in told
    assert "model" not in told
    status, told = ask(answers(), tmp_path, *columns, "--trait", "long=length(answer) > 100")
    assert status == 0, told
    assert "within groups: long=True, odds of being kept x0." in told
    status, told = ask(answers(), tmp_path, *columns, "--trait", "score")
    assert status == 0, told
    assert "though not listed" not in told, "a text of one word has nothing to name"
    failing = "bad=CASE WHEN score > 0 THEN CAST(answer AS INTEGER) ELSE 1 END"
    status, told = ask(answers(), tmp_path, *columns, "--trait", failing, "--trait", "s=score")
    assert "bad is unknown for" in told
    frame = answers()
    frame["long"] = frame["answer"].str.len().where(np.arange(len(frame)) != 7)
    status, told = ask(frame, tmp_path, *columns, "--trait", "long=long")
    assert status == 0, told
    assert "long is unknown for 1 rows, which say nothing of it" in told
    assert "within groups: long, odds of being kept x0." in told, "one gap hides no preference"


def chatty(odds: float, seed: int) -> pd.DataFrame:
    """Answers to 150 questions, of words by chance; those with "point" are kept at other odds."""
    rng = np.random.default_rng(seed)
    words = np.array([*"abcdefghijklmnopqrst", "point"])
    texts = [" ".join(rng.choice(words, 12)) for _ in range(900)]
    kept = rng.random(900) < np.where([("point" in text) for text in texts], odds / (1 + odds), 0.5)
    questions = [f"q{number % 150}" for number in range(900)]
    return pd.DataFrame(
        {"prompt": questions, "answer": texts, "accepted": kept, "s": rng.random(900)}
    )


def test_a_word_that_nobody_listed_is_named(tmp_path: Path) -> None:
    columns = ("--kept", "accepted", "--group", "prompt", "--trait", "s")
    status, told = ask(chatty(4, 0), tmp_path, *columns)
    assert status == 0, told
    assert "(it may go with what is): 'word point' of answer, in " in told
    named = ["though not listed" in ask(chatty(1, s), tmp_path, *columns)[1] for s in range(1, 21)]
    assert sum(named) <= 3, "at most one in twenty, where nothing is preferred"


def test_columns_of_any_kind_are_asked_or_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long = rng.normal(size=600)
    frame = pd.DataFrame({
        "messages": [[{"role": "user", "content": f"q{one // 6}"}] for one in range(600)],
        "long": long,
        "kept": rng.random(600) < 1 / (1 + np.exp(-3 * long)),
        "bytes": [b"a"] * 300 + [b"b"] * 300,
        "when": pd.Timestamp("2026-01-01"),
        "style": rng.choice(["list", "prose", None], 600),
        "__index_level_0__": rng.normal(size=600),
    })  # fmt: skip
    frame["answer"] = frame["messages"]
    status, told = ask(frame, tmp_path, "--group", "messages")
    assert status == 0, told
    assert "in 100 groups" in told
    assert "within groups: long, odds of being kept" in told
    for name in ("answer", "bytes", "when"):
        assert f"no answer for {name}: neither numbers nor texts" in told
    assert "rows, which is a level of its own" in told
    assert "__index" not in told


def test_a_column_of_texts_that_is_named_counts_by_its_length_and_words(tmp_path: Path) -> None:
    options = "--kept", "accepted", "--group", "prompt", "--trait", "answer"
    status, told = ask(answers(), tmp_path, *options)
    assert status == 0, told
    assert "within groups: length of answer, odds of being kept" in told


def test_copies_count_once_whatever_else_is_in_their_rows(tmp_path: Path) -> None:
    """A judge of texts decides by lot, and errs once in thirty rows; each row has a name."""
    named = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        prompt = np.repeat(np.arange(60), 30)
        of = prompt * 5 + rng.integers(0, 5, 1800)
        texts = np.array(
            [" ".join(rng.choice([*"abcdefgh"], rng.integers(4, 30))) for _ in range(300)]
        )
        kept = (rng.random(300) < 0.4)[of] ^ (rng.random(1800) < 0.03)
        frame = pd.DataFrame({
            "id": [f"row{number}" for number in range(1800)], "prompt": prompt,
            "answer": texts[of], "accepted": kept, "time": rng.random(1800),
        })  # fmt: skip
        columns = ("--kept", "accepted", "--group", "prompt", "--trait", "n=length(answer)")
        status, told = ask(frame, tmp_path, *columns)
        assert status == 0, told
        assert "rows repeat another of their group and are kept with it" in told
        named += "within groups: n," in told
    assert named <= 1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ("--group", "prompt"), "has no column 'kept' (--kept); it has prompt, answer"),
        ({}, ("--kept", "accepted"), "has no column 'group' (--group)"),
        ({"accepted": True}, (), "all rows were kept"),
        ({"accepted": "yes"}, (), "has neither booleans nor numbers"),
        ({"accepted": -1}, (), "has values such as -1: to say kept"),
        ({"accepted": None}, (), "none of its 200 rows has accepted and prompt"),
        ({}, ("--trait", "length(answer)"), "is neither NAME=SQL"),
        ({}, ("--trait", "empty="), "is neither NAME=SQL"),
        ({}, ("--trait", "nothing"), "has no column 'nothing' to be a trait; it has prompt"),
        ({}, ("--trait", "r=right"), "the trait 'r' is not SQL over a row: 'right'"),
        ({}, ("--trait", "x=nothing + 1"), "is not SQL over the columns"),
        ({}, ("--trait", "x=(SELECT text FROM read_text('/etc/passwd'))"), "read_text is refused"),
        ({"answer": "same", "model": "a", "score": 1.0}, (), "can be answered: "),
    ],
)
def test_what_cannot_be_asked_is_one_message(
    change: dict[str, object], options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    default = () if change == {} and "prompt" in options else ("--group", "prompt")
    if message.startswith("has no column 'group'"):
        default = ()
    if "--kept" not in options and "has no column 'kept'" not in message:
        default = (*default, "--kept", "accepted")
    status, told = ask(answers(200).assign(**change), tmp_path, *options, *default)
    assert status == 2, told
    assert any(part in " ".join(told.split()) for part in message.split("|")), told
    assert "Traceback" not in told


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    done = CliRunner().invoke(app, ["audit", "--pool", str(tmp_path / "x.parquet")])
    assert (done.exit_code, "cannot be read as Parquet" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--kept", "liked"], "need --pool FILE"), (["--arms", "4"], "--arms needs --by-lot")],
)
def test_an_option_of_another_question_is_not_ignored(words: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["audit", "tiny", *words])
    assert (done.exit_code, told in done.stderr) == (2, True)


def test_names_that_differ_in_case_alone_and_values_of_any_type_can_be_asked(
    tmp_path: Path,
) -> None:
    """To DuckDB such names are one; lists, structs and bytes can be compared as text."""
    pd.DataFrame({"Len": [1, 2], "GROUP": ["a", "b"], "group": ["c", "d"]}).to_parquet(
        file := tmp_path / "pool.parquet"
    )
    asked = {"len": "Len * 2", "X": "1", "x": "2", "list": "[1, 2]", "struct": "{'a': Len}",
             "bytes": "encode('a')"}  # fmt: skip
    rows = foreign_rows(file, asked)
    assert [*rows.columns] == ["Len", "GROUP", "group", *asked]
    assert rows["len"].tolist() == [2, 4]
    assert (rows["X"].tolist(), rows["x"].tolist()) == ([1, 1], [2, 2])
    assert (rows["GROUP"].tolist(), rows["group"].tolist()) == (["a", "b"], ["c", "d"])
    assert all(rows[name].nunique() in (1, 2) for name in asked)
