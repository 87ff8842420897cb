"""Flatten: every raw message is at least one row, its values exact, its own offset on each of them."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.flattener.flatten import encode, flatten_fobs
from services.flattener.message import read
from shared.errors import UnknownVersion
from shared.kafka import Record
from shared.lake.schema import NORM_SCHEMAS
from shared.messages import Book, Gap, RawHeaders
from shared.venues.levels import LevelParser
from tests.support import ROOT

PARSER = LevelParser()
RECV_NS = 1_700_000_000_123_456_789
BOOK = Book("binance", "future", "BTCUSDT")
DEEP = b'{"lastUpdateId":1,"bids":' + b"[" * 100_000 + b',"asks":[]}'


def headers(**changes):
    values = {
        "stream": "main",
        "exchange": BOOK.exchange,
        "market": BOOK.market,
        "symbol": BOOK.symbol,
        "type": "snapshot",
        "recv_ns": RECV_NS,
        "conn": "host:1:1",
        "seq": 1,
        "limit": 1000,
    }
    return RawHeaders(**(values | changes))


def record(value: bytes, *, offset=0, key=None, pairs=None, timestamp_ms=1_600_000_000_000, **changes) -> Record:
    own = headers(**changes)
    key = own.book.key if key is None else key
    return Record("raw-fobs", 3, offset, timestamp_ms, key, value, tuple(own.encode() if pairs is None else pairs))


def body(bids=(("2", "1"),), asks=(("3", "4"),), **changes) -> bytes:
    values = {"lastUpdateId": 77, "E": 1_700_000_000_001, "T": 1_700_000_000_000, "bids": bids, "asks": asks} | changes
    return json.dumps({k: v for k, v in values.items() if v is not ...}, separators=(",", ":")).encode()


def flatten(*records: Record):
    flattened = flatten_fobs([read("fobs", found) for found in records], PARSER)
    flattened.batch.validate(full=True)
    assert flattened.batch.schema.equals(NORM_SCHEMAS["fobs"])
    return flattened


def rows(*records: Record) -> list[dict]:
    return flatten(*records).batch.to_pylist()


def test_a_book_becomes_its_levels_bids_first():
    bids, asks = [["10.5", "1"], ["10.4", "2"]], [["10.6", "3"]]
    found = rows(record(body(bids, asks), offset=12))
    shared = {
        "exchange": "binance",
        "market": "future",
        "symbol": "BTCUSDT",
        "recv_ns": RECV_NS,
        "event_time": datetime(2023, 11, 14, 22, 13, 20, 1000, UTC),
        "transaction_time": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        "last_update_id": 77,
        "depth_limit": 1000,
        "gap_cause": None,
        "gap_since": None,
        "raw_partition": 3,
        "raw_offset": 12,
    }
    shared["timestamp"] = datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert found == [
        shared | {"side": "bid", "price": 10.5, "quantity": 1.0, "level": 1},
        shared | {"side": "bid", "price": 10.4, "quantity": 2.0, "level": 2},
        shared | {"side": "ask", "price": 10.6, "quantity": 3.0, "level": 1},
    ]


def test_spot_has_no_venue_times_and_an_absent_limit_is_null():
    [bid, _] = rows(record(body(E=..., T=...), market="spot", limit=None))
    assert (bid["event_time"], bid["transaction_time"], bid["depth_limit"]) == (None, None, None)


def test_an_empty_book_is_one_row_without_a_level():
    [row] = rows(record(body([], []), offset=5))
    assert (row["side"], row["price"], row["quantity"], row["level"]) == (None, None, None, None)
    assert (row["last_update_id"], row["raw_offset"], row["gap_cause"]) == (77, 5, None)


def test_a_gap_is_one_row_with_its_cause():
    [row] = rows(record(Gap(cause="ban", since_ns=RECV_NS - 5_000_000_000).encode(), type="gap", limit=None))
    assert (row["gap_cause"], row["gap_since"]) == ("ban", datetime(2023, 11, 14, 22, 13, 15, 123456, UTC))
    assert [name for name, value in row.items() if value is None] == [
        "event_time", "transaction_time", "last_update_id", "depth_limit", "side", "price", "quantity", "level",
    ]  # fmt: skip


def test_a_gap_may_know_no_time():
    [row] = rows(record(Gap(cause="start").encode(), type="gap"))
    assert (row["gap_cause"], row["gap_since"]) == ("start", None)


def test_a_symbol_that_is_not_ascii_stays_itself():
    [row, _] = rows(record(body(), symbol="币安人生USDT"))
    assert row["symbol"] == "币安人生USDT"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 4), st.integers(0, 4)),
            st.sampled_from(["gap", "bad json", "bad level"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_messages_of_every_kind_together_keep_order_and_rows(kinds):
    records, expected = [], []
    for offset, kind in enumerate(kinds):
        symbol = f"S{offset % 3}"
        if kind == "gap":
            records.append(record(Gap(cause="poll").encode(), offset=offset, type="gap", symbol=symbol))
        elif kind == "bad json":
            records.append(record(b"{", offset=offset, symbol=symbol))
        elif kind == "bad level":
            records.append(record(body([["1..", "2"]]), offset=offset, symbol=symbol))
        else:
            bids = [[f"{10 - i}.5", str(i)] for i in range(kind[0])]
            asks = [[f"{20 + i}.5", str(i)] for i in range(kind[1])]
            records.append(record(body(bids, asks), offset=offset, symbol=symbol))
            for side, levels in (("bid", bids), ("ask", asks)):
                for level, (price, quantity) in enumerate(levels, 1):
                    expected.append((offset, symbol, side, float(price), float(quantity), level, None))
            if bids or asks:
                continue
        cause = {"gap": "poll", "bad json": "malformed", "bad level": "malformed"}.get(kind)
        expected.append((offset, symbol, None, None, None, None, cause))
    names = ("raw_offset", "symbol", "side", "price", "quantity", "level", "gap_cause")
    flattened = flatten(*records)
    assert [tuple(row[name] for name in names) for row in flattened.batch.to_pylist()] == expected
    dead = [offset for offset, kind in enumerate(kinds) if kind in {"bad json", "bad level"}]
    assert [message.record.offset for message, _ in flattened.poison] == dead


def test_an_encoded_batch_is_one_ipc_stream_with_the_same_rows():
    batch = flatten(record(body()), record(b"", offset=1)).batch
    with pa.ipc.open_stream(encode(batch)) as reader:
        assert reader.read_all().to_batches() == [batch]


@pytest.mark.parametrize(
    "value", [pytest.param(b"{", id="found at reading"), pytest.param(body([["1..", "2"]]), id="found at flattening")]
)
def test_poison_goes_with_its_message_and_waits_for_no_garbage_collector(value):
    gc.disable()
    try:
        [(_, poison)] = flatten(record(value)).poison
        left = weakref.ref(poison)
        del poison, _
        assert left() is None
    finally:
        gc.enable()


def test_a_batch_of_no_messages_has_no_rows():
    assert rows() == []


BROKEN = [
    ("empty", b"", "empty_body"),
    ("spaces", b"  \n", "empty_body"),
    ("HTML", b"<html>busy</html>", "html_body"),
    ("error body", b'{"code":-1003,"msg":"Too many requests"}', "error_body"),
    ("truncated", body()[:-9], "truncated_body"),
    ("truncated in a number", body()[:20], "truncated_body"),
    ("not JSON", b"hello", "bad_json"),
    ("not UTF-8", b'{"lastUpdateId":"\xff"}', None),
    ("an array", b"[]", "not_a_book"),
    ("no id", body(lastUpdateId=...), "not_a_book"),
    ("id a text", body(lastUpdateId="77"), "not_a_book"),
    ("id beyond 64 bits", body(lastUpdateId=2**70), "not_a_book"),
    ("no bids", body(bids=...), "not_a_book"),
    ("asks null", body(asks=None), "not_a_book"),
    ("trailing bytes", body() + b"x", None),
    ("time beyond any calendar", body(E=2**60), "bad_time"),
    ("negative time", body(T=-1), "not_a_book"),
    ("nested without end", DEEP, None),
    ("levels of one", body([["1"]]), "bad_level"),
    ("levels of three", body(asks=[["1", "2", "3"]]), "bad_level"),
    ("price a word", body([["cheap", "2"]]), "not_a_number"),
    ("price empty", body([["", "2"]]), "not_a_number"),
    ("price null", body([[None, "2"]]), "not_a_number"),
    ("price NaN", body([["NaN", "2"]]), "not_finite"),
    ("quantity infinite", body(asks=[["1", "Infinity"]]), "not_finite"),
    ("quantity beyond float64", body(asks=[["1", "1e999"]]), "not_finite"),
    ("quantity negative", body([["1", "-2"]]), "negative_quantity"),
    ("a comma in a price", body([["1,2", "3"]]), "not_a_number"),
]


@pytest.mark.parametrize(("value", "reason"), [pytest.param(v, r, id=name) for name, v, r in BROKEN])
def test_a_broken_payload_is_a_malformed_row_and_a_dead_letter(value, reason):
    flattened = flatten(record(body(), offset=1), record(value, offset=2), record(body(), offset=3))
    found = flattened.batch.to_pylist()
    assert [row["raw_offset"] for row in found] == [1, 1, 2, 3, 3]
    assert (found[2]["gap_cause"], found[2]["symbol"], found[2]["recv_ns"]) == ("malformed", "BTCUSDT", RECV_NS)
    [(message, poison)] = flattened.poison
    assert message.record.value == value
    assert poison.reason == reason or (reason is None and poison.reason)


MALFORMED_HEADERS = [
    ("no headers", [], "bad_headers"),
    ("no version", [pair for pair in headers().encode() if pair[0] != "v"], "bad_headers"),
    ("no receive time", [pair for pair in headers().encode() if pair[0] != "recv_ns"], "bad_headers"),
    ("receive time a word", [*headers().encode(), ("recv_ns", b"now")], "bad_headers"),
    ("receive time beyond 64 bits", [*headers().encode(), ("recv_ns", b"9" * 20)], "bad_headers"),
    ("symbol not UTF-8", [*headers().encode(), ("symbol", b"\xff")], "bad_headers"),
    ("symbol empty", [*headers().encode(), ("symbol", b"")], "bad_headers"),
    ("an unknown type", [*headers().encode(), ("type", b"trade")], "bad_headers"),
    ("a version that is a word", [*headers().encode(), ("v", b"one")], "bad_headers"),
]


@pytest.mark.parametrize(("pairs", "reason"), [pytest.param(p, r, id=name) for name, p, r in MALFORMED_HEADERS])
def test_bad_headers_leave_the_book_of_the_key_and_the_time_of_kafka(pairs, reason):
    flattened = flatten(record(body(), pairs=pairs, timestamp_ms=1_600_000_000_123))
    [row] = flattened.batch.to_pylist()
    assert (row["exchange"], row["market"], row["symbol"]) == ("binance", "future", "BTCUSDT")
    assert (row["gap_cause"], row["recv_ns"]) == ("malformed", 1_600_000_000_123_000_000)
    assert [poison.reason for _, poison in flattened.poison] == [reason]


@pytest.mark.parametrize("key", [b"", b"nonsense", b"\xff:\xff:\xff", b"a::c", b"::"])
def test_without_headers_or_key_the_book_is_unknown(key):
    [row] = rows(record(body(), key=key, pairs=[]))
    assert (row["exchange"], row["market"], row["symbol"]) == ("unknown", "unknown", "unknown")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"exchange": "mtgox"}, "unknown_venue", id="a venue without adapter"),
        pytest.param({"type": "update"}, "bad_type", id="an update among snapshots"),
        pytest.param({"key": b"binance:future:ETHUSDT"}, "bad_key", id="a key of another book"),
        pytest.param({"type": "gap"}, "bad_gap", id="a book that says it is a gap"),
        pytest.param({"limit": 2**31}, "bad_headers", id="a limit beyond 32 bits"),
    ],
)
def test_headers_that_fit_nothing_are_poison(changes, reason):
    assert [poison.reason for _, poison in flatten(record(body(), **changes)).poison] == [reason]


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b'{"cause":"boredom"}', b'{"cause":"poll","since_ns":-1}', b'{"cause":"poll","since_ns":1e300}'],
)
def test_a_gap_that_cannot_be_read_is_poison(value):
    assert [poison.reason for _, poison in flatten(record(value, type="gap")).poison] == ["bad_gap"]


def test_a_record_of_an_unknown_version_is_not_poison():
    with pytest.raises(UnknownVersion, match="upgrade"):
        read("fobs", record(body(), pairs=[("v", b"2")]))


def test_half_a_book_is_no_book():
    flattened = flatten(record(body(bids=[["1", "1"]], asks=[["x", "1"]])))
    [row] = flattened.batch.to_pylist()
    assert row["price"] is None
    assert flattened.quality.levels == 0


@pytest.mark.parametrize(
    ("bids", "asks", "counted"),
    [
        pytest.param([["2", "1"], ["1", "1"]], [["3", "1"], ["4", "1"]], {}, id="as it should be"),
        pytest.param([], [], {"empty": 1}, id="empty"),
        pytest.param([["2", "1"]], [], {"one_sided": 1}, id="no asks"),
        pytest.param([], [["2", "1"]], {"one_sided": 1}, id="no bids"),
        pytest.param([["3", "1"]], [["3", "1"]], {"crossed": 1}, id="touching"),
        pytest.param([["1", "1"], ["4", "1"]], [["3", "1"]], {"crossed": 1, "unsorted": 1}, id="crossed further down"),
        pytest.param([["1", "1"], ["2", "1"]], [["3", "1"]], {"unsorted": 1}, id="bids worst first"),
        pytest.param([["2", "1"]], [["4", "1"], ["3", "1"]], {"unsorted": 1}, id="asks worst first"),
        pytest.param([["2", "1"], ["2", "3"]], [["3", "1"]], {"repeated": 1}, id="a price twice"),
        pytest.param([["2.0000000000000001", "1"]], [["3", "1"]], {"imprecise": 1}, id="17 digits"),
    ],
)
def test_what_is_odd_about_a_book_is_counted_and_kept(bids, asks, counted):
    flattened = flatten(record(body(bids, asks)))
    quality = flattened.quality
    found = {name: getattr(quality, name) for name in quality.__slots__ if name != "levels" and getattr(quality, name)}
    assert found == counted
    assert quality.levels == len(bids) + len(asks)
    assert flattened.poison == []
    prices = [row["price"] for row in flattened.batch.to_pylist() if row["price"] is not None]
    assert prices == [float(price) for price, _ in [*bids, *asks]]


def test_pandas_is_never_loaded():
    code = "import sys; from tests.unit.test_flatten import body, flatten, record; flatten(record(body())); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
