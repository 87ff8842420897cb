from __future__ import annotations

import json

import pytest

from cryptoflow import lake
from shared.errors import FatalError
from shared.lake import claims, layout
from shared.lake.store_local import LocalStore
from tests.lakes import BTC, CHINESE, ETH, HOUR_0, FobdRows, Line, fobd_line, gap_row

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
T0 = HOUR_0 * 1000
BOOK = {"bids": [(1.0, 1.0)], "asks": [(2.0, 1.0)]}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "lake")


def told(store, **options):
    return [(gap.kind, gap.cause, gap.book and gap.book.symbol) for gap in lake.gaps(store.url, **options)]


def fobd(store, *, gaps: dict[str, int], book=BTC, **fields) -> Line:
    """A line whose book has one message a second for five seconds, then gaps of these causes at these times (s)."""
    line, rows = fobd_line(store, **fields), FobdRows(partition=fields.get("partition", 0))
    rows.anchor(10, **BOOK)
    for number in range(4):
        rows.update(11 + number, 11 + number, 10 + number)
    line.write((book, rows.take()))
    for cause, second in gaps.items():
        rows.gap(cause, last=14, following=20, since=T0 + 5 * SECOND, at=T0 + second * SECOND)
        line.write((book, rows.take()))
    return line


def test_a_lake_without_gaps_has_none(store):
    fobd(store, gaps={})
    Line(store).flush((BTC, HOUR_0))
    assert lake.gaps(store.url) == []


def test_what_is_no_lake_is_not_a_lake_without_gaps(store):
    with pytest.raises(FatalError, match="is it a lake"):
        lake.gaps(store.url)


def test_a_gap_row_is_told_with_everything_it_knows(store):
    fobd(store, gaps={"disconnect": 9})
    (gap,) = lake.gaps(store.url)
    assert gap == lake.Gap(
        kind="fobd",
        stream="main",
        raw_partition=0,
        cause="disconnect",
        told_ns=T0 + 9 * SECOND,
        since_ns=T0 + 5 * SECOND,
        until_ns=T0 + 9 * SECOND,
        book=BTC,
        last_id=14,
        next_id=20,
        raw_offset=5,
    )
    assert gap.as_dict()["since"] == "2026-09-21T14:00:05Z"
    assert str(gap).startswith("disconnect: fobd of binance:future:BTCUSDT, since 2026-09-21T14:00:05Z until ")
    json.dumps(gap.as_dict())


def test_gaps_of_both_kinds_and_all_books_are_sorted_by_time(store):
    fobd(store, gaps={"disconnect": 9, "stop": 20})
    fobd(store, gaps={"overflow": 8}, book=CHINESE, stream="second", partition=3)
    Line(store, topic="norm-fobs").write((ETH, gap_row(cause="poll")))
    assert told(store) == [
        ("fobs", "poll", "ETHUSDT"),
        ("fobd", "overflow", "币安人生USDT"),
        ("fobd", "disconnect", "BTCUSDT"),
        ("fobd", "stop", "BTCUSDT"),
    ]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"kind": "fobs"}, 1),
        ({"kind": "fobd"}, 3),
        ({"symbol": "BTCUSDT"}, 2),
        ({"symbol": "BTCUSDT", "kind": "fobs"}, 0),
        ({"stream": "second"}, 1),
        ({"market": "spot"}, 0),
        ({"exchange": "binance"}, 4),
    ],
    ids=str,
)
def test_gaps_are_filtered(store, options, count):
    fobd(store, gaps={"disconnect": 9, "stop": 20})
    fobd(store, gaps={"overflow": 8}, book=CHINESE, stream="second", partition=3)
    Line(store).write((ETH, gap_row()))
    assert len(told(store, **options)) == count


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (0, 5, False),
        (0, 6, True),
        (6, 8, True),
        (9, 99, True),
        (10, 99, False),
        (None, 5, False),
        (None, 6, True),
        (9, None, True),
        (10, None, False),
    ],
)
def test_a_hole_is_in_every_span_that_it_touches(store, start, end, found):
    fobd(store, gaps={"disconnect": 9})
    span = {"start": None if start is None else T0 + start * SECOND, "end": None if end is None else T0 + end * SECOND}
    assert bool(lake.gaps(store.url, **span)) == found


def test_what_a_stop_opens_lasts_and_begins_with_it(store):
    fobd(store, gaps={"stop": 9})
    (gap,) = lake.gaps(store.url, start=T0 + 20 * HOUR, end=T0 + 21 * HOUR)
    assert (gap.since_ns, gap.until_ns) == (T0 + 9 * SECOND, None)
    assert lake.gaps(store.url, end=T0 + 9 * SECOND) == []


def test_a_silence_of_hours_is_told_to_a_span_in_it(store):
    line = fobd(store, gaps={})
    rows = FobdRows(raw_offset=line.done + 1)
    rows.gap("start", at=T0 + 20 * HOUR)
    rows.anchor(90, **BOOK)
    line.write((BTC, rows.take()))
    rows.update(91, 92, 90, at=T0 + 60 * HOUR)
    line.write((BTC, rows.take()))
    assert told(store, start=T0 + 9 * HOUR, end=T0 + 10 * HOUR) == [("fobd", "start", "BTCUSDT")]
    assert told(store, start=T0 + 21 * HOUR, end=T0 + 22 * HOUR) == []


