"""Flatten updates that are broken or odd: one row and a dead letter for what is impossible, a count for what is odd."""

from __future__ import annotations

import pytest

from services.flattener.message import read
from shared.errors import UnknownVersion
from shared.messages import Gap
from tests.unit.test_flatten import MALFORMED_HEADERS, body
from tests.unit.test_flatten_updates import ROW, flatten, frame, record

BROKEN = [
    ("empty", b"", "truncated_frame"),
    ("HTML", b"<html>busy</html>", "bad_json"),
    ("truncated", frame()[:-9], "truncated_frame"),
    ("truncated in a number", frame()[:60], "truncated_frame"),
    ("not UTF-8", b'{"e":"depthUpdate","s":"\xff"}', None),
    ("trailing bytes", frame() + b"x", None),
    ("an array", b"[]", "bad_frame"),
    ("nested without end", b'{"data":{"b":' + b"[" * 100_000, None),
    ("another event", frame(e="trade"), "not_an_update"),
    ("no event", frame(e=...), "not_an_update"),
    ("an acknowledgement", b'{"result":null,"id":1}', "not_an_update"),
    ("a snapshot", body(), "not_an_update"),
    ("a wrapper without data", b'{"stream":"btcusdt@depth"}', "not_an_update"),
    ("no symbol", frame(s=...), "no_symbol"),
    ("symbol empty", frame(s=""), "no_symbol"),
    ("symbol a number", frame(s=7), "bad_frame"),
    ("another symbol", frame(s="ETHUSDT"), "foreign_symbol"),
    ("symbol in lower case", frame(s="btcusdt"), "foreign_symbol"),
    ("a symbol no header can hold", frame().replace(b"BTCUSDT", b"\\ud800"), None),
    ("no first id", frame(U=...), "bad_ids"),
    ("no last id", frame(u=...), "bad_ids"),
    ("ids that fall", frame(U=106), "bad_ids"),
    ("an id a text", frame(u="105"), "bad_frame"),
    ("an id with a fraction", frame(u=105.5), "bad_frame"),
    ("an id beyond 63 bits", frame(u=2**63), "bad_frame"),
    ("an id beyond 64 bits", frame(u=2**70), "bad_frame"),
    ("a negative id", frame(U=-1), "bad_frame"),
    ("a negative previous id", frame(pu=-1), "bad_frame"),
    ("time beyond any calendar", frame(E=2**60), "bad_time"),
    ("transaction time beyond any calendar", frame(T=253_402_300_800_000), "bad_time"),
    ("negative time", frame(T=-1), "bad_frame"),
    ("time a text", frame(E="now"), "bad_frame"),
    ("no bids", frame(b=...), "not_an_update"),
    ("asks null", frame(a=None), "not_an_update"),
    ("asks an object", frame(a={}), "not_an_update"),
    ("bids a number", frame(b="63943.90"), "not_an_update"),
    ("levels of one", frame([["1"]]), "bad_level"),
    ("levels of three", frame(a=[["1", "2", "3"]]), "bad_level"),
    ("price a word", frame([["cheap", "2"]]), "not_a_number"),
    ("price empty", frame([["", "2"]]), "not_a_number"),
    ("price null", frame([[None, "2"]]), "not_a_number"),
    ("price NaN", frame([["NaN", "2"]]), "not_finite"),
    ("quantity infinite", frame(a=[["1", "Infinity"]]), "not_finite"),
    ("quantity beyond float64", frame(a=[["1", "1e999"]]), "not_finite"),
    ("quantity negative", frame([["1", "-2"]]), "negative_quantity"),
    ("quantity negative in the other side", frame(a=[["1", "0"], ["2", "-0.001"]]), "negative_quantity"),
    ("a comma in a price", frame([["1,2", "3"]]), "not_a_number"),
    ("two dots in a price", frame([["1.2.3", "3"]]), "not_a_number"),
]


@pytest.mark.parametrize(("value", "reason"), [pytest.param(v, r, id=name) for name, v, r in BROKEN])
def test_a_broken_update_is_a_malformed_row_and_a_dead_letter(value, reason):
    flattened = flatten(record(frame(), offset=1), record(value, offset=2), record(frame(), offset=3))
    found = flattened.batch.to_pylist()
    assert [row["raw_offset"] for row in found] == [1, 1, 2, 3, 3]
    assert found[2] == ROW | {"type": "gap", "gap_cause": "malformed", "raw_offset": 2}
    [(message, poison)] = flattened.poison
    assert message.record.value == value
    assert poison.reason == reason or (reason is None and poison.reason)
    assert str(poison).isprintable()


