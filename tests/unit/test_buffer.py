"""When a buffer is flushed: windows on the wall clock, rows, the global budget, a change of schema."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.s3writer.buffer import (
    HOUR_SECONDS,
    RECORD_OVERHEAD_BYTES,
    Budget,
    Buffer,
    Limits,
    NormRecord,
    window_end,
)
from services.s3writer.take import Taken
from shared.messages import SourceRange


def record(offset, *, value=b"", rows=10, dropped=False, version=1, hole=None, dead=0):
    return NormRecord(
        offset=offset,
        timestamp_ms=0,
        value=value,
        src=SourceRange("raw-fobs", 0, offset, offset),
        dead=dead,
        version=version,
        rows=rows,
        newest_recv_ns=0,
        taken=Taken(offset - 1, dropped, hole, offset, 0),
    )


def filled(*records, at=0.0, first=0):
    buffer = Buffer(first=first)
    for each in records:
        buffer.add(each, at)
    return buffer


@pytest.mark.parametrize(
    ("at", "interval", "end"),
    [
        (0, 300, 300),
        (299.9, 300, 300),
        (300, 300, 600),
        (7200 + 3599, 300, 10_800),
        (3599, 7 * 60, 3600),
        (3 * 3600 + 1, 7200, 4 * 3600),
        (10.5, 0.25, 10.75),
    ],
    ids=["start", "inside", "next", "last of the hour", "a shorter last one", "longer than an hour", "under a second"],
)
def test_windows_are_aligned_to_the_wall_clock_and_end_with_the_hour(at, interval, end):
    assert window_end(at, interval) == end


@settings(deadline=None)
@given(st.floats(0, 4e9), st.floats(0.1, 100_000))
def test_no_window_crosses_the_hour(at, interval):
    end = window_end(at, interval)
    assert at <= end <= (at // HOUR_SECONDS + 1) * HOUR_SECONDS


def test_an_idle_partition_is_flushed_when_its_window_ends():
    limits, buffer = Limits(300, 1000), filled(record(0), at=450)
    assert [limits.due(buffer, now) for now in (450, 599.9, 600, 3000)] == [None, None, "interval", "interval"]


def test_the_window_is_that_of_the_first_record():
    buffer = filled(record(0), at=590)
    buffer.add(record(1), 601)
    assert Limits(300, 1000).due(buffer, 601) == "interval"


def test_an_empty_buffer_is_never_due():
    assert Limits(300, 1).due(Buffer(first=0), 1e9) is None


def test_a_clock_that_was_set_back_flushes_instead_of_waiting_for_its_return():
    assert Limits(300, 1000).due(filled(record(0), at=10_000), 5_000) == "interval"


def test_rows_make_a_buffer_due():
    assert Limits(300, 20).due(filled(record(0), record(1)), 0) == "rows"


def test_rows_of_dropped_records_do_not_count():
    assert Limits(300, 20).due(filled(record(0), record(1, dropped=True)), 0) is None


def test_a_record_of_another_version_does_not_fit():
    buffer = filled(record(0))
    assert (buffer.fits(1), buffer.fits(2), Buffer(first=0).fits(2)) == (True, False, True)


def test_bytes_are_those_of_the_values_as_received():
    assert filled(record(0, value=b"x" * 500)).size_bytes == 500 + RECORD_OVERHEAD_BYTES


def test_near_the_budget_the_largest_buffer_is_flushed_first():
    small, large = filled(record(0, value=b"x" * 100)), filled(record(0, value=b"x" * 9000))
    held = small.size_bytes + large.size_bytes
    assert Budget(held * 4 // 3).largest([small, large]) is large
    assert Budget(held * 2).largest([small, large]) is None


def test_a_small_buffer_is_not_flushed_because_a_large_one_is_being_flushed():
    small, large = filled(record(0, value=b"x" * 100)), filled(record(0, value=b"x" * 9000))
    budget = Budget(large.size_bytes + small.size_bytes)
    assert budget.largest([small, large]) is large
    assert budget.largest([small, Buffer(first=1)]) is None  # the large one is taken: its partition has a new buffer


def test_fetching_stops_at_the_whole_budget():
    assert [Budget(100).full(held) for held in (99, 100, 101)] == [False, True, True]


def test_what_a_claim_says_of_a_buffer():
    buffer = filled(
        record(7, hole=(3, 4), dead=1), record(8, hole=(5, 5), dead=2), record(9, dropped=True, dead=4), first=5
    )
    assert (buffer.first, buffer.last, buffer.holes, buffer.dead) == (5, 9, ((3, 5),), 3)