def test_only_claims_of_the_span_and_files_with_gaps_are_read(store, monkeypatch):
    line, rows = fobd_line(store), FobdRows()
    for number in range(200):
        rows.recv_ns = T0 + number * HOUR
        rows.anchor(number, **BOOK)
        if number in (50, 100):
            rows.gap("overflow", since=rows.recv_ns)
        line.write((BTC, rows.take()))
    read, tails = [], []
    get, tail = LocalStore.get, LocalStore.tail
    monkeypatch.setattr(LocalStore, "get", lambda self, path: read.append(path) or get(self, path))
    monkeypatch.setattr(LocalStore, "tail", lambda self, path, size: tails.append(path) or tail(self, path, size))
    assert len(lake.gaps(store.url, start=T0 + 98 * HOUR, end=T0 + 102 * HOUR)) == 1
    assert [path for path in read if path.endswith(".parquet")] == [line.claims[100].files[0].path]
    assert len(tails) <= 8
    assert len(read) <= 20


def test_holes_of_claims_concern_every_symbol_of_their_partition(store):
    line = fobd(store, gaps={})
    done = line.done
    line.done += 5
    rows = FobdRows(raw_offset=line.done + 1, recv_ns=T0 + 60 * SECOND)
    rows.anchor(90, **BOOK)
    claim = line.write((BTC, rows.take()), done_before=done, holes=((done + 1, done + 5),))
    (gap,) = lake.gaps(store.url)
    assert (gap.cause, gap.book, gap.raw_offset, gap.raw_last) == ("source-hole", None, done + 1, done + 5)
    assert (gap.since_ns, gap.until_ns) == (T0 + 5 * SECOND, claim.last_timestamp_ms * 1_000_000)
    assert gap.path == layout.claim_path("fobd", "main", 0, claim.first)
    assert told(store, start=T0 + 30 * SECOND, end=T0 + 40 * SECOND) == [("fobd", "source-hole", None)]
    assert told(store, start=T0, end=T0 + 5 * SECOND) == []


def test_a_hole_before_the_first_row_reaches_back_to_the_begin(store):
    line, rows = fobd_line(store), FobdRows(raw_offset=7)
    rows.anchor(90, **BOOK)
    line.done = 6
    line.write((BTC, rows.take()), done_before=-1, holes=((0, 6),))
    (gap,) = lake.gaps(store.url)
    assert (gap.since_ns, gap.raw_offset, gap.raw_last) == (None, 0, 6)


def lose(store, line: Line, claim: claims.Claim) -> None:
    lost = claims.LostClaim(
        kind=claim.kind,
        stream=claim.stream,
        partition=claim.partition,
        first=claim.first,
        last=claim.last,
        promised=claim.files,
        missing=tuple(entry.path for entry in claim.files),
        kafka_first=claim.last + 1,
        writer="w",
    )
    store.create(layout.lost_path(line.kind, line.stream, line.partition, claim.first), claims.encode(lost))


def test_lost_claims_are_told(store):
    line = fobd(store, gaps={})
    rows = FobdRows(raw_offset=line.done + 1, recv_ns=T0 + 60 * SECOND)
    rows.anchor(90, **BOOK)
    claim = line.write((BTC, rows.take()), complete=False)
    lose(store, line, claim)
    (gap,) = lake.gaps(store.url)
    assert (gap.cause, gap.book, gap.raw_offset, gap.raw_last) == ("lost-claim", None, 5, 5)
    assert (gap.since_ns, gap.until_ns) == (T0 + 61 * SECOND, T0 + 61 * SECOND)
    assert gap.path == layout.lost_path("fobd", "main", 0, claim.first)
    assert gap.place == "main/0/5-5"


def test_losses_of_partitions_that_a_symbol_does_not_lie_in_are_none_of_its(store):
    fobd(store, gaps={})
    other = fobd(store, gaps={}, book=ETH, partition=1)
    done = other.done
    other.done += 5
    other.write(done_before=done, done_after=done + 5, holes=((done + 1, done + 5),))
    assert len(lake.gaps(store.url, symbol="ETHUSDT")) == 1
    assert lake.gaps(store.url, symbol="BTCUSDT") == []
    assert len(lake.gaps(store.url, symbol="XRPUSDT")) == 1  # it may have been lost wholly


def test_a_file_that_is_to_come_is_no_error(store):
    line = fobd(store, gaps={})
    rows = FobdRows(raw_offset=line.done + 1, recv_ns=T0 + 60 * SECOND)
    rows.gap("stop")
    line.write((BTC, rows.take()), complete=False)
    assert lake.gaps(store.url) == []


def test_a_footer_longer_than_the_tail_is_read_whole(store, monkeypatch):
    fobd(store, gaps={"overflow": 9})
    monkeypatch.setattr("shared.lake.parquet.TAIL_BYTES", 100)
    assert told(store) == [("fobd", "overflow", "BTCUSDT")]
