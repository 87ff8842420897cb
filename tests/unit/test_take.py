"""Which rows are taken from which norm record; the exhaustive model of it is dedup_model.py."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.s3writer.take import Taken, Taker, merged, rows_above
from shared.errors import FatalError
from shared.messages import SourceRange


def src(first, last):
    return SourceRange("raw-fobs", 0, first, last)


def take(taker, first, last, *, lost=False, newest=None, repeated=None):
    return taker.take(src(first, last), lost=lost, newest_recv_ns=newest, repeated_recv_ns=repeated)


def test_a_record_that_tiles_is_taken_whole():
    taker = Taker(done=9, newest_recv_ns=100)
    assert take(taker, 10, 19, newest=120) == Taken(9, False, None, 19, 120)


def test_of_an_overlapping_record_only_what_is_new_is_taken():
    assert take(Taker(done=14), 10, 19) == Taken(14, False, None, 19, None)


def test_a_repeated_record_is_dropped_and_changes_nothing():
    taker = Taker(done=19, newest_recv_ns=100)
    assert take(taker, 10, 19, newest=100) == Taken(19, True, None, 19, 100)


def test_a_range_that_no_record_covers_is_a_hole():
    assert take(Taker(done=9), 15, 19).hole == (10, 14)


def test_the_first_record_of_a_line_shows_what_came_before_it_as_a_hole():
    assert take(Taker(), 3, 5).hole == (0, 2)


def test_a_lost_record_is_a_hole_itself_together_with_what_it_leaves_out():
    assert take(Taker(done=9), 12, 19, lost=True) == Taken(9, False, (10, 19), 19, None)


def test_a_lost_record_of_what_is_stored_already_is_no_hole():
    assert take(Taker(done=19), 10, 19, lost=True).hole is None


def test_an_empty_range_moves_nothing():
    assert take(Taker(done=9), 10, 9) == Taken(9, True, None, 9, None)


def test_the_newest_receive_time_never_goes_back():
    assert take(Taker(done=9, newest_recv_ns=100), 10, 19, newest=90).newest_recv_ns == 100


@pytest.mark.parametrize("last", [9, 19, 29], ids=["all of it repeated", "to the end", "and beyond the end"])
def test_a_repetition_newer_than_all_that_is_stored_means_a_re_created_topic(last):
    with pytest.raises(FatalError, match="re-created: set a new stream"):
        take(Taker(done=19, newest_recv_ns=100), 0, last, newest=101 if last <= 19 else 110, repeated=101)


def test_what_is_new_in_an_overlapping_record_may_be_newer_than_what_is_stored():
    assert take(Taker(done=14, newest_recv_ns=100), 10, 19, newest=120, repeated=100).newest_recv_ns == 120


def test_a_repetition_where_nothing_is_stored_to_compare_with_is_dropped():
    assert take(Taker(done=19), 0, 9, newest=101).dropped


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=30))
def test_every_raw_offset_is_taken_once_or_stands_in_a_hole(ranges):
    taker, taken, holes = Taker(), [], []
    for first, length in ranges:
        each = take(taker, first, first + length)
        taken += range(max(first, each.above + 1), first + length + 1)
        if each.hole:
            holes.append(each.hole)
    missing = [raw for low, high in merged(holes) for raw in range(low, high + 1)]
    assert taken == sorted(set(taken))
    assert sorted(taken + missing) == list(range(taker.done + 1))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=30), st.data())
def test_taking_goes_on_from_a_claim_as_if_it_had_never_stopped(ranges, data):
    cut = data.draw(st.integers(0, len(ranges)))
    whole, before = Taker(), Taker()
    wanted = [take(whole, first, first + length) for first, length in ranges]
    got = [take(before, first, first + length) for first, length in ranges[:cut]]
    after = Taker(before.done, before.newest_recv_ns)
    assert got + [take(after, first, first + length) for first, length in ranges[cut:]] == wanted


@settings(deadline=None)
@given(st.lists(st.integers(0, 50)), st.integers(-1, 60))
def test_rows_above_cuts_between_messages(offsets, above):
    batch = pa.RecordBatch.from_arrays([pa.array(sorted(offsets), pa.int64())], names=["raw_offset"])
    assert rows_above(batch, above).column(0).to_pylist() == [raw for raw in sorted(offsets) if raw > above]


@pytest.mark.parametrize(
    ("holes", "one"),
    [([], ()), ([(1, 2), (3, 4)], ((1, 4),)), ([(1, 2), (4, 5)], ((1, 2), (4, 5)))],
    ids=["none", "adjacent", "apart"],
)
def test_adjacent_holes_are_one(holes, one):
    assert merged(holes) == one
