"""Results of queries, whatever their names and types are, in every form."""

import csv
import io
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from planners.errors import InvalidInput
from warehouse.sandbox.query import ask
from warehouse.sandbox.results import (
    FORMS,
    as_csv,
    as_json,
    as_parquet,
    names_of,
    require_form,
    rows_of,
)
from warehouse.store import Warehouse


def result(sql: str) -> pa.Table:
    with duckdb.connect() as connection:
        return connection.execute(sql).to_arrow_table()


@pytest.mark.parametrize(
    "value",
    ["1::UHUGEINT", "'101'::BIT", "'12:00:00+05'::TIMETZ", "[INTERVAL 1 DAY]", "{'a': ['1'::BIT]}"],
)
def test_what_would_be_shown_as_another_value_is_refused(value: str, tmp_path: Path) -> None:
    """UHUGEINT's largest would be -1, bits would be bytes, and a time would lose its zone."""
    with Warehouse(tmp_path / "w.duckdb"):
        pass
    with pytest.raises(InvalidInput, match=r"cast it, as in CAST\(a AS VARCHAR\)"):
        ask(str(tmp_path / "w.duckdb"), f"SELECT {value} AS a")
    [[told]] = rows_of(ask(str(tmp_path / "w.duckdb"), f"SELECT CAST({value} AS VARCHAR) AS a"))
    assert told == result(f"SELECT CAST({value} AS VARCHAR) AS a")["a"][0].as_py()


ODD = """
    SELECT
        1 AS a, 2 AS a, 3 AS b, 'infinity'::TIMESTAMP AS late, '0044-01-01 (BC)'::DATE AS early,
        'nan'::DOUBLE AS nan, 'inf'::DOUBLE AS inf, '\\xff'::BLOB AS bytes,
        INTERVAL 1 MONTH AS month, union_value(x := 1) AS one, [1, NULL] AS list,
        {'k': 'nan'::DOUBLE} AS struct, 9007199254740993 AS large
    UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
"""


def test_no_column_and_no_value_is_lost() -> None:
    table = result(ODD)
    names = ["a", "a_1", "b", "late", "early", "nan", "inf", "bytes", "month", "one", "list",
             "struct", "large"]  # fmt: skip
    assert names_of(table) == names
    first, second = json.loads(as_json(table))
    assert list(first) == names
    assert set(second.values()) == {None}
    assert (first["a"], first["a_1"]) == (1, 2)
    assert (first["late"], first["early"]) == ("infinity", "0044-01-01 (BC)")
    assert (first["nan"], first["inf"], first["struct"]) == (None, None, {"k": None})
    assert (first["bytes"], first["month"], first["one"]) == ("ff", "1 month", "1")
    assert first["large"] == 9007199254740993
    heading, one, none = csv.reader(io.StringIO(as_csv(table).decode()))
    assert heading == names
    assert one[-1] == "9007199254740993", "a missing value makes no integer a float"
    assert set(none) == {""}
    back = pq.read_table(io.BytesIO(as_parquet(table)))
    assert back.column_names == names
    assert back["month"].to_pylist() == ["1 month", None]
    assert back["large"].to_pylist() == [9007199254740993, None]


def test_a_sum_of_whole_numbers_is_a_number() -> None:
    table = result("SELECT sum(range) AS n, 1.5 AS half FROM range(4)")
    assert json.loads(as_json(table)) == [{"n": 6, "half": 1.5}]
    assert as_csv(table) == b"n,half\n6,1.5\n"


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_result_has_its_columns(form: str) -> None:
    content = FORMS[form](result("SELECT 1 AS a, 'x' AS b WHERE false"))
    if form == "parquet":
        assert pq.read_table(io.BytesIO(content)).column_names == ["a", "b"]
    else:
        assert content == {"csv": b"a,b\n", "json": b"[]\n"}[form]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown format 'xml'; known: csv, json, parquet"):
        require_form("xml")


def test_a_name_is_given_once() -> None:
    assert names_of(result("SELECT 1 AS a, 2 AS a_1, 3 AS a, 4 AS a")) == ["a", "a_1", "a_2", "a_3"]