@pytest.mark.parametrize(("pairs", "reason"), [pytest.param(p, r, id=name) for name, p, r in MALFORMED_HEADERS])
def test_bad_headers_leave_the_book_of_the_key_and_the_time_of_kafka(pairs, reason):
    flattened = flatten(record(frame(), pairs=pairs, timestamp_ms=1_600_000_000_123))
    [row] = flattened.batch.to_pylist()
    assert (row["symbol"], row["type"], row["gap_cause"]) == ("BTCUSDT", "gap", "malformed")
    assert (row["recv_ns"], row["conn"]) == (1_600_000_000_123_000_000, None)
    assert [poison.reason for _, poison in flattened.poison] == [reason]


@pytest.mark.parametrize(
    ("value", "changes", "reason"),
    [
        pytest.param(frame(), {"exchange": "mtgox"}, "unknown_venue", id="a venue without adapter"),
        pytest.param(frame(), {"key": b"binance:future:ETHUSDT"}, "bad_key", id="a key of another book"),
        pytest.param(frame(), {"type": "gap"}, "bad_gap", id="an update that says it is a gap"),
        pytest.param(frame(), {"type": "snapshot"}, "not_a_book", id="an update that says it is an anchor"),
        pytest.param(body(), {"type": "snapshot", "limit": 2**31}, "bad_headers", id="a limit beyond 32 bits"),
        pytest.param(body(E=2**60), {"type": "snapshot"}, "bad_time", id="an anchor beyond any calendar"),
        pytest.param(body([["1", "-1"]]), {"type": "snapshot"}, "negative_quantity", id="an impossible anchor"),
        pytest.param(b'{"code":-1003,"msg":"x"}', {"type": "snapshot"}, "error_body", id="an error for an anchor"),
    ],
)
def test_what_does_not_fit_its_headers_is_poison(value, changes, reason):
    assert [poison.reason for _, poison in flatten(record(value, **changes)).poison] == [reason]


@pytest.mark.parametrize("name", ["last_id", "next_id", "since_ns"])
@pytest.mark.parametrize("number", ["-1", str(2**63), str(2**70), "1.5", '"7"'])
def test_a_gap_with_an_impossible_number_is_poison(name, number):
    value = f'{{"cause":"sequence","{name}":{number}}}'.encode()
    assert [poison.reason for _, poison in flatten(record(value, type="gap")).poison] == ["bad_gap"]


def test_a_record_of_an_unknown_version_is_not_poison():
    with pytest.raises(UnknownVersion, match="upgrade"):
        read("fobd", record(frame(), pairs=[("v", b"2")]))


def test_half_an_update_is_no_update():
    flattened = flatten(record(frame([["1", "1"]], [["x", "1"]])))
    [row] = flattened.batch.to_pylist()
    assert (row["type"], row["price"]) == ("gap", None)
    assert flattened.quality.levels == 0


ODD = [
    pytest.param([], [], {"empty": 1}, id="empty"),
    pytest.param([["2", "1"]], [], {"one_sided": 1}, id="no asks"),
    pytest.param([["4", "1"]], [["3", "1"]], {"crossed": 1}, id="crossed"),
    pytest.param([["1", "1"], ["2", "1"]], [["3", "1"]], {"unsorted": 1}, id="bids worst first"),
    pytest.param([["2", "1"], ["2", "3"]], [["3", "1"]], {"repeated": 1}, id="a price twice"),
    pytest.param([["2.0000000000000001", "1"]], [["3", "1"]], {"imprecise": 1}, id="17 digits"),
]


def counted(flattened) -> dict[str, int]:
    quality = flattened.quality
    return {name: getattr(quality, name) for name in quality.__slots__ if name != "levels" and getattr(quality, name)}


@pytest.mark.parametrize(("bids", "asks", "odd"), ODD)
def test_an_anchor_is_counted_as_a_book(bids, asks, odd):
    assert counted(flatten(record(body(bids, asks), type="snapshot"))) == odd


def test_gaps_and_broken_updates_are_not_counted_as_empty():
    assert counted(flatten(record(Gap(cause="stop").encode(), type="gap"), record(b"{"))) == {}


@pytest.mark.parametrize(("bids", "asks", "odd"), ODD)
def test_an_update_is_no_book_and_only_an_empty_one_is_odd(bids, asks, odd):
    flattened = flatten(record(frame(bids, asks)))
    assert counted(flattened) == {name: count for name, count in odd.items() if name in {"empty", "imprecise"}}
    assert flattened.quality.levels == len(bids) + len(asks)
