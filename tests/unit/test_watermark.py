from __future__ import annotations

import pytest

from shared.lake import layout
from shared.lake.layout import HOUR_US
from shared.lake.report import LineKey
from shared.lake.store_local import LocalStore
from shared.lake.watermark import watermark
from tests.lakes import BTC, CHINESE, ETH, HOUR_0, Line

SECOND_US = 1_000_000
# A flush of tests.lakes writes snapshots of the first 4 seconds of its hour; with this lateness that closes the hour before.
QUICK = {"lateness_seconds": 4.0}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def hour(number: int) -> int:
    return HOUR_0 + number * HOUR_US


def test_an_empty_lake_has_no_line(store):
    found = watermark(store)
    assert found.lines == []
    assert found.closed_until_us("fobs", "main") is None


def test_a_line_is_closed_until_the_hour_of_its_newest_row(store):
    line = Line(store)
    line.flush((BTC, hour(0)))
    line.flush((BTC, hour(2)), (ETH, hour(1)))
    (mark,) = watermark(store, **QUICK).lines
    assert mark.line == LineKey("fobs", "main", 0)
    assert mark.newest_recv_ns == (hour(2) + 4 * SECOND_US) * 1000 + 7
    assert mark.closed_until_us == hour(2)
    assert mark.books == (BTC, ETH)
    assert not mark.unfinished


def test_rows_may_come_as_late_as_said(store):
    Line(store).flush((BTC, hour(2)))
    assert watermark(store).lines[0].closed_until_us == hour(1)
    assert watermark(store, lateness_seconds=4.0).lines[0].closed_until_us == hour(2)
    assert watermark(store, lateness_seconds=4.1).lines[0].closed_until_us == hour(1)


def test_a_claim_with_older_rows_does_not_turn_it_back(store):
    line = Line(store)
    line.flush((BTC, hour(3)))
    line.flush((BTC, hour(1)))
    line.flush()
    assert watermark(store, **QUICK).lines[0].closed_until_us == hour(3)


def test_an_unfinished_claim_does_not_count(store):
    line = Line(store)
    line.flush((BTC, hour(0)))
    line.flush((BTC, hour(5)), complete=False)
    (mark,) = watermark(store, **QUICK).lines
    assert mark.unfinished
    assert mark.closed_until_us == hour(0)


def test_a_claim_whose_loss_is_declared_counts(store):
    line = Line(store)
    line.flush((BTC, hour(0)))
    claim = line.flush((BTC, hour(5)), complete=False)
    store.create(layout.lost_path("fobs", "main", 0, claim.first), b"{}")
    (mark,) = watermark(store, **QUICK).lines
    assert not mark.unfinished
    assert mark.closed_until_us == hour(5)


def test_a_line_without_a_row_closes_nothing_and_holds_its_stream_back(store):
    Line(store).flush((BTC, hour(4)))
    Line(store, partition=1).flush()
    found = watermark(store, **QUICK)
    assert [mark.closed_until_us for mark in found.lines] == [hour(4), None]
    assert found.closed_until_us("fobs", "main") is None


def test_a_stream_is_as_far_as_its_slowest_line(store):
    Line(store).flush((BTC, hour(4)))
    Line(store, partition=1).flush((ETH, hour(2)))
    Line(store, stream="other").flush((CHINESE, hour(9)))
    found = watermark(store, **QUICK)
    assert found.streams() == [("fobs", "main"), ("fobs", "other")]
    assert found.closed_until_us("fobs", "main") == hour(2)
    assert found.closed_until_us("fobs", "other") == hour(9)
    assert found.as_dict()["streams"][1] == {
        "kind": "fobs",
        "stream": "other",
        "closed_until": layout.hour_text(hour(9)),
    }


def test_books_that_ended_more_than_a_day_ago_are_not_listed(store):
    line = Line(store)
    line.flush((ETH, hour(0)))
    line.flush((BTC, hour(23)))
    assert watermark(store).lines[0].books == (BTC, ETH)
    line.flush((BTC, hour(25)))
    assert watermark(store).lines[0].books == (BTC,)
