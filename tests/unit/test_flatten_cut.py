"""Cutting: ranges of raw offsets tile, only whole messages, never more rows or a longer wait than allowed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.flattener.cut import MOST_MESSAGES, Cutter
from services.flattener.message import UNKNOWN_BOOK, Message, Snapshot
from shared.kafka import Record
from shared.venues.levels import Side

MAX_ROWS, MAX_WAIT = 100, 0.2


def message(offset: int, rows: int = 1) -> Message:
    record = Record("raw", 0, offset, 0, b"", b"", ())
    return Message(record, UNKNOWN_BOOK, 0, None, Snapshot(1, None, None, None, Side(rows), Side(0)), rows)


def cutter(position: int = 0) -> Cutter:
    return Cutter(position, max_rows=MAX_ROWS, max_wait_seconds=MAX_WAIT)


def shape(cut):
    return None if cut is None else (cut.first, cut.last, [found.record.offset for found in cut.messages])


def test_a_cut_waits_to_be_filled_but_not_longer_than_allowed():
    cut = cutter()
    cut.add(message(0, 40), 10.0)
    cut.add(message(1, 40), 10.1)
    assert cut.take(10.1) is None
    assert abs(cut.due_in_seconds(10.1) - 0.1) < 1e-9
    assert shape(cut.take(10.2)) == (0, 1, [0, 1])
    assert cut.due_in_seconds(10.2) == float("inf")


def test_a_full_cut_leaves_what_would_exceed_it_to_the_next():
    cut = cutter()
    cut.add(message(0, 60), 0)
    cut.add(message(1, 60), 0)
    assert not cut.wants_more
    assert shape(cut.take(0)) == (0, 0, [0])
    assert cut.take(0) is None
    assert shape(cut.take(0, at_once=True)) == (1, 1, [1])


def test_a_message_larger_than_a_record_should_be_stands_alone():
    cut = cutter()
    cut.add(message(0, 5000), 0)
    assert shape(cut.take(0)) == (0, 0, [0])


def test_offsets_that_kafka_does_not_show_belong_to_the_next_message():
    cut = cutter(position=7)
    cut.add(message(10), 0)
    cut.add(message(20), 0)
    assert shape(cut.take(0, at_once=True)) == (7, 20, [10, 20])


def test_lost_offsets_are_a_cut_of_their_own_behind_what_was_there():
    cut = cutter()
    cut.add(message(3), 0)
    cut.lose(50)
    assert cut.due_in_seconds(0) == 0
    assert shape(cut.take(0)) == (0, 3, [3])
    lost = cut.take(0)
    assert shape(lost) == (4, 49, [])
    assert lost.lost
    cut.add(message(50), 0)
    assert shape(cut.take(0, at_once=True)) == (50, 50, [50])


def test_a_cut_never_has_more_books_than_its_dictionary_can_name():
    cut = Cutter(0, max_rows=10**9, max_wait_seconds=MAX_WAIT)
    offset = 0
    while cut.wants_more:
        cut.add(message(offset), 0)
        offset += 1
    assert len(cut.take(0).messages) == MOST_MESSAGES


@given(
    st.integers(0, 5),
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 30, 50, 99, 100, 101, 500]), st.floats(0, 0.3)), max_size=40
    ),
    st.sets(st.integers(0, 39)),
)
def test_cuts_tile_and_hold_every_message_once(position, steps, losses):
    cut, now, offset, cuts, added = cutter(position), 0.0, position - 1, [], []
    for index, (jump, rows, pause) in enumerate(steps):
        offset += jump
        if cut.wants_more:
            cut.add(message(offset, rows), now)
            added.append(offset)
            if index in losses and cut.wants_more:
                offset += 3
                cut.lose(offset + 1)
        now += pause
        while (found := cut.take(now)) is not None:
            cuts.append(found)
    while (found := cut.take(now, at_once=True)) is not None:
        cuts.append(found)
    assert [found.record.offset for cut in cuts for found in cut.messages] == added
    assert [cut.first for cut in cuts[:1]] in ([], [position])
    assert all(before.last + 1 == after.first for before, after in pairwise(cuts))
    for each in cuts:
        assert each.first <= each.last
        assert all(each.first <= found.record.offset <= each.last for found in each.messages)
        assert len(each.messages) <= 1 or sum(found.rows for found in each.messages) <= MAX_ROWS


def test_halves_tile_the_same_range():
    cut = cutter(position=2)
    for offset in (3, 5, 9):
        cut.add(message(offset), 0)
    whole = cut.take(0, at_once=True)
    assert [shape(half) for half in whole.halves()] == [(2, 3, [3]), (4, 9, [5, 9])]
