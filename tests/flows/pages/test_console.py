"""The SQL console's charts and cells, for values that no axis and no page has room for."""

import duckdb
import pyarrow as pa
import pytest

from flows.pages.console import CELL, chart, shown
from planners.errors import InvalidInput


def result(sql: str) -> pa.Table:
    with duckdb.connect() as connection:
        return connection.execute(sql).to_arrow_table()


def test_what_is_missing_is_a_gap_in_a_chart() -> None:
    drawn = chart(result("SELECT * FROM (VALUES (0, 0.5::DOUBLE), (1, NULL), (2, 0.7)) AS t(x, y)"))
    assert "<svg" in drawn


@pytest.mark.parametrize("value", ["9e307", "-9e307", "'inf'::DOUBLE"])
def test_a_number_without_a_place_on_an_axis_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput, match="a chart needs numbers, all of them below"):
        chart(result(f"SELECT 1 AS x, {value} AS y"))
    with pytest.raises(InvalidInput, match="a chart needs numbers, all of them below"):
        chart(result(f"SELECT {value} AS x, 1 AS y"))


def test_a_long_value_is_cut_and_another_stays_as_it_is() -> None:
    names, [row] = shown(result("SELECT repeat('<', 100000) AS long, 3 AS a, NULL AS a"))
    assert names == ["long", "a", "a_1"]
    assert row == ["<" * CELL + "...", 3, None]
