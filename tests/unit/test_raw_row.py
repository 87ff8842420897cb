"""A raw record as a row of the archive, and the same record again, whatever it is."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.kafka import Record
from shared.lake import layout
from shared.lake.raw_row import UNKNOWN_BOOK, record_of, row_of
from shared.messages import INT64_MAX, RECORD_TYPES, Book
from tests.norm_records import BTC, NOON_NS
from tests.raw_records import headers, record

NUMBERS = st.integers(0, INT64_MAX)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def readable(draw):
    """Headers as the reader writes them, of any book, in whatever order and with whatever else."""
    book = Book(draw(TEXT), draw(TEXT), draw(TEXT))
    limit, sent_ns = draw(st.none() | NUMBERS), draw(st.none() | NUMBERS)
    told = headers(
        book,
        type_=draw(st.sampled_from(RECORD_TYPES)),
        recv_ns=draw(NUMBERS),
        seq=draw(NUMBERS),
        stream=draw(st.sampled_from(["main", "other"])),
        limit=limit,
        sent_ns=sent_ns,
        ip=draw(st.none() | TEXT),
    )
    spoilt = draw(st.sampled_from(["no", "no", "order", "one more", "one less", "padded"]))
    if spoilt == "order":
        return tuple(draw(st.permutations(told)))
    if spoilt == "one more":
        return (*told, ("v", b"2"))
    if spoilt == "one less":
        return told[1:]
    if spoilt == "padded":
        return tuple((name, b"0" + value if name == "seq" else value) for name, value in told)
    return told


records = st.builds(
    Record,
    topic=st.just("raw-fobd"),
    partition=st.integers(0, 9),
    offset=NUMBERS,
    timestamp_ms=st.integers(-1, INT64_MAX),
    key=st.none() | st.binary(max_size=8) | st.just(BTC.key),
    value=st.binary(max_size=8),
    headers=readable() | st.lists(st.tuples(TEXT, st.binary(max_size=8)), max_size=4).map(tuple),
)


@given(records)
@example(record(0, limit=2**31))
@example(record(0, book=Book("a", "b", "x" * 300)))
def test_a_record_comes_back_equal_and_its_row_has_a_place_in_the_lake(one):
    row = row_of(one, "main")
    assert record_of(row, "raw-fobd", "main") == one
    book = Book(row.exchange, row.market, row.symbol)
    path = layout.data_path("raw-fobd", book, layout.hour_of(row.timestamp), "main", one.partition, 0, one.offset)
    assert layout.parse_data_path(path).book == book
    assert max(map(len, path.split("/"))) <= 255


@pytest.mark.parametrize("type_", RECORD_TYPES)
def test_what_the_reader_writes_needs_no_verbatim_headers(type_):
    row = row_of(record(7, type_=type_, limit=1000, sent_ns=5), "main")
    assert row.headers is None
    assert (row.type, row.seq, row.limit, row.sent_ns, row.ip) == (type_, 7, 1000, 5, "192.0.2.1")
    assert (row.recv_ns, row.timestamp) == (NOON_NS + 7_000_000_000, (NOON_NS + 7_000_000_000) // 1000)


@pytest.mark.parametrize(
    "odd",
    [
        headers(stream="other"),
        headers()[::-1],
        (*headers(), ("trace", b"1")),
        headers(limit=2**31),
    ],
    ids=["another stream", "another order", "one more", "a number beyond its column"],
)
def test_headers_that_the_columns_cannot_tell_stand_verbatim_beside_them(odd):
    one = Record("raw-fobd", 3, 9, 1_700_000_000_123, BTC.key, b"{}", odd)
    row = row_of(one, "main")
    assert (row.headers, row.type, row.symbol) == (odd, "update", "BTCUSDT")


@pytest.mark.parametrize(
    ("broken", "key", "book"),
    [
        ((), BTC.key, BTC),
        ((("v", b"2"), *headers()[1:]), BTC.key, BTC),
        (headers()[:3], None, UNKNOWN_BOOK),
        (headers(Book("binance", "future", "")), b"binance:future:", UNKNOWN_BOOK),
        ((), b"\xff:a:b", UNKNOWN_BOOK),
    ],
    ids=["no headers", "a version of tomorrow", "no key either", "no symbol", "a key that is no text"],
)
def test_a_record_that_cannot_be_read_lies_by_its_key_and_kafkas_time(broken, key, book):
    row = row_of(Record("raw-fobd", 3, 9, 1_700_000_000_123, key, b"{}", broken), "main")
    assert (Book(row.exchange, row.market, row.symbol), row.type) == (book, "unknown")
    assert (row.recv_ns, row.headers) == (1_700_000_000_123_000_000, broken)


@pytest.mark.parametrize(("timestamp_ms", "recv_ns"), [(-1, 0), (INT64_MAX, INT64_MAX)], ids=["none", "beyond ns"])
def test_a_time_that_is_none_is_bounded(timestamp_ms, recv_ns):
    row = row_of(Record("raw-fobd", 3, 9, timestamp_ms, None, b"", ()), "main")
    assert (row.recv_ns, row.kafka_timestamp_ms) == (recv_ns, timestamp_ms)
