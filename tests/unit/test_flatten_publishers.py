"""Duplicate publishers: restarts and hand-overs are none, two readers of one shard are, however the records are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.flattener.message import UNKNOWN_BOOK, Message, Snapshot
from services.flattener.publishers import MOST_PUBLISHERS, Publishers
from shared.kafka import Record
from shared.venues.levels import Side

SECOND = 1_000_000_000
CONTENT = Snapshot(1, None, None, None, Side(0), Side(0))
KEY = b"binance:future:BTCUSDT"


def message(seconds: float, conn: str | None, key: bytes | None = KEY) -> Message:
    record = Record("raw", 0, 0, 0, key, b"", ())
    return Message(record, UNKNOWN_BOOK, int(seconds * SECOND), conn, CONTENT)


def told(publishers: Publishers, records) -> list[tuple[bool, tuple[str, ...]]]:
    return [(change.began, change.publishers) for record in records for change in publishers.see([record])]


def alone(reader: str, begin: float, end: float, every: float = 1.0, key: bytes = KEY):
    """Records of one reader from `begin` up to and without `end`."""
    count = int((end - begin) / every)
    return [message(begin + number * every, f"{reader}:1", key) for number in range(count)]


def together(readers, begin: float, end: float, every: float = 1.0, key: bytes = KEY):
    """Records of several readers in turn, a little apart."""
    found = [
        (one.recv_ns + place, Message(one.record, one.book, one.recv_ns + place, one.conn, CONTENT))
        for place, reader in enumerate(readers)
        for one in alone(reader, begin, end, every, key)
    ]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


ORDINARY = {
    "one reader for a day": alone("a:1", 0, 86_400, 10),
    "one reader with another websocket and producer each second": [
        message(second, f"a:1:{second}") for second in range(600)
    ],
    "two connections of one reader that overlap for long": [
        message(second, f"a:1:{second % 2}") for second in range(600)
    ],
    "a restart": alone("a:1", 0, 500) + alone("a:2", 502, 1000),
    "a hand-over of 59 seconds": alone("a:1", 0, 100) + together(("a:1", "b:1"), 100, 160) + alone("b:1", 160, 1000),
    "a deployment every two minutes, each with a hand-over": [
        record
        for number in range(20)
        for record in (
            *together((f"a:{number}", f"a:{number + 1}"), 120 * number, 120 * number + 10),
            *alone(f"a:{number + 1}", 120 * number + 10, 120 * number + 120),
        )
    ],
    "a reader that stands in for a banned one, for five minutes": alone("a:1", 0, 300)
    + alone("b:1", 300, 600)
    + alone("a:1", 600, 1200),
    "a reader whose host came up with a clock of the day before": alone("a:1", 90_000, 90_300)
    + alone("b:1", 3600, 7200),
    "two readers of two shards": together(("a:1",), 0, 600) + together(("b:1",), 0, 600, key=b"binance:future:ETHUSDT"),
    "records that name no conn": [message(second, None) for second in range(600)],
    "records without a key": [message(second, f"{'ab'[second % 2]}:1:1", None) for second in range(600)],
}
DUPLICATES = {
    "two readers of one shard": together(("a:1", "b:1"), 0, 64),
    "two processes of one host": together(("a:1", "a:2"), 0, 64),
    "a second reader that starts on a third day": alone("a:1", 0, 200_000, 100)
    + together(("a:1", "b:1"), 200_000, 200_064),
    "a second reader whose clock is an hour slow": [
        message(second - 3600 * (second % 2), f"{'ab'[second % 2]}:1:1") for second in range(4000, 4065)
    ],
    "two readers that poll once an hour": together(("a:1", "b:1"), 0, 3 * 3600, 3600),
    "bursts of one reader, then of the other": [
        record
        for number in range(4)
        for reader in ("a:1", "b:1")
        for record in alone(reader, number * 40 + (20 if reader == "b:1" else 0), number * 40 + 20 + (20 if reader == "b:1" else 0))
    ],
    "a second reader that is restarted each half minute": [
        record for number in range(4) for record in together(("a:1", f"b:{number}"), 30 * number, 30 * number + 30)
    ],
    "more readers than are remembered": together([f"a:{number}" for number in range(3 * MOST_PUBLISHERS)], 0, 64),
}  # fmt: skip


@pytest.mark.parametrize("records", ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_is_no_duplicate(records):
    publishers = Publishers()
    assert told(publishers, records) == []
    assert publishers.duplicated == 0


@pytest.mark.parametrize("records", DUPLICATES.values(), ids=DUPLICATES)
def test_readers_that_go_on_taking_turns_are_duplicates_and_told_once(records):
    publishers = Publishers()
    assert [began for began, _ in told(publishers, records)] == [True]
    assert publishers.duplicated == 1


def test_they_are_named_without_those_that_are_gone():
    publishers = Publishers()
    told(publishers, alone("old:1", 0, 1000) + alone("a:1", 1000, 9000, 10))
    assert told(publishers, together(("a:1", "b:1"), 9000, 9100)) == [(True, ("b:1", "a:1"))]


def test_they_are_over_when_one_of_them_has_been_silent_for_five_minutes():
    publishers = Publishers()
    told(publishers, together(("a:1", "b:1"), 0, 100))
    assert told(publishers, alone("b:1", 100, 398)) == []
    assert publishers.duplicated == 1
    assert told(publishers, alone("b:1", 398, 402)) == [(False, ("b:1",))]
    assert publishers.duplicated == 0
    assert told(publishers, together(("a:1", "b:1"), 402, 450)) == []
    assert told(publishers, together(("a:1", "b:1"), 450, 480)) == [(True, ("b:1", "a:1"))]


def test_they_are_over_when_the_book_falls_silent_and_others_go_on():
    publishers = Publishers()
    told(publishers, together(("a:1", "b:1"), 0, 100))
    assert told(publishers, alone("a:1", 100, 500, key=b"another")) == [(False, ())]
    assert publishers.duplicated == 0


def test_rare_polls_do_not_end_them():
    publishers = Publishers()
    told(publishers, together(("a:1", "b:1"), 0, 20 * 3600, 3600))
    assert told(publishers, alone("other:1", 19 * 3600, 20 * 3600, key=b"another")) == []
    assert publishers.duplicated == 1
    assert [began for began, _ in told(publishers, alone("a:1", 20 * 3600, 24 * 3600, 3600))] == [False]


def test_books_are_counted_one_by_one():
    publishers = Publishers()
    for place in range(3):
        publishers.see(together(("a:1", "b:1"), 100 * place, 100 * place + 100, key=b"book %d" % place))
        assert publishers.duplicated == place + 1


def test_what_it_remembers_of_a_book_is_bounded():
    publishers = Publishers()
    for number in range(100):
        publishers.see(alone(f"a:{number}", 1000 * number, 1000 * number + 500))
    (book,) = publishers._books.values()
    assert len(book.publishers) == MOST_PUBLISHERS
    assert list(book.publishers)[-1] == "a:99"


STEPS = st.tuples(st.sampled_from([0, 1, 20, 70, 400]), st.sampled_from("abc"), st.sampled_from("12"), st.booleans())


@given(st.lists(STEPS, max_size=60), st.lists(st.integers(1, 7), min_size=1))
def test_portions_make_no_difference(steps, sizes):
    now, records = 0, []
    for seconds, reader, link, other in steps:
        now += seconds
        records.append(message(now, f"{reader}:1:{link}", b"other" if other else KEY))
    one_by_one, in_portions = Publishers(), Publishers()
    expected = [change.key for record in records for change in one_by_one.see([record]) if change.began]
    found, rest = [], records
    while rest:
        size = sizes[len(rest) % len(sizes)]
        found += [change.key for change in in_portions.see(rest[:size]) if change.began]
        rest = rest[size:]
    assert found == expected
    assert in_portions.duplicated == one_by_one.duplicated


@given(st.lists(st.integers(0, 2000), max_size=60), st.data())
def test_readers_that_follow_each_other_are_never_duplicates(pauses, data):
    publishers, now, reader = Publishers(), 0, 0
    for pause in pauses:
        now += pause
        reader += data.draw(st.booleans())
        assert publishers.see([message(now, f"host:{reader}:1")]) == []
