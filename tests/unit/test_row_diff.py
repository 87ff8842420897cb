"""Where two tables that should be equal differ: by bits, by place, and counted beyond what is named."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest

from shared.lake.row_diff import diff
from shared.lake.schema import FILE_SCHEMAS
from tests.lakes import fobs_rows


def changed(rows: pa.Table, column: str, at: int, value) -> pa.Table:
    number = rows.column_names.index(column)
    values = rows.column(column).to_pylist()
    values[at] = value
    field = FILE_SCHEMAS["fobs"].field(column)
    return rows.set_column(number, field, pa.array(values, field.type, from_pandas=False))


def test_equal_rows_do_not_differ_whatever_holds_their_strings():
    rows = fobs_rows(5)
    words = rows.set_column(6, "side", rows.column("side").dictionary_encode())
    assert diff("p", rows, words, most=5).first == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price", math.nextafter(100.1, 0)),
        ("quantity", math.nan),
        ("price", None),
        ("depth_limit", None),
        ("side", "ask"),
        ("gap_cause", "poll"),
        ("event_time", 0),
        ("recv_ns", 1),
    ],
)
def test_one_value_that_differs_is_named_with_both(column, value):
    rows = fobs_rows(5)
    found = diff("p", changed(rows, column, 8, value), rows, most=5)
    (difference,) = found.first
    assert (difference.what, difference.raw_offset, difference.row, difference.column) == ("rows-differ", 2, 0, column)
    assert (found.rows["rows-differ"], found.raw_records["rows-differ"]) == (1, 1)
    json.loads(json.dumps([difference.lake, difference.source]), parse_constant=pytest.fail)


def test_a_zero_and_a_negative_zero_differ():
    rows = changed(fobs_rows(2), "quantity", 3, 0.0)
    found = diff("p", rows, changed(rows, "quantity", 3, -0.0), most=5)
    assert [difference.row for difference in found.first] == [3]


def test_a_record_on_one_side_only_is_extra_or_lost_with_all_its_rows():
    rows = fobs_rows(5)
    found = diff("p", rows.slice(4), rows.slice(0, 16), most=5)
    assert dict(found.rows) == {"rows-lost": 4, "rows-extra": 4}
    assert {(d.what, d.raw_offset) for d in found.first} == {("rows-lost", 0), ("rows-extra", 4)}
    assert [d.row for d in found.first if d.what == "rows-lost"] == [0, 1, 2, 3]
    lost = found.first[0]
    assert (lost.lake, lost.source["side"], lost.column) == (None, "bid", None)


def test_a_row_too_many_and_a_row_too_few_of_one_record_are_told_by_their_place():
    rows = fobs_rows(3)
    doubled = pa.concat_tables([rows.slice(0, 6), rows.slice(5)])  # row 1 of record 1 twice
    (difference,) = diff("p", doubled, rows, most=5).first
    assert (difference.what, difference.raw_offset, difference.row) == ("rows-extra", 1, 2)
    (difference,) = diff("p", rows, doubled, most=5).first
    assert (difference.what, difference.raw_offset, difference.row) == ("rows-lost", 1, 2)


def test_another_row_in_an_uneven_record_is_both_extra_and_lost():
    rows = fobs_rows(1)
    found = diff("p", changed(rows, "price", 0, 1.5).slice(0, 3), rows, most=5)
    assert [(d.what, d.row) for d in found.first] == [("rows-extra", 0), ("rows-lost", 0), ("rows-lost", 3)]
    assert dict(found.rows) == {"rows-extra": 1, "rows-lost": 2}


def test_all_are_counted_and_the_first_of_each_kind_named():
    rows = fobs_rows(100)
    other = rows.set_column(7, "price", pa.array([1.0] * 400))
    found = diff("p", other, rows, most=3)
    assert (found.rows["rows-differ"], found.raw_records["rows-differ"]) == (400, 100)
    assert [(d.raw_offset, d.row) for d in found.first] == [(0, 0), (0, 1), (0, 2)]


def test_rows_of_different_records_may_lie_in_any_order():
    """Their order in a file is `verify`'s business."""
    rows = fobs_rows(4)
    assert diff("p", pa.concat_tables([rows.slice(8), rows.slice(0, 8)]), rows, most=5).first == []
